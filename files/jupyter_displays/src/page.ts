/**
 * A display in a browser tab of its own: the owner's, a share link's, or the whole server of `jupyterhub-desktop`.
 */

import { Api, type Display, DisplayEndpoint, type Share, pageConnection } from './api';
import { Channel } from './client/channel';
import { element } from './dom';
import { ownTranslations } from './translation';
import { type Size, Viewer } from './viewer';

/** What the server writes into the page. */
interface Config {
  baseUrl: string;
  id: string;
  display: Display | null;
  mode: Share['mode'];
  /** The hub's page, where displays are all that it starts for the user. */
  home?: string;
  /** Of a share link; the owner has none. */
  token?: string;
}

/** In place of all that: why there is no page. */
interface Problem {
  problem: string;
}

function showProblem({ problem }: Problem): void {
  document.body.append(element('p', { className: 'jp-Display-problem', textContent: trans.__(problem) }));
}

function show({ baseUrl, id, display, mode, home, token }: Config): void {
  const connection = pageConnection(baseUrl);
  const api = token ? undefined : new Api(connection);
  const endpoint = token
    ? new DisplayEndpoint(connection, `${baseUrl}displays/shared/${token}`)
    : api!.endpoint(id);
  // First of all, for the way to the server takes longest.
  const channel = display && new Channel(endpoint.stream);
  const viewer: Viewer = new Viewer({
    trans,
    mode: token ? mode : 'owner',
    api,
    home,
    restart: api && (() => restart(api, display, viewer.size))
  });
  document.body.append(viewer.node);
  if (display && channel) {
    viewer.start(display, endpoint, channel);
    viewer.focus();
  } else {
    viewer.end(trans.__('There is no such display.'));
  }
}

/** Start the same again, in place of the one that has ended. */
async function restart(api: Api, display: Display | null, size: Size): Promise<void> {
  const like = display && { application: display.application, title: display.title };
  const created = await api.create({ ...like, ...size, dpi: Math.round(96 * window.devicePixelRatio) });
  location.replace(created.url);
}

const trans = ownTranslations(navigator.language);
document.documentElement.lang = navigator.language;
const config = JSON.parse(document.getElementById('display-config')!.textContent) as Config | Problem;
if ('problem' in config) {
  showProblem(config);
} else {
  show(config);
}
