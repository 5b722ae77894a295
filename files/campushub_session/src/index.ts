/**
 * What users use of their limits, why a kernel ended, and what administrators announce, in JupyterLab and in Jupyter Notebook.
 */

import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { URLExt } from '@jupyterlab/coreutils';
import { IDocumentManager } from '@jupyterlab/docmanager';
import { INotebookTracker } from '@jupyterlab/notebook';
import { ServerConnection } from '@jupyterlab/services';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';
import { Widget } from '@lumino/widgets';

import { reportActivity } from './activity';
import { AnnouncementBox } from './announcement';
import {
  ANNOUNCEMENT,
  type Announcement,
  Api,
  END,
  type End,
  OUT_OF_MEMORY,
  type OutOfMemory,
  type Send,
  USAGE,
  type Usage
} from './api';
import { UsageBar } from './bar';
import { showPrograms } from './dialog';
import { EndBox } from './end';
import { EndReporter } from './ended';
import { Format } from './format';
import { LostServer } from './lost';
import { Saver } from './saving';
import { SpaceGuard } from './space';
import { type Translations, fill, ownTranslations } from './translation';

const plugin: JupyterFrontEndPlugin<void> = {
  id: 'campushub-session:plugin',
  description: 'What users use of their limits, and why a kernel ended.',
  autoStart: true,
  optional: [INotebookTracker, ITranslator, IDocumentManager],
  activate
};

function activate(
  app: JupyterFrontEnd,
  notebooks: INotebookTracker | null,
  maybeTranslator: ITranslator | null,
  documents: IDocumentManager | null
): void {
  const translator = maybeTranslator ?? nullTranslator;
  const { serverSettings, events } = app.serviceManager;
  const trans = loadTranslations(translator);
  const format = new Format(trans, translator.languageCode);
  const lost: LostServer = new LostServer(condition => end.showLost(condition));
  // All requests of the page; its parts have these settings in common.
  Object.assign(serverSettings, { fetch: lost.watched(serverSettings.fetch) });
  const api = new Api(sender(serverSettings));
  const space = new SpaceGuard(api, trans, format);
  const open = (): void => void showPrograms(api, trans, format, space.open);
  const kills = new EndReporter(notebooks, trans, format, translator, open);
  const bar = new UsageBar(trans, format, open);
  app.shell.add(new Widget({ node: bar.node }), 'top', { rank: 1000 });
  const announcements = new AnnouncementBox(trans, translator.languageCode);
  const end = new EndBox(api, trans, format, new Saver(app, documents, api, trans, translator));
  const showUsage = (usage: Usage): void => {
    bar.showUsage(usage);
    space.check(usage);
  };
  const refresh = (): void => {
    Promise.all([api.usage(), api.announcement(), api.end()])
      .then(([usage, announcement, state]) => {
        showUsage(usage);
        announcements.show(announcement);
        end.show(state, false);
      })
      .catch((error: unknown) => {
        console.warn('Limits and announcements are not known.', error);
      });
  };
  lost.learn(api).catch(() => console.warn('This server does not say where its hub is.'));
  events.stream.connect((_, emission) => {
    if (emission.schema_id === USAGE) {
      showUsage(emission as unknown as Usage);
    } else if (emission.schema_id === OUT_OF_MEMORY) {
      kills.report(emission as unknown as OutOfMemory);
    } else if (emission.schema_id === ANNOUNCEMENT) {
      announcements.show(emission as unknown as Announcement);
    } else if (emission.schema_id === END) {
      end.show(emission as unknown as End);
    }
  });
  refresh();
  reportActivity(api);
  // What happened while nobody listened, as when a laptop slept.
  document.addEventListener('visibilitychange', () => {
    if (!document.hidden) {
      refresh();
    }
  });
}

/** With the login of JupyterLab. */
function sender(settings: ServerConnection.ISettings): Send {
  return async (method, address, body) => {
    const url = URLExt.join(settings.baseUrl, address);
    const response = await ServerConnection.makeRequest(url, { method, body }, settings);
    if (!response.ok) {
      throw await ServerConnection.ResponseError.create(response);
    }
    return response;
  };
}

/** JupyterLab's translations, or our own where it has none. */
function loadTranslations(translator: ITranslator): Translations {
  const bundle = translator.load('campushub_session');
  const own = ownTranslations(translator.languageCode);
  return {
    __: (sentence, ...values) => {
      const theirs = bundle.__(sentence, ...values);
      return theirs === fill(sentence, values) ? own.__(sentence, ...values) : theirs;
    }
  };
}

export default plugin;
