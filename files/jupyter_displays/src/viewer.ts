/**
 * A display on the page: its screen, a toolbar and what there is to say about the connection.
 */

import { type Api, ApiError, type Display, type DisplayEndpoint } from './api';
import { Channel } from './client/channel';
import { PROTOCOLS } from './client/registry';
import type { ClipboardContent, DisplayClient } from './client/types';
import { confirmShutDown, showClipboard, showFiles, showKeys, showShares } from './dialogs';
import { element, icon, toolButton } from './dom';
import { Keyboard } from './keyboard';
import { Sound } from './sound';
import type { Translations } from './translation';

export interface ViewerOptions {
  trans: Translations;
  /** Who looks: the owner, or somebody with a link. */
  mode: 'owner' | 'control' | 'view';
  /** For the owner: files, links, size and end of the display. */
  api?: Api;
  /** The hub's page, where nothing else leads there. */
  home?: string;
  /** For the owner: start it again after it has ended. */
  restart?: () => Promise<void>;
}

export interface Size {
  width: number;
  height: number;
}

/** The stream says that it is over, and not only interrupted. */
const OVER: Record<number, (trans: Translations) => string> = {
  4403: trans => trans.__('The link no longer works.'),
  4404: trans => trans.__('There is no such display.'),
  4410: trans => trans.__('The display has ended.')
};
const LONGEST_WAIT = 5_000;
const NOTICE_MS = 10_000;
const COPY_DELAY = 50;
const WINDOW_POLL_MS = 250;
/** What both engines carry. */
const LONGEST_COPY_MB = 8;
const RESIZE_DELAY = 150;

export class Viewer {
  readonly node: HTMLElement;
  private readonly stage: HTMLElement;
  private readonly area: HTMLTextAreaElement;
  private readonly overlay: HTMLElement;
  private readonly status: HTMLElement;
  private readonly title: HTMLElement;
  private readonly notice: HTMLElement;
  private readonly keyboard: Keyboard;
  private readonly sound: Sound;
  private readonly listeners = new AbortController();
  private readonly observer: ResizeObserver;
  private display: Display | null = null;
  private endpoint: DisplayEndpoint | null = null;
  private client: DisplayClient | null = null;
  /** Counts connections, so that a late one is known as such. */
  private attempts = 0;
  private failures = 0;
  /** A timer while the screen is empty. */
  private waiting = 0;
  private retry = 0;
  private resizing = 0;
  private noticed = 0;
  private copying = 0;
  private asked: Size = { width: 0, height: 0 };
  private copied = '';
  private offered = '';
  private disposed = false;

  constructor(private options: ViewerOptions) {
    const { trans } = options;
    this.title = element('span', { className: 'jp-Display-title' });
    this.notice = element('span', { className: 'jp-Display-notice', role: 'status' });
    this.sound = new Sound(trans, text => (this.notice.textContent = text));
    this.status = element('div', { className: 'jp-Display-status', role: 'status' });
    this.overlay = element('div', { className: 'jp-Display-overlay' }, this.status);
    this.area = element('textarea', {
      className: 'jp-Display-input',
      'aria-label': trans.__('Keyboard input of the display'),
      autocapitalize: 'off',
      autocomplete: 'off',
      spellcheck: false
    });
    this.stage = element('div', {
      className: 'jp-Display-stage',
      role: 'img',
      'aria-label': trans.__('Screen of the display')
    });
    this.node = element(
      'div',
      { className: 'jp-Display', role: 'application' },
      this.toolbar(),
      element('div', { className: 'jp-Display-body' }, this.stage, this.area, this.overlay)
    );
    this.keyboard = new Keyboard({
      key: stroke => this.client?.key(stroke),
      flush: () => this.client?.flush() ?? Promise.resolve(),
      type: text => this.endpoint?.type(text) ?? Promise.resolve(),
      paste: data => this.paste(data)
    });
    const { signal } = this.listeners;
    if (options.mode !== 'view') {
      this.keyboard.attach(this.area, signal);
      // The screen itself takes no focus: the hidden field has it, which input methods need.
      this.stage.addEventListener('pointerdown', () => this.focus(), { signal });
      this.area.addEventListener('focus', () => void this.readClipboard(), { signal });
    }
    if (options.mode === 'owner') {
      this.acceptDrops(signal);
    }
    window.addEventListener('online', () => this.reconnectNow(), { signal });
    document.addEventListener('visibilitychange', () => document.hidden || this.reconnectNow(), { signal });
    window.addEventListener(
      'focus',
      () => this.area === document.activeElement && void this.readClipboard(),
      { signal }
    );
    this.observer = new ResizeObserver(() => this.onResize());
    this.observer.observe(this.stage);
    this.showStatus(trans.__('Connecting…'));
  }

