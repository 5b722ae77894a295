/**
 * What the server tells, as the schemas in campushub_session/events describe it, and asks of it.
 */

export const USAGE = 'https://schema.campushub.org/campushub_session/usage/v1';
export const OUT_OF_MEMORY = 'https://schema.campushub.org/campushub_session/out_of_memory/v1';

export const ANNOUNCEMENT = 'https://schema.campushub.org/campushub_session/announcement/v1';

export const END = 'https://schema.campushub.org/campushub_session/end/v1';

export interface End {
  reason: string | null;
  message: string;
  seconds_left: number;
  stays: boolean;
}

/** What the hub says of a server that does not answer. */
export interface Condition {
  /** Nothing, if the server does answer the hub. */
  reason: string;
  message: string;
  /** Otherwise more may be known a moment later. */
  final: boolean;
}

export interface Announcement {
  id: string;
  /** By the code of the language; an empty one is that for all others. */
  texts: Record<string, string>;
  /** Seconds since 1970. */
  from: number | null;
  until: number | null;
}

export interface Amount {
  used: number;
  limit: number | null;
}

export interface Usage {
  memory: Amount | null;
  cpu: Amount | null;
  home: Amount | null;
  /** Files and directories. */
  home_files: Amount | null;
  seconds_left: number | null;
}

export interface OutOfMemory {
  kernel_id: string | null;
  name: string;
  peak: number | null;
  limit: number | null;
}

export interface Program {
  kind: 'kernel' | 'terminal' | 'display' | 'server' | 'process';
  name: string;
  memory: number;
  cpu: number;
  /** Where a DELETE request shuts it down, below the server's address; nothing where none does. */
  address: string;
}

/** Something in the home directory, with the path from there. */
export interface SpaceItem {
  kind: 'folder' | 'file' | 'cache' | 'trash' | 'checkpoints';
  path: string;
  name: string;
  size: number;
}

export interface SpaceReport {
  /** The largest first. */
  items: SpaceItem[];
  complete: boolean;
  home: { bytes: Amount; files: Amount | null };
}

/** Makes a request to an address below the server's; rejects with what is wrong. */
export type Send = (method: string, address: string, body?: string) => Promise<Response>;

export class Api {
  /** By which the server knows this page. */
  readonly page = Array.from(crypto.getRandomValues(new Uint8Array(16)), byte =>
    byte.toString(16).padStart(2, '0')
  ).join('');

  constructor(private readonly send: Send) {}

  async usage(): Promise<Usage> {
    return (await this.send('GET', 'api/session/usage')).json() as Promise<Usage>;
  }

  async announcement(): Promise<Announcement> {
    return (await this.send('GET', 'api/session/announcement')).json() as Promise<Announcement>;
  }

  async recordActivity(): Promise<void> {
    await this.send('POST', 'api/session/activity');
  }

  async end(): Promise<End> {
    return (await this.send('GET', 'api/session/end')).json() as Promise<End>;
  }

  async stay(): Promise<void> {
    await this.send('POST', 'api/session/end');
  }

  async stop(): Promise<void> {
    await this.send('PUT', 'api/session/end');
  }

  /** Where the hub is asked about the server; nothing without a hub. */
  async stateAddress(): Promise<string> {
    const answer = await this.send('GET', 'api/session/hub');
    return ((await answer.json()) as { state: string }).state;
  }

  /** Resolves when no other page saves. */
  async beginSave(): Promise<void> {
    await this.send('PUT', `api/session/saves/${this.page}`);
  }

  /** Nothing is left to save: the server, which waits for that, may end. */
  async finishSave(): Promise<void> {
    await this.send('DELETE', `api/session/saves/${this.page}`);
  }

  async programs(): Promise<Program[]> {
    return (await this.send('GET', 'api/session/programs')).json() as Promise<Program[]>;
  }

  async shutDown(program: Program): Promise<void> {
    await this.send('DELETE', program.address);
  }

  async space(): Promise<SpaceReport> {
    return (await this.send('GET', 'api/session/space')).json() as Promise<SpaceReport>;
  }

  /** `name` is that in the trash, `left` how much could not be deleted. */
  async changeSpace(action: string, path: string): Promise<{ name?: string; left?: number }> {
    const answer = await this.send('POST', 'api/session/space', JSON.stringify({ action, path }));
    return answer.json() as Promise<{ name?: string; left?: number }>;
  }
}
