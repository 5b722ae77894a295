/**
 * What takes the space in the home directory, in a dialog that makes room, and warnings before it is used up.
 */

import { Dialog, Notification, showDialog } from '@jupyterlab/apputils';
import { ServerConnection } from '@jupyterlab/services';
import { Widget } from '@lumino/widgets';

import type { Api, SpaceItem, SpaceReport, Usage } from './api';
import { type Format, type Level, level } from './format';
import type { Translations } from './translation';

/** How people were warned last in this tab; a reload is no reason to do it again. */
const WARNED = 'campushub-space';
/** What the server says of a save for which there is no room. */
const NOT_SAVED = /Not saved: the disk, or your quota of it, is full\. \((.*)\)/;

class SpaceBody extends Widget {
  private readonly summary = document.createElement('p');
  private readonly message = document.createElement('p');
  private readonly table = document.createElement('table');

  constructor(
    private readonly api: Api,
    private readonly trans: Translations,
    private readonly format: Format
  ) {
    super();
    this.addClass('campushub-Programs');
    this.addClass('campushub-Space');
    this.message.setAttribute('role', 'status');
    this.summary.textContent = trans.__('Looking at your home directory…');
    this.node.append(this.summary, this.message, this.table);
    void this.refresh();
  }

  private async refresh(): Promise<void> {
    try {
      this.render(await this.api.space());
    } catch (error) {
      this.summary.textContent = this.explain(error);
    }
  }

  private render({ items, complete, home }: SpaceReport): void {
    const { trans, format } = this;
    const sentences = [trans.__('Disk of the home directory %1', format.memory(home.bytes))];
    if (home.files && level(home.files)) {
      sentences.push(trans.__('Files %1', format.count(home.files)));
    }
    if (!complete) {
      sentences.push(trans.__('There may be more: not everything could be looked at in time.'));
    } else if (items.length === 0) {
      sentences.push(trans.__('Nothing large was found.'));
    }
    this.summary.textContent = sentences.join(' · ');
    const body = this.table.tBodies[0] ?? this.table.createTBody();
    body.replaceChildren(...items.map(item => this.row(item)));
  }

  private name({ kind, path, name }: SpaceItem): string {
    const { trans } = this;
    switch (kind) {
      case 'trash':
        return trans.__('Trash');
      case 'checkpoints':
        return trans.__('Checkpoints of notebooks, older than 30 days');
      case 'cache':
        return trans.__('Cache of %1', name);
      default:
        return kind === 'folder' ? `${path}/` : path;
    }
  }

  private row(item: SpaceItem): HTMLTableRowElement {
    const { trans } = this;
    const row = document.createElement('tr');
    row.dataset.kind = item.kind;
    row.insertCell().textContent = this.name(item);
    row.cells[0].title = item.path;
    row.insertCell().textContent = this.format.bytes(item.size);
    const buttons = row.insertCell();
    switch (item.kind) {
      case 'trash':
        this.offer(buttons, trans.__('Empty'), () => this.confirm(buttons, item, 'empty'));
        break;
      case 'checkpoints':
        this.offer(buttons, trans.__('Delete'), () => this.confirm(buttons, item, 'checkpoints'));
        break;
      case 'cache':
        this.offer(buttons, trans.__('Delete'), () => this.confirm(buttons, item, 'delete'));
        break;
      default:
        this.offer(buttons, trans.__('Delete'), () => this.moveToTrash(buttons, item));
    }
    return row;
  }

  /** A button that is pressed once. */
  private offer(place: HTMLElement, label: string, act: () => void | Promise<void>, isFinal = false): void {
    const button = document.createElement('button');
    button.type = 'button';
    button.className = `jp-Dialog-button jp-mod-styled ${isFinal ? 'jp-mod-warn' : 'jp-mod-reject'}`;
    button.textContent = label;
    button.addEventListener('click', () => {
      button.disabled = true;
      void act();
    });
    place.append(button);
  }

