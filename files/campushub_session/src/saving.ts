/**
 * Saves what is open in this page and has not been saved, before the server ends. Nobody may be there to answer a
 * question: what has changed on the disk meanwhile is kept, and the text of this page goes into a file beside it.
 */

import type { JupyterFrontEnd } from '@jupyterlab/application';
import { PathExt } from '@jupyterlab/coreutils';
import type { IDocumentManager } from '@jupyterlab/docmanager';
import type { DocumentRegistry } from '@jupyterlab/docregistry';
import type { Contents } from '@jupyterlab/services';

import type { Api } from './api';
import type { Translations } from './translation';

export class Saver {
  /** By which the server knows this page. */
  private readonly page = Array.from(crypto.getRandomValues(new Uint8Array(16)), byte =>
    byte.toString(16)
  ).join('');
  private running: Promise<string[]> | null = null;

  constructor(
    private readonly app: JupyterFrontEnd,
    private readonly documents: IDocumentManager | null,
    private readonly api: Api,
    private readonly trans: Translations
  ) {}

  /** Save all, while the server waits for it; return the names of those that could not be saved. */
  async saveAll(): Promise<string[]> {
    this.running ??= this.save().finally(() => (this.running = null));
    return this.running;
  }

  private async save(): Promise<string[]> {
    const contexts = this.unsaved();
    if (contexts.length === 0) {
      return [];
    }
    await this.api.beginSave(this.page).catch(warn);
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
      await this.api.finishSave(this.page).catch(warn);
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

  private async saveOne(context: DocumentRegistry.Context): Promise<void> {
    const { contents } = this.app.serviceManager;
    const known = context.contentsModel;
    const onDisk = await contents.get(context.path, { content: false, hash: true }).catch(() => null);
    if (!known || !onDisk || !changed(known, onDisk)) {
      await context.save();
      return;
    }
    const notebook = known.type === 'notebook';
    await contents.save(this.nameOfCopy(context.path), {
      type: known.type,
      format: notebook ? 'json' : 'text',
      content: notebook ? context.model.toJSON() : context.model.toString()
    });
  }

  private nameOfCopy(path: string): string {
    const extension = PathExt.extname(path);
    const time = new Date().toISOString().slice(0, 19).replace(/:/g, '-');
    const stem = path.slice(0, path.length - extension.length);
    return this.trans.__('%1 (unsaved %2)', stem, time) + extension;
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
