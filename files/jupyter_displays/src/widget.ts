/**
 * A display as a tab of JupyterLab's main area, without a frame around it.
 */

import type { Message } from '@lumino/messaging';
import { type ISignal, Signal } from '@lumino/signaling';
import { Widget } from '@lumino/widgets';

import type { Display } from './api';
import type { DisplayEvent, DisplayManager } from './manager';
import type { Translations } from './translation';
import type { Viewer } from './viewer';

export type ViewerModule = typeof import('./viewer');

let created = 0;

export class DisplayWidget extends Widget {
  private viewer: Viewer | null = null;
  private display: Display | null = null;
  private readonly _named = new Signal<this, void>(this);

  /**
   * @param wanted The id of a display that is there, or what to start.
   */
  constructor(
    private displays: DisplayManager,
    private trans: Translations,
    private load: () => Promise<ViewerModule>,
    private wanted: { id: string } | { application: string }
  ) {
    super();
    this.id = `jp-display-${++created}`;
    this.addClass('jp-DisplayWidget');
    this.title.closable = true;
    this.title.label = trans.__('Starting…');
    displays.changed.connect(this.onChanged);
  }

  /** The display's id, when it has one. */
  get displayId(): string {
    return this.display?.id ?? ('id' in this.wanted ? this.wanted.id : '');
  }

  /** There is a display behind the widget, or another one. */
  get named(): ISignal<this, void> {
    return this._named;
  }

  override dispose(): void {
    this.displays.changed.disconnect(this.onChanged);
    this.viewer?.dispose();
    this.viewer = null;
    super.dispose();
  }

  /** A tab that is closed looks at its display no more; by itself it would only be taken off the page. */
  protected override onCloseRequest(message: Message): void {
    super.onCloseRequest(message);
    this.dispose();
  }

  protected override onAfterAttach(message: Message): void {
    super.onAfterAttach(message);
    if (!this.viewer) {
      void this.begin();
    }
  }

  protected override onActivateRequest(message: Message): void {
    super.onActivateRequest(message);
    this.viewer?.focus();
  }

  private async begin(): Promise<void> {
    const { Viewer } = await this.load();
    if (this.isDisposed) {
      return;
    }
    const viewer = new Viewer({
      trans: this.trans,
      mode: 'owner',
      api: this.displays.api,
      restart: () => this.start(this.display?.application ?? 'desktop', this.display?.title)
    });
    this.viewer = viewer;
    this.node.append(viewer.node);
    viewer.focus();
    try {
      if ('application' in this.wanted) {
        await this.start(this.wanted.application);
      } else {
        await this.open(this.wanted.id);
      }
    } catch (error) {
      viewer.end(error instanceof Error ? error.message : String(error));
    }
  }

  /** Start a display that fits into the tab. */
  private async start(application: string, title?: string): Promise<void> {
    const ratio = window.devicePixelRatio;
    const { width, height } = this.viewer!.size;
    // A tab that is not shown has no size.
    const size = width > 200 && height > 150 ? { width, height } : {};
    const request = { application, title, ...size, dpi: Math.round(96 * ratio) };
    const display = await this.displays.api.create(request);
    this.displays.update({ action: 'created', display });
    this.attach(display);
  }

  private async open(id: string): Promise<void> {
    if (!this.displays.get(id)) {
      await this.displays.refresh();
    }
    const display = this.displays.get(id);
    if (display) {
      this.attach(display);
    } else {
      this.title.label = `display/${id}`;
      this.viewer?.end(this.trans.__('There is no such display.'));
    }
  }

  private attach(display: Display): void {
    this.display = display;
    this.label();
    if (!this.isDisposed) {
      this.viewer?.start(display, this.displays.api.endpoint(display.id));
    }
    this._named.emit();
  }

  private onChanged = (_: DisplayManager, event: DisplayEvent | null): void => {
    if (event && event.display.id === this.display?.id && event.display.created === this.display.created) {
      this.display = event.display;
      this.label();
      this.viewer?.update(event.display);
    }
  };

  private label(): void {
    this.title.label = this.display!.title;
    this.title.caption = this.display!.name;
  }
}
