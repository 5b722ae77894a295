/**
 * Displays in the New menu of Jupyter Notebook.
 */

import type { IDefaultFileBrowser } from '@jupyterlab/filebrowser';
import type { KernelSpec } from '@jupyterlab/services';
import { type Menu, MenuBar } from '@lumino/widgets';

import type { DisplayManager } from './manager';

/** The New menu is a menu bar in the file browser's toolbar, which is made late and filled again. */
export function addNewMenu(
  browser: IDefaultFileBrowser,
  kernels: KernelSpec.IManager,
  displays: DisplayManager,
  command: string
): void {
  let menu: Menu | undefined;
  const fill = (): void => {
    menu ??= [...browser.toolbar.children()].find(item => item instanceof MenuBar)?.menus[0];
    if (!menu) {
      return;
    }
    const items = [...menu.items].filter(item => item.command === command);
    items.forEach(item => {
      menu!.removeItem(item);
    });
    for (const { id } of displays.applications) {
      menu.addItem({ command, args: { application: id, isMenu: true } });
    }
  };
  const soon = (tries: number): void => {
    fill();
    if (!menu && tries) {
      window.setTimeout(soon, 100, tries - 1);
    }
  };
  soon(100);
  kernels.specsChanged.connect(fill);
  displays.changed.connect((_, event) => {
    if (!event) {
      fill();
    }
  });
}
