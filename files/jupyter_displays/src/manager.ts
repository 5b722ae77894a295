/**
 * The displays of this server as all parts of JupyterLab see them: one list, kept by the server's events.
 */

import type { Event, ServerConnection } from '@jupyterlab/services';
import { ServerConnection as Requests } from '@jupyterlab/services';
import { type ISignal, Signal } from '@lumino/signaling';

import { Api, type Application, type Connection, type Display } from './api';

const SCHEMA = 'https://schema.campushub.org/jupyter_displays/display/v1';

export interface DisplayEvent {
  action: 'created' | 'changed' | 'ended' | 'failed' | 'removed';
  display: Display;
}

export class DisplayManager {
  readonly api: Api;
  applications: Application[] = [];
  private readonly known = new Map<string, Display>();
  private readonly _changed = new Signal<this, DisplayEvent | null>(this);
  private fetching: Promise<void> | null = null;

  constructor(settings: ServerConnection.ISettings, events: Event.IManager) {
    this.api = new Api(connection(settings));
    events.stream.connect((_, emission) => {
      if (emission.schema_id === SCHEMA) {
        this.update(emission as unknown as DisplayEvent);
      }
    });
    // What happened while nobody listened, as when a laptop slept.
    document.addEventListener('visibilitychange', () => {
      if (!document.hidden) {
        void this.refresh().catch(() => undefined);
      }
    });
  }

  /** One display has changed, or, with nothing, the list. */
  get changed(): ISignal<this, DisplayEvent | null> {
    return this._changed;
  }

  /** Those that are there to be opened. */
  get running(): Display[] {
    return [...this.known.values()].filter(
      display => display.state !== 'ended' && display.state !== 'failed'
    );
  }

  get(id: string): Display | undefined {
    return this.known.get(id);
  }

  refresh(): Promise<void> {
    this.fetching ??= this.fetch().finally(() => {
      this.fetching = null;
    });
    return this.fetching;
  }

  update(event: DisplayEvent): void {
    const { action, display } = event;
    if (action === 'removed') {
      this.known.delete(display.id);
    } else {
      this.known.set(display.id, display);
    }
    this._changed.emit(event);
  }

  private async fetch(): Promise<void> {
    const { displays, applications } = await this.api.list();
    this.applications = applications;
    this.known.clear();
    displays.forEach(display => this.known.set(display.id, display));
    this._changed.emit(null);
    displays.forEach(display => this._changed.emit({ action: 'changed', display }));
  }
}

/** Requests with the login of JupyterLab. */
function connection(settings: ServerConnection.ISettings): Connection {
  return {
    baseUrl: settings.baseUrl,
    fetch: (url, init) => Requests.makeRequest(url, init, settings),
    socketUrl: path => {
      const url = new URL(path.replace(settings.baseUrl, settings.wsUrl));
      if (settings.appendToken && settings.token) {
        url.searchParams.set('token', settings.token);
      }
      return url.href;
    }
  };
}
