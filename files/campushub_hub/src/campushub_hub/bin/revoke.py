#!/usr/bin/python3 -I
"""
Take a user out of the hub at once: stop their servers and end their sessions and tokens.

Run as root: campushub-revoke USER... A user who is still allowed can log in again. So first take the user out of the
group, or close the account.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

SECRETS = Path("/etc/jupyterhub/secrets/hub.env")
SETTINGS = Path("/etc/jupyterhub/settings.json")
# For how long servers may take to stop.
PATIENCE_SECONDS = 90.0


def token() -> str:
    """Return the secret by which the hub knows this command."""
    for line in SECRETS.read_text().splitlines():
        name, _, value = line.partition("=")
        if name == "CAMPUSHUB_REVOKE_TOKEN":
            return value.strip().strip('"')
    raise SystemExit(f"There is no CAMPUSHUB_REVOKE_TOKEN in {SECRETS}. Apply role jupyterhub once more.")


def port_of_hub() -> int:
    """Return the port on which the hub listens."""
    return urllib.parse.urlsplit(json.loads(SETTINGS.read_text())["JupyterHub"]["hub_bind_url"]).port or 80


def revoke(user: str, port: int, secret: str) -> str:
    """Take one user out; return what went wrong, or nothing."""
    if shutil.which("sss_cache"):
        # What the directory says now shall count, not what it said a minute ago.
        subprocess.run(["sss_cache", "--user", user], check=False, capture_output=True)
    # Not by a proxy of the environment.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask(method: str, path: str = "") -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/hub/api/users/{urllib.parse.quote(user, safe='')}{path}",
            method=method,
            headers={"Authorization": f"token {secret}", "Content-Type": "application/json"},
        )
        with opener.open(request, timeout=60) as answer:
            return json.loads(answer.read() or "null")

    end = time.monotonic() + PATIENCE_SECONDS
    try:
        # The hub forgets nobody of whom a server runs.
        while servers := ask("GET")["servers"]:
            if time.monotonic() > end:
                return "their servers do not stop"
            for name, server in servers.items():
                if server["pending"] != "stop":
                    ask("DELETE", f"/servers/{urllib.parse.quote(name, safe='')}")
            time.sleep(0.2)
        ask("DELETE")
    except HTTPError as error:
        return "the hub does not know them" if error.code == 404 else f"the hub answered {error.code}"
    except (OSError, HTTPException) as error:
        return f"the hub does not answer: {error}"
    return ""


def main() -> int:
    """Take out whom the command line names."""
    if len(sys.argv) < 2:
        print(__doc__)
        return 2
    port, secret = port_of_hub(), token()
    problems = {user: revoke(user, port, secret) for user in sys.argv[1:]}
    for user, problem in problems.items():
        print(f"{user}: {problem or 'out'}")
    return 1 if any(problems.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
