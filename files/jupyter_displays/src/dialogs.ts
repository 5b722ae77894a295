/**
 * What the buttons of a display's toolbar open.
 */

import { type Api, ApiError, type Share } from './api';
import { element, openDialog } from './dom';
import type { Translations } from './translation';

function size(bytes: number): string {
  const unit = Math.min(3, Math.floor(Math.log2(Math.max(1, bytes)) / 10));
  return `${(bytes / 1024 ** unit).toFixed(unit && bytes / 1024 ** unit < 10 ? 1 : 0)} ${['B', 'kB', 'MB', 'GB'][unit]}`;
}

/** A paragraph for what went wrong, read out as it comes. */
function alertLine(): HTMLParagraphElement {
  return element('p', { className: 'jp-Display-error', role: 'alert' });
}

const message = (error: unknown): string =>
  error instanceof ApiError || error instanceof Error ? error.message : String(error);

/** Files of the display to take away. */
export async function showFiles(
  parent: HTMLElement,
  trans: Translations,
  api: Api,
  id: string
): Promise<void> {
  const list = element('ul', { className: 'jp-Display-list' });
  const problem = alertLine();
  openDialog(parent, trans.__('Files'), trans.__('Close'), list, problem);
  try {
    const files = await api.files(id);
    for (const file of files) {
      const link = element('a', {
        href: api.fileUrl(id, file.name),
        download: file.name,
        textContent: file.name
      });
      list.append(element('li', {}, link, element('small', { textContent: size(file.size) })));
    }
    if (!files.length) {
      list.replaceWith(element('p', { textContent: trans.__('No files to download.') }));
    }
  } catch (error) {
    problem.textContent = message(error);
  }
}

/** The clipboards, where the browser does not let them be one. */
export function showClipboard(
  parent: HTMLElement,
  trans: Translations,
  copied: string,
  paste: ((text: string) => void) | null
): void {
  const from = element('textarea', { readOnly: true, value: copied, rows: 4 });
  const children: Node[] = [element('label', {}, trans.__('Clipboard of the display:'), from)];
  if (paste) {
    const to = element('textarea', { rows: 4 });
    const put = element('button', {
      type: 'button',
      textContent: trans.__('Put on the clipboard of the display')
    });
    put.onclick = () => {
      paste(to.value);
      put.closest('dialog')?.close();
    };
    const hint = trans.__('Allow the browser to read the clipboard, or paste text here:');
    children.push(element('label', {}, hint, to), element('p', {}, put));
    // Asks the user once, where the browser can be asked.
    void navigator.clipboard
      ?.readText?.()
      .then(text => (to.value ||= text))
      .catch(() => undefined);
  }
  openDialog(parent, trans.__('Clipboard'), trans.__('Close'), ...children);
  from.select();
}

/** What browsers and operating systems keep for themselves, as `Keyboard.chord` takes it. */
const CHORDS = [
  ...['Control+Alt+Delete', 'Control+Escape', 'Alt+Tab', 'Alt+F4', 'Meta', 'Escape'],
  ...['Control+w', 'Control+t', 'Control+n', 'Control+Shift+t', 'Control+Tab', 'Control+Shift+Tab'],
  ...['F1', 'F5', 'F11', 'F12', 'Control+PageUp', 'Control+PageDown']
];
const NAMES: Record<string, string> = { Control: 'Ctrl', Delete: 'Del', Meta: 'Super' };

/** Keys that do not reach a page. */
export function showKeys(parent: HTMLElement, trans: Translations, press: (keys: string) => void): void {
  const grid = element('div', { className: 'jp-Display-keys' });
  const hint = trans.__('Send the display keys that the browser takes:');
  const dialog = openDialog(
    parent,
    trans.__('Keys'),
    trans.__('Close'),
    element('p', { textContent: hint }),
    grid
  );
  for (const keys of CHORDS) {
    const textContent = keys
      .split('+')
      .map(key => NAMES[key] ?? (key.length === 1 ? key.toUpperCase() : key))
      .join('+');
    const onclick = (): void => {
      dialog.close();
      press(keys);
    };
    grid.append(element('button', { type: 'button', textContent, onclick }));
  }
}

/** Links for others, which can be taken back. */
export async function showShares(
  parent: HTMLElement,
  trans: Translations,
  api: Api,
  id: string
): Promise<void> {
  const problem = alertLine();
  const list = element('ul', { className: 'jp-Display-list' });
  const row = (share: Share): HTMLLIElement => {
    const url = new URL(share.url, location.href).href;
    const field = element('input', { readOnly: true, value: url, 'aria-label': trans.__('Copy link') });
    const copy = element('button', { type: 'button', textContent: trans.__('Copy link') });
    copy.onclick = () => {
      field.select();
      void navigator.clipboard?.writeText(url).catch(() => undefined);
    };
    const back = element('button', {
      type: 'button',
      className: 'jp-mod-warn',
      textContent: trans.__('Take back')
    });
    const mode = share.mode === 'view' ? trans.__('View only') : trans.__('View and control');
    const item = element('li', {}, element('span', { textContent: mode }), field, copy, back);
    back.onclick = () =>
      void api
        .unshare(id, share.id)
        .then(() => item.remove())
        .catch((error: unknown) => (problem.textContent = message(error)));
    return item;
  };
  const make = (mode: Share['mode'], label: string): HTMLButtonElement =>
    element('button', {
      type: 'button',
      textContent: label,
      onclick: () =>
        void api
          .share(id, mode)
          .then(share => {
            const item = row(share);
            list.append(item);
            item.querySelector('input')?.select();
          })
          .catch((error: unknown) => (problem.textContent = message(error)))
    });
  openDialog(
    parent,
    trans.__('Share'),
    trans.__('Close'),
    element(
      'p',
      {},
      trans.__('Make a link'),
      ': ',
      make('view', trans.__('View only')),
      make('control', trans.__('View and control'))
    ),
    list,
    problem
  );
  try {
    list.prepend(...(await api.shares(id)).map(row));
  } catch (error) {
    problem.textContent = message(error);
  }
}

/** Ask before everything in the display is gone. */
export function confirmShutDown(
  parent: HTMLElement,
  trans: Translations,
  shutDown: () => Promise<void>
): void {
  const problem = alertLine();
  const button = element('button', {
    type: 'button',
    className: 'jp-mod-warn',
    textContent: trans.__('Shut down')
  });
  const dialog = openDialog(
    parent,
    trans.__('Shut down'),
    trans.__('Cancel'),
    element('p', { textContent: trans.__('Shut down this display and the programs in it?') }),
    problem
  );
  button.onclick = () =>
    void shutDown()
      .then(() => dialog.close())
      .catch((error: unknown) => (problem.textContent = message(error)));
  dialog.querySelector('footer')?.append(button);
}
