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
