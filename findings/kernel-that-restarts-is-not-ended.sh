#!/bin/sh
# jupyter_client 8.10.0, jupyter_server 2.21.1: DELETE of a kernel that is restarting answers 500, and the kernel goes on.
#
# "Shut Down" right after "Restart" asks for it. The request fails in the middle of the restart
# (InvalidStateError), and the kernel keeps its memory until somebody asks again or the server ends.
#
# Seen with jupyter_server 2.21.1, jupyter_client 8.10.0 and ipykernel 7.4.0: "DELETE answers 500, kernels left: 1".
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  jupyter_server==2.21.1 jupyter_client==8.10.0 ipykernel==7.4.0 pyzmq==27.1.0
cd "$folder"
HOME=$folder JUPYTER_TOKEN=secret "$folder/venv/bin/python" - <<'PYTHON'
import json
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from importlib.metadata import version
from typing import Any

with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    PORT = free.getsockname()[1]


def ask(method: str, path: str) -> tuple[int, Any]:
    """Return the status and the answer."""
    url = f"http://127.0.0.1:{PORT}/api/{path}"
    request = urllib.request.Request(url, b"{}" if method == "POST" else None, {"Authorization": "token secret"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, None


print(", ".join(f"{name} {version(name)}" for name in ("jupyter_server", "jupyter_client", "ipykernel")))
command = [sys.executable, "-m", "jupyter_server", "--allow-root", "--no-browser", f"--port={PORT}", "--ServerApp.port_retries=0"]
server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
try:
    for _ in range(300):
        try:
            ask("GET", "status")
            break
        except OSError:
            time.sleep(0.2)
    kernel = ask("POST", "kernels")[1]["id"]
    time.sleep(3)
    restart = threading.Thread(target=ask, args=("POST", f"kernels/{kernel}/restart"))
    restart.start()
    time.sleep(0.05)
    status = ask("DELETE", f"kernels/{kernel}")[0]
    restart.join()
    time.sleep(3)
    left = len(ask("GET", "kernels")[1])
finally:
    server.terminate()
    server.wait()
print(f"DELETE answers {status}, kernels left: {left}")
sys.exit((status, left) != (500, 1))
PYTHON
