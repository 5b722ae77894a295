/**
 * Says in the page that a kernel or a program was killed for want of memory: at the cell that ran, and in place of the
 * dialog in which a kernel "appears to have died".
 */

import { Dialog, Notification } from '@jupyterlab/apputils';
import { type Cell, CodeCell } from '@jupyterlab/cells';
import {
  type INotebookTracker,
  type Notebook,
  NotebookActions,
  type NotebookPanel
} from '@jupyterlab/notebook';
import type { ITranslator } from '@jupyterlab/translation';

import type { OutOfMemory } from './api';
import type { Format } from './format';
import { advice, headline } from './kill';
import type { Translations } from './translation';

/** The dialog comes within these milliseconds of the kernel's end, or earlier. */
const DIALOG_DELAY = 15_000;
/** JupyterLab's own, which its language packs translate. */
const DIED = 'The kernel for %1 appears to have died. It will restart automatically.';

export class EndReporter {
  /** Cells that run or wait for it, in their order. */
  private readonly running = new Map<Notebook, Set<Cell>>();
  /** What was told lately, by the path of the notebook. */
  private readonly told = new Map<string, OutOfMemory>();

  constructor(
    private readonly notebooks: INotebookTracker | null,
    private readonly trans: Translations,
    private readonly format: Format,
    private readonly translator: ITranslator,
    private readonly open: () => void
  ) {
    NotebookActions.executionScheduled.connect((_, { notebook, cell }) => {
      this.running.set(notebook, (this.running.get(notebook) ?? new Set()).add(cell));
    });
    NotebookActions.executed.connect((_, { notebook, cell }) => {
      this.running.get(notebook)?.delete(cell);
    });
    Dialog.tracker.widgetAdded.connect((_, dialog) => this.replaceDialog(dialog));
  }

  report(event: OutOfMemory): void {
    const panels: NotebookPanel[] = [];
    this.notebooks?.forEach(panel => {
      if (event.kernel_id && panel.sessionContext.session?.kernel?.id === event.kernel_id) {
        panels.push(panel);
      }
    });
    panels.forEach(panel => this.reportIn(panel, event));
    if (panels.length === 0) {
      // Notifications are cut off after 140 characters.
      const [used] = advice(this.trans, this.format, event);
      const actions = [{ label: this.trans.__('What you run'), callback: this.open }];
      Notification.error(`${headline(this.trans, event)} ${used}`, { autoClose: false, actions });
    }
  }

  private reportIn(panel: NotebookPanel, event: OutOfMemory): void {
    const path = panel.context.path;
    this.told.set(path, event);
    setTimeout(() => this.told.delete(path), DIALOG_DELAY);
    const [cell] = this.running.get(panel.content) ?? [];
    if (cell instanceof CodeCell) {
      cell.outputArea.model.add({
        output_type: 'error',
        ename: 'OutOfMemory',
        evalue: headline(this.trans, event),
        traceback: [
          `\u001b[0;31m${headline(this.trans, event)}\u001b[0m`,
          ...advice(this.trans, this.format, event)
        ]
      });
    }
    Dialog.tracker.forEach(dialog => this.replaceDialog(dialog));
  }

  private replaceDialog(dialog: Dialog<unknown>): void {
    const body = dialog.node.querySelector('.jp-Dialog-body');
    for (const [path, event] of this.told) {
      if (body?.textContent === this.diedSentence(path)) {
        body.textContent = [headline(this.trans, event), ...advice(this.trans, this.format, event)].join(' ');
      }
    }
  }

  /** JupyterLab's sentence about a kernel that ended, of which it does not know why. */
  private diedSentence(path: string): string {
    return this.translator.load('jupyterlab').__(DIED, path);
  }
}
