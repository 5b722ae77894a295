/**
 * Announces the end of the server over the page, lets people put it off, and says why it has come.
 */

import type { Api, Condition, End } from './api';
import type { Format } from './format';
import type { Saver } from './saving';
import { dismissButton, stack } from './stack';
import type { Translations } from './translation';

/** The hub's word for a server that runs and does not answer. */
const SILENT = 'silent';

export class EndBox {
  private readonly node = document.createElement('div');
  private readonly text = document.createElement('p');
  private readonly problem = document.createElement('p');
  private readonly stay = document.createElement('button');
  private readonly stop = document.createElement('button');
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
    const buttons = document.createElement('div');
    buttons.append(this.stay, this.stop);
    for (const button of [this.stay, this.stop]) {
      button.type = 'button';
      button.className = 'jp-Dialog-button jp-mod-styled';
    }
    this.stay.classList.add('jp-mod-accept');
    this.node.className = 'campushub-End';
    this.node.setAttribute('role', 'alert');
    const dismiss = dismissButton(trans, () => {
      this.dismissed = true;
      this.render();
    });
    this.node.append(dismiss, this.text, this.problem, buttons);
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

  /** What the hub says of a server that has gone without a word, or hangs; nothing when it is well again. */
  showLost(condition: Condition | null): void {
    if (condition) {
      const { reason, message } = condition;
      // As long as nothing else is known it may be dismissed.
      this.dismissed &&= this.end?.reason === reason && this.end.message === message;
      this.end = { reason, message, seconds_left: 0, stays: false };
    } else if (this.end?.reason === SILENT) {
      this.end = null;
    }
    this.render();
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
      case 'hub':
        return trans.__('The hub has stopped your server.');
      case 'ended':
        return message
          ? trans.__('Your server ended by itself. Its last words were: %1', message)
          : trans.__('Your server ended by itself.');
      case 'home':
        return trans.__('Your server ended while your home directory could not be used: %1', message);
      case SILENT:
        return message
          ? trans.__(
              'Your server does not answer, and your home directory cannot be used: %1. %2',
              message,
              this.patience()
            )
          : trans.__('Your server does not answer at the moment. %1', this.patience());
      case 'revoked':
        return trans.__('Your server was stopped because you may not use this service any more.');
      case 'memory':
        return trans.__('Your server has ended: it has used more memory than it may.');
      case 'time_limit':
        return trans.__('Your server has ended: the time that the cluster had given it was over.');
      case 'node':
        return trans.__('Your server has ended: the node on which it ran has failed.');
      case 'unreachable':
        return trans.__('Your server was stopped: it could not be reached any more on its node.');
      case 'cancelled':
        return trans.__('Your server has ended: its job in the cluster was cancelled.');
      case 'preempted':
        return trans.__('Your server has ended: its place in the cluster was given to other work.');
      case 'administrator':
        return message
          ? trans.__('An administrator has stopped your server: %1', message)
          : trans.__('An administrator has stopped your server.');
      default:
        return trans.__('Your server has ended.');
    }
  }

  private patience(): string {
    return this.saver ? this.trans.__('What you have typed is in this page: leave it open.') : '';
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
