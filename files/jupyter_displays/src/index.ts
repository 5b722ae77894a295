/**
 * Displays in JupyterLab and in Jupyter Notebook: launcher, menus, palette, the list of what runs, and tabs.
 */

import {
  ILabShell,
  ILayoutRestorer,
  type JupyterFrontEnd,
  type JupyterFrontEndPlugin
} from '@jupyterlab/application';
import {
  Dialog,
  ICommandPalette,
  InputDialog,
  WidgetTracker,
  showDialog,
  showErrorMessage
} from '@jupyterlab/apputils';
import { IDefaultFileBrowser } from '@jupyterlab/filebrowser';
import { ILauncher } from '@jupyterlab/launcher';
import { IRunningSessionManagers } from '@jupyterlab/running';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';
import { LabIcon, closeIcon } from '@jupyterlab/ui-components';
import type { CommandRegistry } from '@lumino/commands';

import displaySvg from '../style/display.svg';
import { DisplayManager } from './manager';
import { addNewMenu } from './newmenu';
import { ITEM_CLASS, addDisplayRunningSessionManager } from './running';
import { type Translations, fill, ownTranslations } from './translation';
import { DisplayWidget, type ViewerModule } from './widget';

const PLUGIN = 'jupyter-displays:plugin';
/** What the toolbar takes of the height of a tab. */
const TOOLBAR = 28;
const displayIcon = new LabIcon({ name: 'jupyter-displays:display', svgstr: displaySvg });

const Commands = {
  new: 'displays:new',
  open: 'displays:open',
  openInBrowserTab: 'displays:open-in-browser-tab',
  rename: 'displays:rename',
  shutDown: 'displays:shut-down',
  shutDownAll: 'displays:shut-down-all'
} as const;

interface Arguments {
  application?: string;
  id?: string;
  /** From the menu of an item in the list of what runs. */
  ofItem?: boolean;
  isLauncher?: boolean;
  isMenu?: boolean;
  isPalette?: boolean;
}

const plugin: JupyterFrontEndPlugin<void> = {
  id: PLUGIN,
  description: 'Linux desktops and applications beside notebooks.',
  autoStart: true,
  optional: [
    ILabShell,
    ILayoutRestorer,
    ICommandPalette,
    ILauncher,
    IRunningSessionManagers,
    IDefaultFileBrowser,
    ITranslator
  ],
  activate
};

function activate(
  app: JupyterFrontEnd,
  lab: ILabShell | null,
  restorer: ILayoutRestorer | null,
  palette: ICommandPalette | null,
  launcher: ILauncher | null,
  running: IRunningSessionManagers | null,
  browser: IDefaultFileBrowser | null,
  translator: ITranslator | null
): void {
  const { commands, serviceManager } = app;
  const trans = loadTranslations(translator ?? nullTranslator);
  const displays = new DisplayManager(serviceManager.serverSettings, serviceManager.events);
  const tracker = new WidgetTracker<DisplayWidget>({ namespace: 'displays' });
  // The code that shows a display is not needed until there is one.
  let viewer: Promise<ViewerModule> | null = null;
  const load = (): Promise<ViewerModule> => (viewer ??= import('./viewer'));

  const report = (error: unknown): void => {
    void showErrorMessage(trans.__('Displays'), error instanceof Error ? error.message : String(error));
  };
  /** The display that a command applies to: named, under the context menu, or in the current tab. */
  const resolveTarget = (args: Arguments): string => {
    const item = args.ofItem
      ? app.contextMenuHitTest(node => node.classList.contains(ITEM_CLASS))
      : undefined;
    const named =
      item?.dataset.context ?? item?.querySelector<HTMLElement>('[data-context]')?.dataset.context;
    return args.id ?? named ?? tracker.currentWidget?.displayId ?? '';
  };
  const title = (id: string): string => displays.get(id)?.title ?? `display/${id}`;

  const addTab = (wanted: { id: string } | { application: string }): DisplayWidget => {
    const widget = new DisplayWidget(displays, trans, load, wanted);
    widget.title.icon = displayIcon;
    widget.named.connect(() => void tracker.save(widget));
    app.shell.add(widget, 'main');
    void tracker.add(widget);
    app.shell.activateById(widget.id);
    return widget;
  };
  /** Returns the tab that takes the place of the launcher. */
  const create = async (application: string): Promise<DisplayWidget | undefined> => {
    if (lab) {
      return addTab({ application });
    }
    // In a tab of its own, which has to be opened at once to be allowed to.
    const tab = window.open('about:blank', '_blank');
    try {
      const width = Math.floor(window.innerWidth * window.devicePixelRatio);
      const height = Math.floor((window.innerHeight - TOOLBAR) * window.devicePixelRatio);
      const dpi = Math.round(96 * window.devicePixelRatio);
      const display = await displays.api.create({ application, width, height, dpi });
      displays.update({ action: 'created', display });
      if (tab) {
        tab.location.replace(display.url);
      } else {
        window.location.assign(display.url);
      }
    } catch (error) {
      tab?.close();
      report(error);
    }
    return undefined;
  };
  const openInBrowserTab = (id: string): void => {
    const { baseUrl } = serviceManager.serverSettings;
    window.open(displays.get(id)?.url ?? `${baseUrl}displays/${id}`, `display-${id}`);
  };

  addCommands(commands, trans, displays, {
    resolveTarget,
    create,
    open: id => {
      if (!lab) {
        openInBrowserTab(id);
        return undefined;
      }
      const there = tracker.find(widget => widget.displayId === id);
      if (there) {
        app.shell.activateById(there.id);
      }
      return there ?? addTab({ id });
    },
    openInBrowserTab,
    report,
    title
  });

  if (restorer) {
    void restorer.restore(tracker, {
      command: Commands.open,
      args: widget => ({ id: widget.displayId }),
      name: widget => widget.displayId,
      when: app.serviceManager.ready
    });
  }
  if (running) {
    addDisplayRunningSessionManager(running, displays, trans, displayIcon, (action, id) => {
      if (action === 'shutDownAll') {
        displays.api.shutDownAll().catch(report);
      } else if (action === 'shutDown') {
        displays.api.shutDown(id!).catch(report);
      } else {
        void commands.execute(Commands.open, { id });
      }
    });
  }
  const category = trans.__('Displays');
  if (palette) {
    [Commands.openInBrowserTab, Commands.rename, Commands.shutDown, Commands.shutDownAll].forEach(command =>
      palette.addItem({ command, category })
    );
  }
  const added = new Set<string>();
  const addLauncherItems = (): void => {
    displays.applications.forEach(({ id }, rank) => {
      if (!added.has(id)) {
        added.add(id);
        launcher?.add({
          command: Commands.new,
          args: { application: id, isLauncher: true },
          category,
          categoryRank: 50,
          rank
        });
        palette?.addItem({ command: Commands.new, args: { application: id, isPalette: true }, category });
      }
    });
  };
  displays.changed.connect((_, event) => event ?? addLauncherItems());
  if (browser && !lab) {
    addNewMenu(browser, serviceManager.kernelspecs, displays, Commands.new);
  }
  displays.refresh().catch((error: unknown) => {
    console.warn('Displays are not available.', error);
  });
  if (lab) {
    void app.restored.then(() => {
      // Safari knows no idle time.
      if ('requestIdleCallback' in window) {
        window.requestIdleCallback(() => void load());
      } else {
        setTimeout(() => void load(), 1_000);
      }
    });
  }
}

