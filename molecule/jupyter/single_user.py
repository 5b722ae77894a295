"""
Run the server of one user as the hub would, without a hub. Runs on the host, as root, until it is stopped.

A hub of a few lines vouches for the token `secret`. When the server answers, what there is to know about it is
written to /run/single-user-USER.json.
"""

from __future__ import annotations

import http.server
import json
import os
import pwd
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path


class Hub(http.server.BaseHTTPRequestHandler):
    """Answers all that a server asks its hub: which version it has, and whose the token is."""

    user = ""

    def do_GET(self) -> None:
        """Answer with everything at once."""
        body = json.dumps(
            {
                "version": "6.1.1",
                "kind": "user",
                "name": self.user,
                "admin": False,
                "groups": [],
                "scopes": [f"access:servers!user={self.user}"],
            }
        ).encode()
        known = self.path.rstrip("/") == "/hub/api" or self.headers.get("Authorization") == "token secret"
        self.send_response(200 if known else 403)
        self.send_header("Content-Type", "application/json")
        self.send_header("X-JupyterHub-Version", "6.1.1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        """Take note of activity."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


def start_hub(user: str) -> str:
    """Start the hub and return the URL of its API."""
    Hub.user = user
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/hub/api"


def free_port() -> int:
    """Return a port that nobody has at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(url: str) -> bool:
    """Tell whether a server answers, whatever it says."""
    try:
        with urllib.request.urlopen(url, timeout=5):  # noqa: S310  # our own server
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def main(user: str, program: str) -> int:
    """Run the server until it ends."""
    account = pwd.getpwnam(user)
    runtime = Path(f"/run/jupyterhub-users/{account.pw_uid}")
    runtime.mkdir(mode=0o755, parents=True, exist_ok=True)
    os.chown(runtime, account.pw_uid, account.pw_gid)
    runtime.chmod(0o700)
    port = free_port()
    api = start_hub(user)
    prefix = f"/user/{user}/"
    url = f"http://127.0.0.1:{port}{prefix}"
    environment = {
        "PATH": f"{account.pw_dir}/.local/bin:/opt/campushub/user/bin:/usr/local/bin:/usr/bin:/bin",
        "HOME": account.pw_dir,
        "USER": user,
        "SHELL": account.pw_shell,
        "LANG": "C.UTF-8",
        "JUPYTER_RUNTIME_DIR": str(runtime),
        "JUPYTERHUB_ACTIVITY_URL": f"{api}/users/{user}/activity",
        "JUPYTERHUB_API_TOKEN": "secret",
        "JUPYTERHUB_API_URL": api,
        "JUPYTERHUB_BASE_URL": "/",
        "JUPYTERHUB_CLIENT_ID": f"jupyterhub-user-{user}",
        "JUPYTERHUB_OAUTH_CALLBACK_URL": f"{prefix}oauth_callback",
        "JUPYTERHUB_OAUTH_ACCESS_SCOPES": json.dumps([f"access:servers!user={user}"]),
        "JUPYTERHUB_SERVICE_PREFIX": prefix,
        "JUPYTERHUB_SERVICE_URL": url,
        "JUPYTERHUB_USER": user,
    }
    started = time.monotonic()
    server = subprocess.Popen(
        [program], env=environment, cwd=account.pw_dir, user=account.pw_uid, group=account.pw_gid, extra_groups=[]
    )
    while not answers(f"{url}api"):
        if server.poll() is not None or time.monotonic() - started > 60:
            return 1
        time.sleep(0.02)
    seconds = time.monotonic() - started
    # A server that was forked is no child of this process; what was started here accompanies it.
    listening = subprocess.run(["ss", "-ltnpH", f"sport = :{port}"], check=True, capture_output=True, text=True).stdout
    pid = int(listening.partition("pid=")[2].partition(",")[0])
    Path(f"/run/single-user-{user}.json").write_text(json.dumps({"pid": pid, "url": url, "seconds": seconds}))
    return server.wait()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
