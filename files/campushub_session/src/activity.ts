/**
 * Tells the server that somebody is at work at this page: requests do not say so, since the page makes some by itself.
 */

import type { Api } from './api';

/** Milliseconds between two such messages. */
const INTERVAL = 20_000;
const EVENTS = ['keydown', 'pointerdown', 'wheel'];

export function reportActivity(api: Api): void {
  let next = 0;
  const onInput = (): void => {
    if (performance.now() >= next) {
      next = performance.now() + INTERVAL;
      api.recordActivity().catch(() => (next = 0));
    }
  };
  for (const event of EVENTS) {
    // Also what a widget keeps for itself.
    document.addEventListener(event, onInput, { capture: true, passive: true });
  }
}
