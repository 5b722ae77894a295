/**
 * Shows what administrators announce over the page, from and until its times, unless it was dismissed in this browser.
 */

import type { Announcement } from './api';
import { dismissButton, stack } from './stack';
import type { Translations } from './translation';

/** The hub's pages, which have the same address, use it as well. */
const DISMISSED = 'campushub-announcement';
/** What a timer can wait. */
const LONGEST_WAIT = 24 * 3600 * 1000;

export class AnnouncementBox {
  private readonly node = document.createElement('div');
  private readonly text = document.createElement('span');
  private current: Announcement | null = null;
  private timer = 0;

  constructor(
    trans: Translations,
    private readonly language: string,
    parent: HTMLElement = document.body
  ) {
    const dismiss = dismissButton(trans, () => {
      localStorage.setItem(DISMISSED, this.current?.id ?? '');
      this.render();
    });
    this.node.className = 'campushub-Announcement';
    this.node.setAttribute('role', 'status');
    this.node.append(this.text, dismiss);
    this.node.hidden = true;
    stack(parent).append(this.node);
    // Dismissed in another page.
    window.addEventListener('storage', () => this.current && this.render());
  }

  show(announcement: Announcement): void {
    this.current = announcement;
    this.render();
  }

  private render(): void {
    const { id, texts, from, until } = this.current!;
    const now = Date.now() / 1000;
    const [language] = this.language.toLowerCase().split('-');
    this.text.textContent = texts[language] ?? texts[''] ?? '';
    this.node.hidden =
      !this.text.textContent ||
      localStorage.getItem(DISMISSED) === id ||
      now < (from ?? 0) ||
      now >= (until ?? Infinity);
    const next = [from ?? 0, until ?? 0].filter(time => time > now);
    clearTimeout(this.timer);
    if (next.length > 0) {
      const wait = Math.min((Math.min(...next) - now) * 1000, LONGEST_WAIT);
      this.timer = window.setTimeout(() => this.render(), wait);
    }
  }
}
