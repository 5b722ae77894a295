/**
 * What the server offers, as openapi.yaml describes it.
 */

import type { PROTOCOLS } from './client/registry';
import type { ClipboardContent } from './client/types';
import type { Keymap } from './keyboard';

export type DisplayState = 'starting' | 'running' | 'stopping' | 'ended' | 'failed';

export interface Display {
  id: string;
  name: string;
  title: string;
  application: string;
  engine: string;
  protocol: keyof typeof PROTOCOLS;
  state: DisplayState;
  reason: string;
  /** One of its programs has shown a window. */
  shown: boolean;
  created: string;
  last_activity: string;
  width: number;
  height: number;
  sound: boolean;
  viewers: { name: string; mode: string; since: string }[];
  url: string;
}

export interface Application {
  id: string;
  title: string;
  description: string;
}

export interface DisplayList {
  displays: Display[];
  applications: Application[];
  limit: number;
}

export interface SharedFile {
  name: string;
  size: number;
}

export interface Share {
  id: string;
  mode: 'view' | 'control';
  url: string;
  created: string;
}

export interface NewDisplay {
  application?: string;
  title?: string;
  width?: number;
  height?: number;
  dpi?: number;
}

/** How requests are made: with the login of JupyterLab, or of the page. */
export interface Connection {
  /** Ends in a slash. */
  baseUrl: string;
  fetch(url: string, init: RequestInit): Promise<Response>;
  /** Adds what a WebSocket needs to be let in. */
  socketUrl(path: string): string;
}

/** An answer that says no. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string
  ) {
    super(message);
  }
}

/** The login of the page: cookies, and the token against forged requests. */
export function pageConnection(baseUrl: string): Connection {
  return {
    baseUrl,
    fetch: (url, init) => {
      const token = /(?:^|; )_xsrf=([^;]*)/.exec(document.cookie)?.[1] ?? '';
      return fetch(url, {
        ...init,
        headers: { ...init.headers, 'X-XSRFToken': token },
        credentials: 'same-origin'
      });
    },
    socketUrl: path => new URL(path, location.href).href.replace(/^http/, 'ws')
  };
}

export class Api {
  constructor(readonly connection: Connection) {}

  list(): Promise<DisplayList> {
    return this.fetch('GET', '');
  }

  get(id: string): Promise<Display> {
    return this.fetch('GET', `/${id}`);
  }

  create(display: NewDisplay): Promise<Display> {
    return this.fetch('POST', '', display);
  }

  rename(id: string, title: string): Promise<Display> {
    return this.fetch('PATCH', `/${id}`, { title });
  }

  resize(id: string, width: number, height: number): Promise<Display> {
    return this.fetch('PATCH', `/${id}`, { width, height });
  }

  async shutDown(id: string): Promise<void> {
    await this.send('DELETE', `/${id}`);
  }

  async shutDownAll(): Promise<void> {
    await this.send('DELETE', '');
  }

  shares(id: string): Promise<Share[]> {
    return this.fetch<Share[] | { shares: Share[] }>('GET', `/${id}/shares`).then(list =>
      Array.isArray(list) ? list : list.shares
    );
  }

  share(id: string, mode: Share['mode']): Promise<Share> {
    return this.fetch('POST', `/${id}/shares`, { mode });
  }

  async unshare(id: string, share: string): Promise<void> {
    await this.send('DELETE', `/${id}/shares/${share}`);
  }

  files(id: string): Promise<SharedFile[]> {
    return this.fetch<SharedFile[] | { files: SharedFile[] }>('GET', `/${id}/files`).then(list =>
      Array.isArray(list) ? list : list.files
    );
  }

  fileUrl(id: string, name: string): string {
    return this.url(`/${id}/files/${encodeURIComponent(name)}`);
  }

  async upload(id: string, file: File): Promise<void> {
    await this.send('POST', `/${id}/files/${encodeURIComponent(file.name)}`, file);
  }

  /** A picture of the screen as a URL for an image of the page; to be revoked. */
  async picture(id: string, width: number): Promise<string> {
    const response = await this.send('GET', `/${id}/screen?width=${width}`);
    return URL.createObjectURL(await response.blob());
  }

  /** Where a viewer of one's own display finds what it needs. */
  endpoint(id: string): DisplayEndpoint {
    return new DisplayEndpoint(this.connection, this.url(`/${id}`));
  }

  private url(path: string): string {
    return `${this.connection.baseUrl}api/displays${path}`;
  }

  private async fetch<T>(method: string, path: string, body?: object): Promise<T> {
    return (await this.send(method, path, body)).json() as Promise<T>;
  }

  private send(method: string, path: string, body?: object): Promise<Response> {
    return send(this.connection, method, this.url(path), body);
  }
}

/** The address of one display, its owner's or a share link's. */
export class DisplayEndpoint {
  constructor(
    private connection: Connection,
    private url: string
  ) {}

  get stream(): string {
    return this.connection.socketUrl(`${this.url}/stream`);
  }

  get sound(): string {
    return this.connection.socketUrl(`${this.url}/sound`);
  }

  /** Whether the server says that there is nothing here any more; without an answer nobody knows. */
  async gone(): Promise<boolean> {
    const response = await this.connection.fetch(this.url, { method: 'GET' }).catch(() => null);
    return response?.status === 404 || response?.status === 403;
  }

  async keymap(): Promise<Keymap> {
    const response = await send(this.connection, 'GET', `${this.url}/keymap`);
    return ((await response.json()) as { keys: Keymap }).keys;
  }

  /** What a program of the display has copied. */
  async clipboard(): Promise<ClipboardContent | null> {
    const content = await (await send(this.connection, 'GET', `${this.url}/clipboard`)).blob();
    if (content.type.startsWith('image/')) {
      return { image: content };
    }
    return content.size ? { text: await content.text() } : null;
  }

  async type(text: string): Promise<void> {
    await send(this.connection, 'POST', `${this.url}/text`, { text });
  }
}

async function send(connection: Connection, method: string, url: string, body?: object): Promise<Response> {
  const init: RequestInit = { method };
  if (body instanceof Blob) {
    init.body = body;
    init.headers = { 'Content-Type': 'application/octet-stream' };
  } else if (body) {
    init.body = JSON.stringify(body);
    init.headers = { 'Content-Type': 'application/json' };
  }
  const response = await connection.fetch(url, init);
  if (!response.ok) {
    const answer = (await response.json().catch(() => ({}))) as { message?: string };
    throw new ApiError(response.status, answer.message || response.statusText || String(response.status));
  }
  return response;
}
