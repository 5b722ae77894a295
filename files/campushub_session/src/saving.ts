/**
 * Saves what is open in this page and has not been saved, before the server ends. Nobody may be there to answer a
 * question: what has changed on the disk meanwhile is kept, and the text of this page goes into a file beside it.
 */

import type { JupyterFrontEnd } from '@jupyterlab/application';
import { Dialog } from '@jupyterlab/apputils';
import { PathExt } from '@jupyterlab/coreutils';
import type { IDocumentManager } from '@jupyterlab/docmanager';
import type { DocumentRegistry } from '@jupyterlab/docregistry';
import type { Contents } from '@jupyterlab/services';
import type { ITranslator } from '@jupyterlab/translation';
import type { Widget } from '@lumino/widgets';

import type { Api } from './api';
import type { Translations } from './translation';

/** JupyterLab's own title of its question, which its language packs translate. */
const CHANGED = 'File Changed';
/** Milliseconds for a save that JupyterLab has begun; one that asks a question does not end. */
const OWN_SAVE = 2_000;

export class Saver {
  private running: Promise<string[]> | null = null;
  /** Whether JupyterLab saves a document. */
  private readonly underWay = new WeakMap<DocumentRegistry.Context, boolean>();

  constructor(
    private readonly app: JupyterFrontEnd,
    private readonly documents: IDocumentManager | null,
    private readonly api: Api,
    private readonly trans: Translations,
    private readonly translator: ITranslator
  ) {
    app.shell.currentChanged?.connect((_, { newValue }) => this.watch(newValue));
  }

  /** Save all, while the server waits for it; return the names of those that could not be saved. */
  async saveAll(): Promise<string[]> {
    this.running ??= this.save().finally(() => (this.running = null));
    return this.running;
  }

  private async save(): Promise<string[]> {
    const contexts = this.unsaved();
    if (contexts.length > 0) {
      await this.api.beginSave().catch(warn);
    }
    try {
      const saved = await Promise.all(
        contexts.map(context =>
          this.saveOne(context).then(
            () => true,
            (error: unknown) => {
              warn(error);
              return false;
            }
          )
        )
      );
      return contexts.filter((_, index) => !saved[index]).map(context => PathExt.basename(context.path));
    } finally {
      await this.api.finishSave().catch(warn);
    }
  }

  private unsaved(): DocumentRegistry.Context[] {
    const found = new Set<DocumentRegistry.Context>();
    for (const widget of this.app.shell.widgets('main')) {
      const context = this.documents?.contextForWidget(widget);
      if (context?.model.dirty && !context.model.readOnly) {
        found.add(context);
      }
    }
    return [...found];
  }

  private watch(widget: Widget | null): void {
    const context = widget && this.documents?.contextForWidget(widget);
    if (context && !this.underWay.has(context)) {
      this.underWay.set(context, false);
      context.saveState.connect((_, state) => this.underWay.set(context, state === 'started'));
    }
  }

  private async saveOne(context: DocumentRegistry.Context): Promise<void> {
    const { contents } = this.app.serviceManager;
    // It changes the file before this page knows.
    for (let waited = 0; this.underWay.get(context) && waited < OWN_SAVE; waited += 100) {
      await new Promise(resolve => setTimeout(resolve, 100));
    }
    if (!context.model.dirty) {
      return;
    }
    const known = context.contentsModel;
    const onDisk = await contents.get(context.path, { content: false, hash: true }).catch(() => null);
    const mayReplace = !known || !onDisk || !changed(known, onDisk);
    if (mayReplace && (await this.saveUnasked(context))) {
      return;
    }
    const notebook = known?.type === 'notebook';
    await contents.save(this.nameOfCopy(context.path), {
      type: known?.type ?? 'file',
      format: notebook ? 'json' : 'text',
      content: notebook ? context.model.toJSON() : context.model.toString()
    });
  }

  /** Save as JupyterLab does; return whether it did so, and did not have to ask what to do. */
  private async saveUnasked(context: DocumentRegistry.Context): Promise<boolean> {
    const title = this.translator.load('jupyterlab').__(CHANGED);
    let asked = false;
    const refuse = (_: unknown, dialog: Dialog<unknown>): void => {
      // Its title and its text; the title itself is not there yet.
      if (dialog.node.ariaLabel?.startsWith(title)) {
        asked = true;
        // Once it is under way.
        queueMicrotask(() => dialog.reject());
      }
    };
    Dialog.tracker.widgetAdded.connect(refuse);
    try {
      await context.save();
    } catch (error) {
      if (!asked) {
        throw error;
      }
    } finally {
      Dialog.tracker.widgetAdded.disconnect(refuse);
    }
    return !asked;
  }

  private nameOfCopy(path: string): string {
    const extension = PathExt.extname(path);
    const time = new Date().toISOString().slice(0, 19).replace(/:/g, '-');
    // Two pages may have the same document.
    const moment = `${time}-${this.api.page.slice(0, 4)}`;
    const stem = path.slice(0, path.length - extension.length);
    return this.trans.__('%1 (unsaved %2)', stem, moment) + extension;
  }
}

/** As JupyterLab sees it, which would ask what to do. */
function changed(known: Omit<Contents.IModel, 'content'>, onDisk: Contents.IModel): boolean {
  if (known.hash && onDisk.hash) {
    return known.hash !== onDisk.hash;
  }
  return Date.parse(onDisk.last_modified) - Date.parse(known.last_modified) > 500;
}

function warn(error: unknown): void {
  console.warn('Before the end of the server, something was not saved.', error);
}
