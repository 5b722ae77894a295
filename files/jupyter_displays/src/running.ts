/**
 * Displays in JupyterLab's list of running sessions, with a picture of each screen.
 */

import type { IRunningSessionManagers, IRunningSessions } from '@jupyterlab/running';
import type { LabIcon } from '@jupyterlab/ui-components';
import { type ISignal, Signal } from '@lumino/signaling';

import type { Display } from './api';
import type { DisplayManager } from './manager';
import { element } from './dom';
import type { Translations } from './translation';

/** On the items of displays in the list of what runs; their `data-context` has the id. */
export const ITEM_CLASS = 'jp-mod-display';
const PICTURE_WIDTH = 320;

function age(display: Display): string {
  const minutes = Math.max(0, Math.floor((Date.now() - Date.parse(display.created)) / 60_000));
  const hours = Math.floor(minutes / 60);
  if (hours >= 48) {
    return `${Math.floor(hours / 24)} d`;
  }
  return hours ? `${hours} h ${minutes % 60} min` : `${minutes} min`;
}

class RunningDisplays implements IRunningSessions.IManager {
  readonly name: string;
  readonly shutdownLabel: string;
  readonly shutdownAllLabel: string;
  readonly shutdownAllConfirmationText: string;
  readonly runningChanged: ISignal<this, void>;

  constructor(
    private displays: DisplayManager,
    private trans: Translations,
    private icon: LabIcon,
    private act: (action: 'open' | 'shutDown' | 'shutDownAll', id?: string) => void
  ) {
    this.name = trans.__('Displays');
    this.shutdownLabel = trans.__('Shut down');
    this.shutdownAllLabel = trans.__('Shut down all');
    this.shutdownAllConfirmationText = trans.__('Shut down all displays and the programs in them?');
    const changed = new Signal<this, void>(this);
    displays.changed.connect(() => {
      changed.emit();
    });
    this.runningChanged = changed;
  }

  running(): IRunningSessions.IRunningItem[] {
    const { trans } = this;
    return this.displays.running.map(display => {
      const viewers = display.viewers.map(viewer => viewer.name).join(', ');
      return {
        className: ITEM_CLASS,
        context: display.id,
        icon: () => this.icon,
        label: () => display.title,
        labelTitle: () =>
          [
            display.name,
            trans.__('Viewers: %1', viewers || '—'),
            display.state === 'running' ? '' : display.state
          ]
            .filter(Boolean)
            .join('\n'),
        detail: () => `${age(display)} · ${display.width}×${display.height}${viewers && ` · ${viewers}`}`,
        open: () => {
          this.act('open', display.id);
        },
        shutdown: () => {
          this.act('shutDown', display.id);
        }
      };
    });
  }

  refreshRunning(): void {
    void this.displays.refresh().catch(() => undefined);
  }

  shutdownAll(): void {
    this.act('shutDownAll');
  }
}

/** Show the screen's picture while the pointer or the focus is on an item. */
function showPictures(displays: DisplayManager, trans: Translations): void {
  let shown: { item: Element; image: HTMLImageElement } | null = null;
  const hide = (): void => {
    if (shown) {
      URL.revokeObjectURL(shown.image.src);
      shown.image.remove();
      shown = null;
    }
  };
  const update = (event: Event): void => {
    const item = event.target instanceof Element ? event.target.closest(`.${ITEM_CLASS}`) : null;
    if (item === (shown?.item ?? null)) {
      return;
    }
    hide();
    const id =
      item?.querySelector<HTMLElement>('[data-context]')?.dataset.context ??
      (item as HTMLElement | null)?.dataset.context;
    if (!item || !id) {
      return;
    }
    const image = element('img', { className: 'jp-Display-picture', alt: trans.__('Screen of the display') });
    const mine = { item, image };
    shown = mine;
    displays.api.picture(id, PICTURE_WIDTH).then(
      url => {
        if (shown !== mine) {
          URL.revokeObjectURL(url);
          return;
        }
        image.src = url;
        const box = item.getBoundingClientRect();
        if (box.right + PICTURE_WIDTH + 8 < window.innerWidth) {
          image.style.left = `${box.right + 4}px`;
          image.style.top = `${Math.min(box.top, Math.max(4, window.innerHeight - 220))}px`;
        } else {
          // The list is as wide as the page: above or below the item.
          image.style.left = `${box.left + 40}px`;
          const above = box.top > window.innerHeight / 2;
          image.style[above ? 'bottom' : 'top'] =
            `${(above ? window.innerHeight - box.top : box.bottom) + 4}px`;
        }
        document.body.append(image);
      },
      () => undefined
    );
  };
  document.body.addEventListener('mouseover', update);
  document.body.addEventListener('focusin', update);
  document.body.addEventListener('mousedown', hide);
}

export function addDisplayRunningSessionManager(
  managers: IRunningSessionManagers,
  displays: DisplayManager,
  trans: Translations,
  icon: LabIcon,
  act: (action: 'open' | 'shutDown' | 'shutDownAll', id?: string) => void
): void {
  managers.add(new RunningDisplays(displays, trans, icon, act));
  showPictures(displays, trans);
}
