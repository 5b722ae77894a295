/**
 * Announces the end of the server over the page, lets people put it off, and says why it has come.
 */

import type { Api, End } from './api';
import type { Format } from './format';
import type { Saver } from './saving';
import { stack } from './stack';
import type { Translations } from './translation';

export class EndBox {
  private readonly node = document.createElement('div');
  private readonly text = document.createElement('p');
  private readonly problem = document.createElement('p');
  private readonly stay = document.createElement('button');
  private readonly stop = document.createElement('button');
  private readonly dismiss = document.createElement('button');
  private dismissed = false;
  private end: End | null = null;
  /** By the clock of this page. */
  private moment = 0;

  constructor(
    private readonly api: Api,
    private readonly trans: Translations,
    private readonly format: Format,
    /** A page without documents has none: programs of a display are saved by nobody but their user. */
    private readonly saver: Saver | null,
    parent: HTMLElement = document.body
  ) {
    this.stay.textContent = trans.__('Stay longer');
    this.stay.addEventListener('click', () => this.ask(() => api.stay()));
    this.stop.textContent = saver ? trans.__('Save all and stop') : trans.__('Stop the server');
    this.stop.addEventListener('click', () => this.ask(() => this.saveAndStop()));
    this.dismiss.type = 'button';
    this.dismiss.className = 'campushub-End-dismiss';
    this.dismiss.textContent = '×';
    this.dismiss.title = trans.__('Dismiss');
    this.dismiss.setAttribute('aria-label', this.dismiss.title);
    this.dismiss.addEventListener('click', () => {
      this.dismissed = true;
      this.render();
    });
    const buttons = document.createElement('div');
    buttons.append(this.stay, this.stop);
    for (const button of [this.stay, this.stop]) {
      button.type = 'button';
      button.className = 'jp-Dialog-button jp-mod-styled';
    }
    this.stay.classList.add('jp-mod-accept');
    this.node.className = 'campushub-End';
    this.node.setAttribute('role', 'alert');
    this.node.append(this.dismiss, this.text, this.problem, buttons);
    this.node.hidden = true;
    stack(parent).append(this.node);
    setInterval(() => this.render(), 5_000);
  }

  /** Show what the server tells; with its next news it is shown again to those who have dismissed it. */
  show(end: End, news = true): void {
    this.end = end;
    this.dismissed &&= !news;
    this.moment = performance.now() + end.seconds_left * 1000;
    this.problem.textContent = '';
    this.render();
    if (end.reason && end.seconds_left === 0) {
      void this.answer();
    }
  }

  /** The server waits for it, also where there is nothing to save. */
  private async answer(): Promise<void> {
    if (this.saver) {
      this.tell(await this.saver.saveAll());
    } else {
      await this.api.finishSave().catch(() => undefined);
    }
  }

  private render(): void {
    const { end } = this;
    this.node.hidden = !end?.reason || this.dismissed;
    if (!end?.reason) {
      return;
    }
    const over = end.seconds_left === 0;
    this.text.textContent = over ? this.farewell(end) : [this.warning(end), this.advice()].join(' ').trim();
    this.stay.hidden = over || !end.stays;
    this.stop.hidden = over;
  }

  private warning(end: End): string {
    const { trans, format } = this;
    const left = format.duration(Math.max(60, (this.moment - performance.now()) / 1000));
    switch (end.reason) {
      case 'idle':
        return trans.__('Nothing has happened here for a long time. Your server stops in %1.', left);
      case 'maintenance':
        return trans.__('Maintenance begins. Your server stops in %1.', left);
      default:
        return trans.__('The time that a server has is nearly over. Yours stops in %1.', left);
    }
  }

  private advice(): string {
    return this.saver ? '' : this.trans.__('Save your work in the programs that are open.');
  }

  private farewell({ reason, message }: End): string {
    const { trans } = this;
    switch (reason) {
      case 'idle':
        return trans.__('Your server was stopped because nothing happened there for a long time.');
      case 'max_age':
        return trans.__('Your server was stopped because the time that a server has was over.');
      case 'maintenance':
        return trans.__('Your server was stopped for maintenance.');
      case 'self':
        return trans.__('You have stopped your server.');
      case 'reboot':
        return trans.__('Your server ends because its host is restarted or switched off.');
      case 'revoked':
        return trans.__('Your server was stopped because you may not use this service any more.');
      default:
        return message
          ? trans.__('An administrator has stopped your server: %1', message)
          : trans.__('An administrator has stopped your server.');
    }
  }

  private async saveAndStop(): Promise<void> {
    const failed = (await this.saver?.saveAll()) ?? [];
    if (failed.length > 0) {
      this.tell(failed);
      return;
    }
    await this.api.stop();
  }

  private tell(failed: string[]): void {
    if (failed.length > 0) {
      this.problem.textContent = this.trans.__('Not saved: %1', failed.join(', '));
    }
  }

  /** Do what a button says, once, and show what is wrong with it. */
  private ask(action: () => Promise<unknown>): void {
    this.stay.disabled = this.stop.disabled = true;
    action()
      .catch((error: unknown) => {
        this.problem.textContent = error instanceof Error ? error.message : String(error);
      })
      .finally(() => {
        this.stay.disabled = this.stop.disabled = false;
      });
  }
}