  /** The size of the place for the screen, in the monitor's own pixels. */
  get size(): Size {
    const ratio = window.devicePixelRatio || 1;
    return {
      width: Math.max(1, Math.floor(this.stage.clientWidth * ratio)),
      height: Math.max(1, Math.floor(this.stage.clientHeight * ratio))
    };
  }

  /** Show a display. The channel may be open already. */
  start(display: Display, endpoint: DisplayEndpoint, channel = new Channel(endpoint.stream)): void {
    this.endpoint = endpoint;
    this.asked = { width: display.width, height: display.height };
    this.update(display);
    if (this.options.mode !== 'view') {
      void endpoint
        .keymap()
        .catch(() => ({}))
        .then(keymap => this.keyboard.setKeymap(keymap));
    }
    if (display.state !== 'ended' && display.state !== 'failed') {
      void this.connect(channel);
      this.onResize();
    } else {
      channel.close();
    }
  }

  /** The server has told something about the display. */
  update(display: Display): void {
    this.display = display;
    this.title.textContent = display.title;
    this.sound.update(display, this.endpoint!.sound);
    if (display.state === 'ended' || display.state === 'failed') {
      this.end(display.reason);
    } else if (this.waiting) {
      this.awaitWindow();
    }
  }

  focus(): void {
    this.area.focus({ preventScroll: true });
  }

  /** Show a message over the screen; an action gets a button. */
  showStatus(text: string, actions: [string, () => void][] = []): void {
    this.overlay.hidden = !text;
    this.status.replaceChildren(
      element('p', { textContent: text }),
      ...actions.map(([label, onclick]) => element('button', { type: 'button', textContent: label, onclick }))
    );
  }

  /** Show why there is nothing to see, and offer to start again. */
  end(reason: string): void {
    const { trans, restart } = this.options;
    clearTimeout(this.retry);
    this.retry = 0;
    this.client?.disconnect();
    this.client = null;
    clearTimeout(this.waiting);
    this.waiting = 0;
    this.sound.stop();
    this.attempts++;
    this.showStatus(
      reason || trans.__('The display has ended.'),
      restart ? [[trans.__('Restart'), () => void this.restart(restart)]] : []
    );
  }

  dispose(): void {
    this.disposed = true;
    this.keyboard.release();
    this.listeners.abort();
    this.observer.disconnect();
    clearTimeout(this.retry);
    clearTimeout(this.resizing);
    clearTimeout(this.noticed);
    clearTimeout(this.copying);
    clearTimeout(this.waiting);
    this.client?.disconnect();
    this.client = null;
    this.sound.stop();
    this.node.remove();
  }

  /** Take the message away when there is more to see than an empty screen. Others who look come later. */
  private awaitWindow(): void {
    const { api, trans } = this.options;
    const display = this.display!;
    clearTimeout(this.waiting);
    this.waiting = 0;
    if (!api || display.shown) {
      this.showStatus('');
      return;
    }
    this.showStatus(trans.__('Starting…'));
    // A page of its own hears of no events.
    this.waiting = window.setTimeout(() => {
      api.get(display.id).then(
        found => this.update(found),
        () => this.waiting && this.awaitWindow()
      );
    }, WINDOW_POLL_MS);
  }

  // The connection

  private async connect(channel: Channel): Promise<void> {
    const { trans, mode } = this.options;
    const display = this.display!;
    const attempt = ++this.attempts;
    const screen = element('div', { className: 'jp-Display-screen' });
    const createClient = await PROTOCOLS[display.protocol].load();
    if (this.disposed || attempt !== this.attempts) {
      channel.close();
      return;
    }
    const size = this.size;
    const client = createClient(
      screen,
      {
        painted: () => {
          // What was there stays until there is something new.
          [...this.stage.children].filter(child => child !== screen).forEach(child => child.remove());
          this.failures = 0;
          this.awaitWindow();
          this.node.dataset.painted = String(attempt);
        },
        resized: (width, height) => {
          this.node.dataset.size = `${width}x${height}`;
        },
        closed: (code, reason) => {
          if (this.client === client) {
            this.client = null;
            this.onDisconnect(code, reason);
          }
        },
        bell: () => {
          this.stage.classList.remove('jp-mod-bell');
          requestAnimationFrame(() => this.stage.classList.add('jp-mod-bell'));
        },
        copied: () => {
          // Xpra says so several times.
          clearTimeout(this.copying);
          this.copying = window.setTimeout(() => void this.fetchClip(), COPY_DELAY);
        }
      },
      {
        viewOnly: mode === 'view',
        resizes: mode === 'owner',
        ...size
      }
    );
    this.client = client;
    this.stage.append(screen);
    client.connect(channel);
    if (display.state === 'starting') {
      this.showStatus(trans.__('Starting…'));
    }
  }

