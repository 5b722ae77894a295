#!/bin/sh
# JupyterHub 6.1.1: of two requests for one start, as from two clicks, one is answered with error 500 where logins are renewed.
#
# Authenticator.refresh_pre_spawn has the hub ask the authenticator before each start, which takes a moment where that is a
# provider on the network. Whether the server is being started already is looked at before that wait, and answered with 202
# as the API says. After the wait it is looked at again, and then it is a RuntimeError: "Internal Server Error". The server
# starts all the same, once.
#
# Seen with JupyterHub 6.1.1, configurable-http-proxy 5.3.0, SimpleLocalProcessSpawner and an authenticator that needs a second:
# "two at once: [202, 500]; a second one while it starts: 202; server is ready: True".
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check jupyterhub==6.1.1 jupyter_server==2.21.1
npm install --silent --no-audit --no-fund --prefix "$folder/node" configurable-http-proxy@5.3.0
cd "$folder"
cat >jupyterhub_config.py <<'PYTHON'
import asyncio

from jupyterhub.auth import DummyAuthenticator
from jupyterhub.spawner import SimpleLocalProcessSpawner


class ProviderAuthenticator(DummyAuthenticator):
    refresh_pre_spawn = True

    async def refresh_user(self, user, handler=None, **options):
        await asyncio.sleep(1)
        return True


class UnhurriedSpawner(SimpleLocalProcessSpawner):
    async def start(self):
        await asyncio.sleep(4)
        return await super().start()


c.JupyterHub.bind_url = "http://127.0.0.1:28891"
c.JupyterHub.hub_port = 28892
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:28893"
c.JupyterHub.cleanup_servers = True
c.JupyterHub.authenticator_class = ProviderAuthenticator
c.Authenticator.allow_all = True
c.JupyterHub.spawner_class = UnhurriedSpawner
c.JupyterHub.tornado_settings = {"slow_spawn_timeout": 1}
c.Spawner.args = ["--allow-root"]
c.JupyterHub.services = [{"name": "test", "api_token": "0123456789abcdef0123456789abcdef"}]
c.JupyterHub.load_roles = [{"name": "test", "scopes": ["admin:users", "admin:servers"], "services": ["test"]}]
PYTHON
HOME=$folder PATH=$folder/venv/bin:$folder/node/node_modules/.bin:$PATH python - <<'PYTHON'
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor


def ask(method: str, path: str) -> tuple[int, dict]:
    """Ask the hub's API; status and answer."""
    request = urllib.request.Request(f"http://127.0.0.1:28892/hub/api{path}", method=method)
    request.add_header("Authorization", "token 0123456789abcdef0123456789abcdef")
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.loads(answer.read() or b"{}")
    except urllib.error.HTTPError as error:
        return error.code, {}
    except urllib.error.URLError:
        return 0, {}


def wait_for(what) -> bool:
    """Wait up to a minute until this holds; whether it does."""
    for _ in range(120):
        if what():
            return True
        time.sleep(0.5)
    return False


with open("hub.log", "w") as log:
    hub = subprocess.Popen(["jupyterhub"], stdout=log, stderr=log)
try:
    if not wait_for(lambda: ask("GET", "/users")[0] == 200):
        sys.exit("the hub did not start")
    ask("POST", "/users/ann")
    with ThreadPoolExecutor(2) as pool:
        both = sorted(pool.map(lambda _: ask("POST", "/users/ann/server")[0], range(2)))
    later = ask("POST", "/users/ann/server")[0]
    ready = wait_for(lambda: ask("GET", "/users/ann")[1]["servers"].get("", {}).get("ready"))
    print(f"two at once: {both}; a second one while it starts: {later}; server is ready: {ready}")
finally:
    hub.terminate()
    hub.wait()
sys.exit((both, later, ready) != ([202, 500], 202, True))
PYTHON
