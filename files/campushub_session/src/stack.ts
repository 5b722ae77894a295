/** What boxes over the page have in common. */

import type { Translations } from './translation';

/** The corner in which the page says something, one above the other: none may cover another in a small window. */
export function stack(parent: HTMLElement): HTMLElement {
  let node = parent.querySelector<HTMLElement>(':scope > .campushub-Stack');
  if (!node) {
    node = document.createElement('div');
    node.className = 'campushub-Stack';
    parent.append(node);
  }
  return node;
}

/** The cross that closes such a box. */
export function dismissButton(trans: Translations, dismiss: () => void): HTMLButtonElement {
  const button = document.createElement('button');
  button.type = 'button';
  button.className = 'campushub-Dismiss';
  button.textContent = '×';
  button.title = trans.__('Dismiss');
  button.setAttribute('aria-label', button.title);
  button.addEventListener('click', dismiss);
  return button;
}
