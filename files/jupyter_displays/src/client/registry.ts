/**
 * The protocols that displays speak, by the name that the server gives them.
 */

import type { ClientFactory } from './types';
import { createClient as createXpraClient } from './xpra';

export interface Protocol {
  /** Returns what makes a client. */
  load: () => Promise<ClientFactory>;
  /** The server gives the screen its size. Otherwise the client asks the engine, in the protocol. */
  resizedByServer: boolean;
}

export const PROTOCOLS = {
  // Part of the viewer, because most displays speak it.
  xpra: { load: () => Promise.resolve(createXpraClient), resizedByServer: true },
  rfb: { load: async () => (await import('./rfb')).createClient, resizedByServer: false }
} satisfies Record<string, Protocol>;