  private onDisconnect(code: number, reason: string): void {
    const { trans } = this.options;
    clearTimeout(this.waiting);
    this.waiting = 0;
    this.keyboard.release();
    if (OVER[code]) {
      this.end(reason || OVER[code](trans));
      return;
    }
    this.showStatus(trans.__('Connection lost. Reconnecting…'), [
      [trans.__('Try again'), () => this.reconnectNow()]
    ]);
    const wait = Math.min(LONGEST_WAIT, 250 * 2 ** this.failures++);
    clearTimeout(this.retry);
    this.retry = window.setTimeout(() => this.reconnect(), wait);
    if (this.failures === 2) {
      // A stream that is refused does not say why.
      void this.endpoint?.gone().then(gone => {
        if (gone && !this.disposed && this.failures) {
          this.end(OVER[this.options.mode === 'owner' ? 4404 : 4403](trans));
        }
      });
    }
  }

  /** There is a network again, or the page is visible again. */
  private reconnectNow(): void {
    if (this.retry && !this.client) {
      this.reconnect();
    }
  }

  private reconnect(): void {
    clearTimeout(this.retry);
    this.retry = 0;
    if (this.endpoint && !this.disposed) {
      void this.connect(new Channel(this.endpoint.stream));
    }
  }

  private async restart(start: () => Promise<void>): Promise<void> {
    this.showStatus(this.options.trans.__('Starting…'));
    try {
      await start();
    } catch (error) {
      this.end(error instanceof Error ? error.message : String(error));
    }
  }

  private onResize(): void {
    this.client?.resize();
    const { api, mode } = this.options;
    if (mode !== 'owner' || !api || !this.display) {
      return;
    }
    clearTimeout(this.resizing);
    this.resizing = window.setTimeout(() => {
      const size = this.size;
      const shown = this.stage.clientWidth > 0 && this.stage.clientHeight > 0;
      if (
        !shown ||
        !this.display ||
        !PROTOCOLS[this.display.protocol].resizedByServer ||
        (size.width === this.asked.width && size.height === this.asked.height)
      ) {
        return;
      }
      this.asked = size;
      api.resize(this.display.id, size.width, size.height).catch(() => undefined);
    }, RESIZE_DELAY);
  }

  // The toolbar

  private toolbar(): HTMLElement {
    const { trans, mode, api, home } = this.options;
    const bar = element('div', { className: 'jp-Display-toolbar', role: 'toolbar' });
    if (home) {
      const label = trans.__('Home page of the hub');
      bar.append(element('a', { href: home, title: label, 'aria-label': label }, icon('home')));
    }
    bar.append(this.title, this.notice);
    if (mode === 'view') {
      bar.append(element('span', { className: 'jp-Display-badge', textContent: trans.__('Only looking') }));
    }
    bar.append(
      this.sound.node,
      toolButton('clipboard', trans.__('Clipboard'), () =>
        showClipboard(this.node, trans, this.copied, mode === 'view' ? null : text => this.offer({ text }))
      )
    );
    if (mode !== 'view') {
      const press = (keys: string): void => {
        this.focus();
        this.keyboard.chord(keys);
      };
      bar.append(toolButton('keys', trans.__('Keys'), () => showKeys(this.node, trans, press)));
    }
    if (api) {
      const id = (): string => this.display?.id ?? '';
      const input = element('input', { type: 'file', multiple: true, hidden: true });
      input.onchange = () => {
        void this.upload([...(input.files ?? [])]);
        input.value = '';
      };
      bar.append(
        input,
        toolButton('upload', trans.__('Upload'), () => input.click()),
        toolButton('files', trans.__('Files'), () => void showFiles(this.node, trans, api, id())),
        toolButton('share', trans.__('Share'), () => void showShares(this.node, trans, api, id())),
        toolButton('power', trans.__('Shut down'), () =>
          confirmShutDown(this.node, trans, () => api.shutDown(id()))
        )
      );
    }
    bar.append(toolButton('full', trans.__('Full screen'), () => void this.toggleFullScreen()));
    return bar;
  }