  private async moveToTrash(place: HTMLElement, item: SpaceItem): Promise<void> {
    const { api, trans } = this;
    try {
      const { name } = await api.changeSpace('trash', item.path);
      this.tell(trans.__('%1 is in the trash, and takes its space until that is emptied.', item.path));
      this.offer(this.message, trans.__('Undo'), () => this.change('restore', name!));
      await this.refresh();
    } catch (error) {
      if (error instanceof ServerConnection.ResponseError && error.response.status === 507) {
        this.tell(
          trans.__('%1 cannot be moved into the trash: there is no room, or it is part of it.', item.path)
        );
        this.confirm(place, item, 'delete');
      } else {
        this.tell(this.explain(error));
        await this.refresh();
      }
    }
  }

  /** Ask, since it is final, in the place of the button: one dialog waits for the other. */
  private confirm(place: HTMLElement, item: SpaceItem, action: string): void {
    const { trans } = this;
    place.replaceChildren(trans.__('It does not come back.'), ' ');
    this.offer(place, trans.__('Delete for good'), () => this.change(action, item.path), true);
    this.offer(place, trans.__('Cancel'), () => this.refresh());
  }

  private async change(action: string, path: string): Promise<void> {
    const { trans } = this;
    try {
      const { left } = await this.api.changeSpace(action, path);
      this.tell(left ? trans.__('Some of it could not be deleted.') : '');
    } catch (error) {
      this.tell(this.explain(error));
    }
    await this.refresh();
  }

  private tell(text: string): void {
    this.message.textContent = text;
  }

  private explain(error: unknown): string {
    const { trans } = this;
    const status = error instanceof ServerConnection.ResponseError ? error.response.status : 0;
    switch (status) {
      case 403:
        return trans.__('It could not be deleted.');
      case 404:
        return trans.__('It is not there any more.');
      case 409:
        return trans.__('There is something else in its place already.');
      case 504:
        return trans.__('Your home directory does not answer.');
      default:
        return error instanceof Error ? error.message : String(error);
    }
  }
}

export class SpaceGuard {
  private isOpen = false;

  constructor(
    private readonly api: Api,
    private readonly trans: Translations,
    private readonly format: Format
  ) {
    Dialog.tracker.widgetAdded.connect((_, dialog) => this.explainFailedSave(dialog));
  }

  readonly open = async (): Promise<void> => {
    if (this.isOpen) {
      return;
    }
    this.isOpen = true;
    await showDialog({
      title: this.trans.__('What takes the space'),
      body: new SpaceBody(this.api, this.trans, this.format),
      buttons: [Dialog.okButton({ label: this.trans.__('Close') })]
    }).finally(() => (this.isOpen = false));
  };

  /** Warn when there is little room, and show what takes it when there is hardly any. */
  check({ home, home_files: files }: Usage): void {
    const { trans, format } = this;
    const levels = [home, files].map(amount => (amount ? level(amount) : ''));
    const now: Level = levels.find(one => one === 'critical') ?? levels.find(one => one) ?? '';
    const before = sessionStorage.getItem(WARNED) ?? '';
    sessionStorage.setItem(WARNED, now);
    if (now === 'critical' && before !== 'critical') {
      void this.open();
    } else if (now === 'warning' && before === '') {
      const amount = home && level(home) ? home : files!;
      const text = trans.__('The disk of your home directory is %1 full.', format.percent(amount));
      const actions = [{ label: trans.__('What takes the space'), callback: () => void this.open() }];
      Notification.warning(text, { autoClose: false, actions });
    }
  }

  private explainFailedSave(dialog: Dialog<unknown>): void {
    const body = dialog.node.querySelector('.jp-Dialog-body');
    const found = NOT_SAVED.exec(body?.textContent ?? '');
    if (body && found) {
      body.textContent = this.trans.__(
        '%1 was not saved: the disk, or your quota of it, is full. The file is as it was, and your changes are in this page. Make room, then save again.',
        found[1]
      );
      // After this dialog, which is not yet in the queue of those to be shown.
      setTimeout(() => void this.open());
    }
  }
}
