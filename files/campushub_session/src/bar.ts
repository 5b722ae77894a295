/**
 * The bar at the top of the page: what the user uses of their limits.
 */

import type { Usage } from './api';
import { type Format, type Level, level, levelOfTime } from './format';
import type { Translations } from './translation';

export class UsageBar {
  readonly node = document.createElement('div');
  /** When the server ends, by the clock of this page. */
  private ends: number | null = null;
  private usage: Usage | null = null;
  /** Whether the disk of the home directory has ever answered. */
  private hasHome = false;
  private readonly button = document.createElement('button');

  constructor(
    private readonly trans: Translations,
    private readonly format: Format,
    open: () => void
  ) {
    this.node.id = 'campushub-usage';
    this.node.className = 'campushub-Usage';
    this.node.hidden = true;
    this.button.type = 'button';
    this.button.title = trans.__('What you use of your limits. Click for what uses most.');
    this.button.addEventListener('click', open);
    this.node.append(this.button);
    setInterval(() => this.render(), 30_000);
  }

  showUsage(usage: Usage): void {
    this.usage = usage;
    this.hasHome ||= usage.home !== null;
    this.ends = usage.seconds_left === null ? null : performance.now() + usage.seconds_left * 1000;
    this.render();
  }

  private render(): void {
    const { trans, format, usage } = this;
    const items: [string, string, Level][] = [];
    if (usage?.memory) {
      items.push(['memory', trans.__('Memory %1', format.memory(usage.memory)), level(usage.memory)]);
    }
    if (usage?.cpu) {
      items.push(['cpu', trans.__('CPU %1', format.cpu(usage.cpu)), level(usage.cpu)]);
    }
    if (usage?.home) {
      items.push(['home', trans.__('Home %1', format.percent(usage.home)), level(usage.home)]);
    } else if (this.hasHome) {
      items.push(['home', trans.__('Home does not answer'), 'critical']);
    }
    if (usage?.home_files && level(usage.home_files)) {
      // Hardly anybody knows that there is such a limit, until it is near.
      const text = trans.__('Files in the home directory %1', format.percent(usage.home_files));
      items.push(['home-files', text, level(usage.home_files)]);
    }
    if (this.ends !== null) {
      const left = Math.max(0, (this.ends - performance.now()) / 1000);
      items.push(['time', trans.__('%1 left', format.duration(left)), levelOfTime(left)]);
    }
    this.button.replaceChildren(
      ...items.map(([part, text, level]) => {
        const item = document.createElement('span');
        item.textContent = text;
        item.dataset.part = part;
        item.dataset.level = level;
        return item;
      })
    );
    this.node.hidden = items.length === 0;
  }
}
