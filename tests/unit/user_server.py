"""A server of Jupyter with the parts that CampusHub has in the place of Jupyter's, for tests of these."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tornado.websocket import WebSocketClientConnection, websocket_connect

from tests.settings.validation import ROOT

FILES = ROOT / "roles" / "jupyter" / "files"
TOKEN = "secret"  # noqa: S105 (of a server that runs for the tests)


def until(condition: Callable[[], Any], what: str, seconds: float = 10) -> None:
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.05)


class Server:
    """A server with some of our classes, in a directory that is its home."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory = directory
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        command = [sys.executable, "-m", "jupyter_server", "--allow-root", "--no-browser", f"--port={self.port}"]
        command += [f"--IdentityProvider.token={TOKEN}", "--ServerApp.port_retries=0", *options]
        command += [f"--ServerApp.root_dir={directory}"]
        environment = os.environ | {"PYTHONPATH": str(FILES), "HOME": str(directory), "SHELL": "/bin/bash"}
        environment["JUPYTER_RUNTIME_DIR"] = str(directory / "run")
        self.process = subprocess.Popen(command, env=environment, cwd=directory, stderr=subprocess.DEVNULL)
        until(self.answers, "a server", 90)

    def answers(self) -> bool:
        """Return whether the server is up."""
        try:
            self.api("api/status")
        except OSError:
            return False
        return True

    def api(self, path: str, method: str = "GET") -> Any:
        """Return what the server's API answers."""
        headers = {"Authorization": f"token {TOKEN}"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/{path}", headers=headers, method=method)
        with urllib.request.urlopen(request, timeout=5) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def terminal(self) -> str:
        """Open a terminal and return its name."""
        return str(self.api("api/terminals", "POST")["name"])

    def say(self, terminal: str, text: str) -> None:
        """Type text into a terminal, and go away."""

        async def type_text() -> None:
            url = f"ws://127.0.0.1:{self.port}/terminals/websocket/{terminal}?token={TOKEN}"
            connection: WebSocketClientConnection = await websocket_connect(url)
            await connection.write_message(json.dumps(["stdin", text]))
            # The answer to the next message comes after the first has been dealt with.
            await connection.write_message(json.dumps(["set_size", 24, 80]))
            await connection.read_message()
            await asyncio.sleep(0.3)
            connection.close()

        asyncio.run(asyncio.wait_for(type_text(), 10))

    def look_away(self, terminal: str) -> socket.socket:
        """Connect to a terminal, and never read what it sends."""
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", self.port))
        key = base64.b64encode(os.urandom(16)).decode()
        connection.sendall(
            f"GET /terminals/websocket/{terminal}?token={TOKEN} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
            f"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        assert connection.recv(12) == b"HTTP/1.1 101"
        return connection

    @property
    def memory(self) -> int:
        """Return the megabytes that the server has."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) // 1024

    def end(self) -> None:
        """Stop it with all that it has started."""
        self.process.terminate()
        self.process.wait(20)
