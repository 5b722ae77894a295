#!/bin/sh
# JupyterHub 6.1.1: deleting a user whose named server runs stops the default server, then fails with 500; the user stays.
#
# DELETE /hub/api/users/NAME stops the default server only. The database then refuses, because the named one is active, so
# the request ends in "Internal Server Error", the user still exists, has lost the default server and keeps the named one.
#
# Seen with JupyterHub 6.1.1, configurable-http-proxy 5.3.0, SimpleLocalProcessSpawner:
# "DELETE: 500; servers before ['', 'second'], after ['second']".
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check jupyterhub==6.1.1 jupyter_server==2.21.1
npm install --silent --no-audit --no-fund --prefix "$folder/node" configurable-http-proxy@5.3.0
cd "$folder"
cat >jupyterhub_config.py <<'PYTHON'
c.JupyterHub.bind_url = "http://127.0.0.1:28881"
c.JupyterHub.hub_port = 28882
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:28883"
c.JupyterHub.cleanup_servers = True
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.JupyterHub.allow_named_servers = True
c.JupyterHub.spawner_class = "simple"
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


def ask(method: str, path: str) -> tuple[int, dict]:
    """Ask the hub's API; status and answer."""
    request = urllib.request.Request(f"http://127.0.0.1:28882/hub/api{path}", method=method)
    request.add_header("Authorization", "token 0123456789abcdef0123456789abcdef")
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.loads(answer.read() or b"{}")
    except urllib.error.HTTPError as error:
        return error.code, {}
    except urllib.error.URLError:
        return 0, {}


def servers() -> list[str]:
    """The servers of ann that run."""
    return sorted(name for name, server in ask("GET", "/users/ann")[1].get("servers", {}).items() if server["ready"])


def wait_for(what, seconds: int = 60) -> None:
    """Wait until this holds."""
    for _ in range(seconds * 2):
        if what():
            return
        time.sleep(0.5)
    sys.exit("waited in vain")


with open("hub.log", "w") as log:
    hub = subprocess.Popen(["jupyterhub"], stdout=log, stderr=log)
try:
    wait_for(lambda: ask("GET", "/users")[0] == 200)
    ask("POST", "/users/ann")
    ask("POST", "/users/ann/server")
    ask("POST", "/users/ann/servers/second")
    wait_for(lambda: servers() == ["", "second"])
    status, _ = ask("DELETE", "/users/ann")
    time.sleep(2)
    after = servers()
    print(f"DELETE: {status}; servers before ['', 'second'], after {after}")
finally:
    hub.terminate()
    hub.wait()
sys.exit((status, after) != (500, ["second"]))
PYTHON
