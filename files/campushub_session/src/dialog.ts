/**
 * JupyterLab's dialog with what uses most of the user's limits.
 */

import { Dialog, showDialog } from '@jupyterlab/apputils';
import { PageConfig, URLExt } from '@jupyterlab/coreutils';
import { Widget } from '@lumino/widgets';

import type { Api } from './api';
import type { Format } from './format';
import { ProgramsBody } from './programs';
import type { Translations } from './translation';

/** Where JupyterHub has the page, if there is a hub. */
function limitsPage(): string | undefined {
  const prefix = PageConfig.getOption('hubPrefix');
  return prefix ? URLExt.join(PageConfig.getOption('hubHost') || '/', prefix, 'limits') : undefined;
}

export async function showPrograms(
  api: Api,
  trans: Translations,
  format: Format,
  showSpace: () => Promise<void>
): Promise<void> {
  const space = Dialog.createButton({ label: trans.__('What takes the space') });
  const { button } = await showDialog({
    title: trans.__('What you run'),
    body: new Widget({ node: new ProgramsBody(api, trans, format, limitsPage()).node }),
    buttons: [space, Dialog.okButton({ label: trans.__('Close') })]
  });
  if (button.label === space.label) {
    await showSpace();
  }
}
