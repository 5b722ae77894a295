#!/bin/sh
# JupyterHub 6.1.1: "Stop Server" on the page of a named server that is starting stops the default server instead.
#
# The page /hub/spawn-pending/USER/NAME has a button that calls api.stop_server(USER), the call for the default server. That
# one ends with whatever runs in it, the page says "Server stopped successfully!", and the named server goes on starting. If
# no default server runs the page says the same, and nothing is stopped.
#
# Seen with JupyterHub 6.1.1, configurable-http-proxy 5.3.0, SimpleLocalProcessSpawner, the page run by jsdom 26.1.0:
# "before: default runs, second starts; the page: Server stopped successfully!; after: default gone, second starts".
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check jupyterhub==6.1.1 jupyter_server==2.21.1
npm install --silent --no-audit --no-fund --prefix "$folder/node" configurable-http-proxy@5.3.0 jsdom@26.1.0
cd "$folder"
cat >jupyterhub_config.py <<'PYTHON'
import asyncio

from jupyterhub.spawner import SimpleLocalProcessSpawner


class UnhurriedSpawner(SimpleLocalProcessSpawner):
    async def start(self):
        if self.name:
            await asyncio.sleep(50)
        return await super().start()


c.JupyterHub.bind_url = "http://127.0.0.1:28871"
c.JupyterHub.hub_port = 28872
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:28873"
c.JupyterHub.cleanup_servers = True
c.JupyterHub.authenticator_class = "dummy"
c.DummyAuthenticator.password = "a password for this test"
c.Authenticator.allow_all = True
c.JupyterHub.allow_named_servers = True
c.JupyterHub.spawner_class = UnhurriedSpawner
c.JupyterHub.tornado_settings = {"slow_spawn_timeout": 1}
c.Spawner.args = ["--allow-root"]
c.JupyterHub.services = [{"name": "test", "api_token": "0123456789abcdef0123456789abcdef"}]
c.JupyterHub.load_roles = [{"name": "test", "scopes": ["admin:users", "admin:servers"], "services": ["test"]}]
PYTHON
cat >node/page.js <<'JAVASCRIPT'
const { CookieJar, JSDOM } = require('jsdom');

const hub = 'http://127.0.0.1:28871/hub';
const pause = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds));

async function api(method, path) {
  const headers = { Authorization: 'token 0123456789abcdef0123456789abcdef' };
  const answer = await fetch(`${hub}/api${path}`, { method, headers }).catch(() => undefined);
  const text = (await answer?.text()) ?? '';
  return { status: answer?.status ?? 0, body: text.startsWith('{') || text.startsWith('[') ? JSON.parse(text) : {} };
}

// What each server does, as the API has it.
async function servers() {
  const user = (await api('GET', '/users/ann')).body;
  const state = name => {
    const server = user.servers?.[name];
    return server?.ready ? 'runs' : server?.pending === 'spawn' ? 'starts' : 'gone';
  };
  return `default ${state('')}, second ${state('second')}`;
}

async function until(what) {
  for (let second = 0; second < 60; second++) {
    if (await what()) {
      return;
    }
    await pause(1000);
  }
  throw new Error(`waited in vain: ${await servers()}`);
}

async function main() {
  await until(async () => (await api('GET', '/users')).status === 200);
  await api('POST', '/users/ann');
  await api('POST', '/users/ann/server');
  await until(async () => (await servers()) === 'default runs, second gone');
  await api('POST', '/users/ann/servers/second');
  await until(async () => (await servers()) === 'default runs, second starts');

  const cookieJar = new CookieJar();
  const keep = answer => {
    for (const cookie of answer.headers.getSetCookie()) {
      cookieJar.setCookieSync(cookie, `${hub}/login`);
    }
    return answer;
  };
  const form = new JSDOM(await keep(await fetch(`${hub}/login`)).text());
  const _xsrf = form.window.document.querySelector('input[name=_xsrf]').value;
  keep(
    await fetch(`${hub}/login`, {
      method: 'POST',
      redirect: 'manual',
      headers: { Cookie: cookieJar.getCookieStringSync(`${hub}/login`) },
      body: new URLSearchParams({ username: 'ann', password: 'a password for this test', _xsrf })
    })
  );
  const page = await JSDOM.fromURL(`${hub}/spawn-pending/ann/second`, {
    cookieJar,
    runScripts: 'dangerously',
    resources: 'usable',
    beforeParse: window => {
      // What jsdom lacks.
      window.EventSource = class {};
      window.matchMedia = () => ({ matches: false, addEventListener: () => {} });
    }
  });
  const before = await servers();
  const document = page.window.document;
  const status = () => document.getElementById('stop-server-status').textContent.trim();
  await until(() => {
    document.getElementById('stop-server-btn').click();
    return status();
  });
  await until(() => !status().startsWith('Stopping'));
  const said = status();
  page.window.close();
  await pause(3000);
  const after = await servers();
  console.log(`before: ${before}; the page: ${said}; after: ${after}`);
  const seen = ['default runs, second starts', 'Server stopped successfully!', 'default gone, second starts'];
  process.exit([before, said, after].join() === seen.join() ? 0 : 1);
}

main().catch(error => {
  console.error(error);
  process.exit(1);
});
JAVASCRIPT
export HOME="$folder" PATH="$folder/venv/bin:$folder/node/node_modules/.bin:$PATH"
jupyterhub >hub.log 2>&1 &
hub=$!
status=0
node node/page.js || status=$?
kill "$hub"
wait "$hub" || true
exit "$status"
