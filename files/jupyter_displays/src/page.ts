/**
 * A display in a browser tab of its own: the owner's, a share link's, or the whole server of `jupyterhub-desktop`.
 */

import { Api, type Display, Place, type Share, pageConnection } from './api';
import { Channel } from './client/channel';
import { translator } from './translation';
import { type Size, Viewer } from './viewer';

interface Config {
  baseUrl: string;
  display: Display;
  share: { mode: Share['mode']; url: string } | null;
}

function show(config: Config): void {
  const { share, display } = config;
  const connection = pageConnection(config.baseUrl);
  const api = share ? undefined : new Api(connection);
  const place = share ? new Place(connection, share.url) : api!.place(display.id);
  // First of all, for the way to the server takes longest.
  const channel = new Channel(place.stream);
  document.documentElement.lang = navigator.language;
  document.title = display.title;
  const viewer: Viewer = new Viewer({
    trans: translator(navigator.language),
    mode: share?.mode ?? 'owner',
    api,
    restart: api && (() => restart(api, display, viewer.size))
  });
  document.body.append(viewer.node);
  viewer.start(display, place, channel);
  viewer.focus();
}

/** The same anew, in place of the one that has ended. */
async function restart(api: Api, display: Display, size: Size): Promise<void> {
  const { application, title } = display;
  const created = await api.create({
    application,
    title,
    ...size,
    dpi: Math.round(96 * window.devicePixelRatio)
  });
  location.replace(created.url);
}

show(JSON.parse(document.getElementById('display-config')!.textContent) as Config);
