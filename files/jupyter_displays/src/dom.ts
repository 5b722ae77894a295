/** Elements of the page, made in one call. */

type Child = Node | string | null | undefined | false;
type Properties = Record<string, unknown>;

export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  properties: Properties = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith('aria-') || name === 'role' || name === 'for') {
      node.setAttribute(name, String(value));
    } else {
      (node as unknown as Properties)[name] = value;
    }
  }
  node.append(...children.filter((child): child is Node | string => Boolean(child)));
  return node;
}

const PATHS = {
  clipboard: 'M9 3h6v3H9zM7 4.5H5V21h14V4.5h-2M8 11h8M8 15h8',
  upload: 'M12 16V4m-5 5 5-5 5 5M4 16v4h16v-4',
  files: 'M3 6h7l2 2h9v11H3zM12 11v5m-2.5-2 2.5 2.5 2.5-2.5',
  share:
    'M8 12l8-5M8 12l8 5M6 14.5a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5zM18 8.5a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5zM18 20.5a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5z',
  home: 'M4 11.5 12 4.5l8 7M6.5 10v9.5h11V10',
  keys: 'M3 7h18v10H3zM6 10h1m3 0h1m3 0h1m3 0h0M7 14h10',
  full: 'M4 9V4h5M15 4h5v5M20 15v5h-5M9 20H4v-5',
  sound: 'M4 9.5v5h3.5l4.5 4v-13l-4.5 4zM15.5 9a4.2 4.2 0 0 1 0 6M18 6.5a7.8 7.8 0 0 1 0 11',
  silence: 'M4 9.5v5h3.5l4.5 4v-13l-4.5 4zM16 9.5l5 5m0-5-5 5',
  power: 'M12 3v9M7 6.5a7.5 7.5 0 1 0 10 0',
  link: 'M10 14l4-4M8.5 11 6 13.5a3.5 3.5 0 0 0 5 5L13.5 16M15.5 13 18 10.5a3.5 3.5 0 0 0-5-5L10.5 8'
};
export type IconName = keyof typeof PATHS;

export function icon(name: IconName): SVGSVGElement {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  svg.setAttribute('viewBox', '0 0 24 24');
  svg.setAttribute('aria-hidden', 'true');
  const path = document.createElementNS(svg.namespaceURI, 'path') as SVGPathElement;
  path.setAttribute('d', PATHS[name]);
  svg.append(path);
  return svg;
}

/** A button of a toolbar. */
export function toolButton(name: IconName, label: string, onclick: () => void): HTMLButtonElement {
  const made = element('button', { type: 'button', title: label, 'aria-label': label, onclick }, icon(name));
  // The focus stays with the screen.
  made.addEventListener('mousedown', event => event.preventDefault());
  return made;
}

/** A dialog that removes itself when it is closed. */
export function openDialog(
  parent: HTMLElement,
  title: string,
  close: string,
  ...children: Child[]
): HTMLDialogElement {
  const dialog = element(
    'dialog',
    { className: 'jp-Display-dialog', 'aria-label': title },
    element('h2', { textContent: title }),
    ...children
  );
  const button = element('button', { type: 'button', textContent: close, onclick: () => dialog.close() });
  dialog.append(element('footer', {}, button));
  dialog.addEventListener('close', () => dialog.remove());
  // Keys belong to the dialog and not to the page around it.
  dialog.addEventListener('keydown', event => event.stopPropagation());
  parent.append(dialog);
  dialog.showModal();
  return dialog;
}
