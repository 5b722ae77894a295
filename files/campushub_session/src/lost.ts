/**
 * Asks the hub what has become of the server when that does not answer: it cannot say so itself.
 */

import type { Api, Condition } from './api';

/** Milliseconds that the server has to answer. */
const PATIENCE = 3_000;
/** Milliseconds until the hub is asked again about a server that does not answer, and about one that has just ended. */
const RETRY = 10_000;
const RETRY_SOON = 1_000;
/** Milliseconds between two questions where nothing is wrong: on a busy host all is slow. */
const INTERVAL = 5_000;
/** Of the proxy, when the server has gone. */
const GATEWAY_ERRORS = [502, 503, 504];

type Fetch<Input> = (input: Input, init?: RequestInit) => Promise<Response>;

export class LostServer {
  private address = '';
  /** When the hub may be asked again. */
  private next = 0;

  constructor(
    /** Told of what is wrong, and with nothing when it is well again. */
    private readonly show: (condition: Condition | null) => void
  ) {}

  /** Learn from the server, as long as it answers, whom to ask. */
  async learn(api: Api): Promise<void> {
    const address = await api.stateAddress();
    // The hub may have a name of its own.
    this.address = address && new URL(address, location.href).href;
  }

  /** The same requests, where one that fails, or takes long, is a reason to ask. */
  watched<Input>(request: Fetch<Input>): Fetch<Input> {
    return async (input, init) => {
      const timer = setTimeout(this.ask, PATIENCE);
      try {
        const answer = await request(input, init);
        if (GATEWAY_ERRORS.includes(answer.status)) {
          this.ask();
        }
        return answer;
      } catch (error) {
        this.ask();
        throw error;
      } finally {
        clearTimeout(timer);
      }
    };
  }

  readonly ask = (): void => {
    if (this.address && performance.now() >= this.next) {
      this.next = Infinity;
      void this.follow().finally(() => (this.next = performance.now() + INTERVAL));
    }
  };

  /** Ask until it is known how it ends. */
  private async follow(): Promise<void> {
    for (;;) {
      const condition = await this.condition();
      if (!condition?.reason) {
        this.show(null);
        return;
      }
      this.show(condition);
      if (condition.final) {
        return;
      }
      const delay = condition.reason === 'silent' ? RETRY : RETRY_SOON;
      await new Promise(resolve => setTimeout(resolve, delay));
    }
  }

  /** Nothing is also what a hub says that does not answer, or knows another run of the server. */
  private async condition(): Promise<Condition | null> {
    try {
      const answer = await fetch(this.address, { credentials: 'omit' });
      return answer.ok ? ((await answer.json()) as Condition) : null;
    } catch {
      return null;
    }
  }
}
