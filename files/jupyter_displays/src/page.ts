/**
 * A display in a browser tab of its own: the owner's, a share link's, or the whole server of `jupyterhub-desktop`.
 */

import { Api, type Display, DisplayEndpoint, type Share, pageConnection } from './api';
import { Channel } from './client/channel';
import { translator } from './translation';
import { type Size, Viewer } from './viewer';

/** What the server writes into the page. */
interface Config {
  baseUrl: string;
  id: string;
  display: Display | null;
  mode: Share['mode'];
  /** Of a share link; the owner has none. */
  token?: string;
}

function show({ baseUrl, id, display, mode, token }: Config): void {
  const trans = translator(navigator.language);
  const connection = pageConnection(baseUrl);
  const api = token ? undefined : new Api(connection);
  const endpoint = token
    ? new DisplayEndpoint(connection, `${baseUrl}displays/shared/${token}`)
    : api!.endpoint(id);
  // First of all, for the way to the server takes longest.
  const channel = display && new Channel(endpoint.stream);
  document.documentElement.lang = navigator.language;
  const viewer: Viewer = new Viewer({
    trans,
    mode: token ? mode : 'owner',
    api,
    restart: api && (() => restart(api, display, viewer.size))
  });
  document.body.append(viewer.node);
  if (display && channel) {
    viewer.start(display, endpoint, channel);
    viewer.focus();
  } else {
    viewer.end(trans('There is no such display.'));
  }
}

/** Start the same again, in place of the one that has ended. */
async function restart(api: Api, display: Display | null, size: Size): Promise<void> {
  const like = display && { application: display.application, title: display.title };
  const created = await api.create({ ...like, ...size, dpi: Math.round(96 * window.devicePixelRatio) });
  location.replace(created.url);
}

show(JSON.parse(document.getElementById('display-config')!.textContent) as Config);