  /** Say something beside the buttons for a while. */
  private notify(text: string): void {
    this.notice.textContent = text;
    clearTimeout(this.noticed);
    this.noticed = window.setTimeout(() => (this.notice.textContent = ''), NOTICE_MS);
  }

  private async toggleFullScreen(): Promise<void> {
    if (document.fullscreenElement) {
      await document.exitFullscreen();
    } else {
      await this.node.requestFullscreen({ navigationUI: 'hide' }).catch(() => undefined);
      // Escape, Ctrl+W and the like go to the display, where the browser lets them.
      const { keyboard } = navigator as Navigator & { keyboard?: { lock?(): Promise<void> } };
      void keyboard?.lock?.().catch(() => undefined);
    }
    this.focus();
  }

  private acceptDrops(signal: AbortSignal): void {
    const body = this.stage.parentElement!;
    const hint = element('div', {
      className: 'jp-Display-drop',
      hidden: true,
      textContent: this.options.trans.__('Drop files here to upload them')
    });
    body.append(hint);
    const over = (event: DragEvent): void => {
      if (event.dataTransfer?.types.includes('Files')) {
        event.preventDefault();
        event.stopPropagation();
        hint.hidden = false;
      }
    };
    body.addEventListener('dragenter', over, { signal });
    body.addEventListener('dragover', over, { signal });
    body.addEventListener('dragleave', event => event.target === hint && (hint.hidden = true), { signal });
    body.addEventListener(
      'drop',
      event => {
        hint.hidden = true;
        const files = [...(event.dataTransfer?.files ?? [])];
        if (files.length) {
          event.preventDefault();
          event.stopPropagation();
          void this.upload(files);
        }
      },
      { signal }
    );
  }

  private async upload(files: File[]): Promise<void> {
    const { trans, api } = this.options;
    for (const file of files) {
      this.notice.textContent = trans.__('Uploading %1…', file.name);
      try {
        await api!.upload(this.display!.id, file);
        this.notice.textContent = trans.__('Uploaded: %1', file.name);
      } catch (error) {
        this.notice.textContent = `${file.name}: ${error instanceof Error ? error.message : String(error)}`;
        return;
      }
    }
    setTimeout(() => (this.notice.textContent = ''), 5_000);
  }

  // The clipboards

  private paste(data: DataTransfer): void {
    const image = [...data.files].find(file => file.type === 'image/png');
    const text = data.getData('text/plain');
    if (text) {
      this.offer({ text });
    } else if (image) {
      this.offer({ image });
    }
  }

  private offer(clip: ClipboardContent): void {
    if (new Blob([clip.image ?? clip.text]).size > LONGEST_COPY_MB << 20) {
      this.notify(this.tooLong());
      return;
    }
    if (clip.text !== undefined) {
      if (clip.text === this.offered || clip.text === this.copied) {
        // The display has it already.
        return;
      }
      this.offered = clip.text;
      this.copied = '';
    }
    this.client?.offer(clip);
  }

  private async takeClip(clip: ClipboardContent): Promise<void> {
    if (clip.text !== undefined) {
      this.copied = clip.text;
      this.offered = '';
    }
    try {
      if (clip.image) {
        await navigator.clipboard.write([new ClipboardItem({ [clip.image.type]: clip.image })]);
      } else {
        await navigator.clipboard.writeText(clip.text);
      }
    } catch {
      // Not allowed: the clipboard button shows the text.
    }
  }

  private async fetchClip(): Promise<void> {
    const { trans } = this.options;
    try {
      const clip = await this.endpoint?.clipboard();
      if (clip) {
        await this.takeClip(clip);
      }
    } catch (error) {
      const tooLong = error instanceof ApiError && error.status === 413;
      this.notify(tooLong ? this.tooLong() : trans.__('What was copied did not arrive.'));
    }
  }

  private tooLong(): string {
    return this.options.trans.__(
      'This is too long for the clipboard (at most %1 MB). Move it as a file.',
      LONGEST_COPY_MB
    );
  }

  /** What the user has copied elsewhere, where the browser lets it be read without asking. */
  private async readClipboard(): Promise<void> {
    try {
      const permission = await navigator.permissions.query({ name: 'clipboard-read' as PermissionName });
      if (permission.state !== 'granted') {
        return;
      }
      for (const item of await navigator.clipboard.read()) {
        if (item.types.includes('text/plain')) {
          this.offer({ text: await (await item.getType('text/plain')).text() });
        } else if (item.types.includes('image/png')) {
          this.offer({ image: await item.getType('image/png') });
        }
      }
    } catch {
      // This browser only tells when the user pastes.
    }
  }
}