interface Actions {
  resolveTarget: (args: Arguments) => string;
  create: (application: string) => Promise<DisplayWidget | undefined>;
  open: (id: string) => DisplayWidget | undefined;
  openInBrowserTab: (id: string) => void;
  report: (error: unknown) => void;
  title: (id: string) => string;
}

function addCommands(
  commands: CommandRegistry,
  trans: Translations,
  displays: DisplayManager,
  actions: Actions
): void {
  const { resolveTarget, create, open, openInBrowserTab, report, title } = actions;
  const add = (id: string, label: string, execute: (id: string) => unknown): void => {
    commands.addCommand(id, {
      label: args => {
        const display = resolveTarget(args);
        return display && (args as Arguments).isPalette ? `${label} (${title(display)})` : label;
      },
      isEnabled: args => resolveTarget(args) !== '',
      describedBy: { args: { type: 'object', properties: { id: { type: 'string' } } } },
      execute: args => execute(resolveTarget(args))
    });
  };
  commands.addCommand(Commands.new, {
    label: args => {
      const { application, isLauncher, isPalette, isMenu } = args as Arguments;
      const name = displays.applications.find(({ id }) => id === application)?.title ?? trans.__('Display');
      if (isPalette) {
        return trans.__('New display: %1', name);
      }
      return isLauncher ? name : application && isMenu ? trans.__('Display: %1', name) : trans.__('Display');
    },
    caption: args => {
      const { application } = args as Arguments;
      return (
        displays.applications.find(({ id }) => id === application)?.description || trans.__('Start a display')
      );
    },
    icon: args => ((args as Arguments).isPalette ? undefined : displayIcon),
    describedBy: { args: { type: 'object', properties: { application: { type: 'string' } } } },
    execute: args => create((args as Arguments).application ?? displays.applications[0]?.id ?? 'desktop')
  });
  add(Commands.open, trans.__('Open display'), open);
  add(Commands.openInBrowserTab, trans.__('Open display in a browser tab'), openInBrowserTab);
  add(Commands.rename, trans.__('Rename display…'), async id => {
    const answer = await InputDialog.getText({ title: trans.__('Rename display'), text: title(id) });
    if (answer.button.accept && answer.value) {
      await displays.api.rename(id, answer.value).catch(report);
    }
  });
  add(Commands.shutDown, trans.__('Shut down display'), async id => {
    const answer = await showDialog({
      title: trans.__('Shut down %1?', title(id)),
      body: trans.__('Shut down this display and the programs in it?'),
      buttons: [Dialog.cancelButton(), Dialog.warnButton({ label: trans.__('Shut down') })]
    });
    if (answer.button.accept) {
      await displays.api.shutDown(id).catch(report);
    }
  });
  commands.addCommand(Commands.shutDownAll, {
    label: trans.__('Shut down all displays'),
    icon: closeIcon,
    describedBy: { args: { type: 'object', properties: {} } },
    execute: async () => {
      const answer = await showDialog({
        title: trans.__('Shut down all displays?'),
        body: trans.__('Shut down all displays and the programs in them?'),
        buttons: [Dialog.cancelButton(), Dialog.warnButton({ label: trans.__('Shut down all') })]
      });
      if (answer.button.accept) {
        await displays.api.shutDownAll().catch(report);
      }
    }
  });
}

/** JupyterLab's translations, or our own where it has none. */
function loadTranslations(translator: ITranslator): Translations {
  const bundle = translator.load('jupyter_displays');
  const own = ownTranslations(translator.languageCode);
  return {
    __: (sentence, ...values) => {
      const theirs = bundle.__(sentence, ...values);
      return theirs === fill(sentence, values) ? own.__(sentence, ...values) : theirs;
    }
  };
}

export default plugin;
