/**
 * The bar, announcements and ends in the page of a display, which is no page of JupyterLab; its server loads this.
 */

import { AnnouncementBox } from './announcement';
import {
  ANNOUNCEMENT,
  type Announcement,
  Api,
  type Condition,
  END,
  type End,
  OUT_OF_MEMORY,
  type OutOfMemory,
  type Send,
  USAGE,
  type Usage
} from './api';
import { UsageBar } from './bar';
import { EndBox } from './end';
import { Format } from './format';
import { advice, headline } from './kill';
import { LostServer } from './lost';
import { ProgramsBody } from './programs';
import { stack } from './stack';
import { ownTranslations } from './translation';

/** Milliseconds until a connection that was lost is tried again. */
const RETRY = 2_000;

type Emission = { schema_id: string } & Record<string, unknown>;

/** The server's address; this file is at api/session/static below it. */
const base = new URL('../../../', import.meta.url);
const trans = ownTranslations(navigator.language);
const format = new Format(trans, navigator.language);
const lost = new LostServer(condition => showLost(condition));
const request = lost.watched((url: URL, init) => fetch(url, init));
const api = new Api(sender());
let showLost: (condition: Condition | null) => void = () => undefined;

/** With the login of the page: cookies, and the token against forged requests. */
function sender(): Send {
  return async (method, address, body) => {
    const token = /(?:^|; )_xsrf=([^;]*)/.exec(document.cookie)?.[1] ?? '';
    const headers = { 'X-XSRFToken': token };
    const response = await request(new URL(address, base), { method, body, headers });
    if (!response.ok) {
      const answer = (await response.json().catch(() => ({}))) as { message?: string };
      throw new Error(answer.message ?? response.statusText);
    }
    return response;
  };
}

function showPrograms(parent: HTMLElement): void {
  const dialog = document.createElement('dialog');
  dialog.className = 'jp-Display-dialog';
  const title = document.createElement('h2');
  title.textContent = trans.__('What you run');
  const close = document.createElement('button');
  close.type = 'button';
  close.textContent = trans.__('Close');
  close.addEventListener('click', () => dialog.close());
  const footer = document.createElement('footer');
  footer.append(close);
  dialog.append(title, new ProgramsBody(api, trans, format).node, footer);
  dialog.addEventListener('close', () => dialog.remove());
  // Keys belong to the dialog and not to the display around it.
  dialog.addEventListener('keydown', event => event.stopPropagation());
  parent.append(dialog);
  dialog.showModal();
}

/** A program that was killed, until its user has read it. */
function showKill(parent: HTMLElement, event: OutOfMemory): void {
  const node = document.createElement('div');
  node.className = 'campushub-End campushub-Kill';
  node.setAttribute('role', 'alert');
  const text = document.createElement('p');
  text.textContent = [headline(trans, event), ...advice(trans, format, event)].join(' ');
  const close = document.createElement('button');
  close.type = 'button';
  close.textContent = trans.__('Close');
  close.addEventListener('click', () => node.remove());
  node.append(text, close);
  parent.querySelector('.campushub-Kill')?.remove();
  stack(parent).append(node);
}

/** Everything is shown inside the display, for only that is there when it fills the screen. */
function activate(display: HTMLElement): void {
  const bar = new UsageBar(trans, format, () => showPrograms(display));
  display.querySelector('.jp-Display-title')!.after(bar.node);
  const announcements = new AnnouncementBox(trans, navigator.language, display);
  const end = new EndBox(api, trans, format, null, display);
  showLost = condition => end.showLost(condition);
  lost.learn(api).catch(() => console.warn('This server does not say where its hub is.'));
  const refresh = (): void => {
    Promise.all([api.usage(), api.announcement(), api.end()])
      .then(([usage, announcement, state]) => {
        bar.showUsage(usage);
        announcements.show(announcement);
        end.show(state, false);
      })
      .catch((error: unknown) => {
        console.warn('Limits and announcements are not known.', error);
      });
  };
  const receive = (emission: Emission): void => {
    if (emission.schema_id === USAGE) {
      bar.showUsage(emission as unknown as Usage);
    } else if (emission.schema_id === OUT_OF_MEMORY) {
      showKill(display, emission as unknown as OutOfMemory);
    } else if (emission.schema_id === ANNOUNCEMENT) {
      announcements.show(emission as unknown as Announcement);
    } else if (emission.schema_id === END) {
      end.show(emission as unknown as End);
    }
  };
  const listen = (): void => {
    const socket = new WebSocket(new URL('api/events/subscribe', base).href.replace(/^http/, 'ws'));
    // What happened while nobody listened.
    socket.addEventListener('open', refresh);
    socket.addEventListener('message', ({ data }) => receive(JSON.parse(data as string) as Emission));
    socket.addEventListener('close', () => {
      lost.ask();
      setTimeout(listen, RETRY);
    });
  };
  listen();
}

function addStyle(): void {
  const link = document.createElement('link');
  link.rel = 'stylesheet';
  link.href = new URL('display.css', import.meta.url).href;
  document.head.append(link);
}

const display = document.querySelector<HTMLElement>('.jp-Display');
if (display) {
  addStyle();
  activate(display);
}
