"""Terminals of users' servers: a real server of Jupyter with real programs."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tornado.websocket import WebSocketClientConnection, websocket_connect

from roles.jupyter.files.campushub_server import terminals
from roles.jupyter.files.campushub_server.terminals import History, Process
from tests.settings.validation import ROOT

FILES = ROOT / "roles" / "jupyter" / "files"


def until(condition: Callable[[], Any], what: str, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.05)


class Server:
    """A server of Jupyter with our terminals."""

    def __init__(self, directory: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        command = [sys.executable, "-m", "jupyter_server", "--allow-root", "--no-browser", f"--port={self.port}"]
        command += ["--IdentityProvider.token=t", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={directory}"]
        command += ["--TerminalsExtensionApp.terminal_manager_class=campushub_server.terminals.CampusTerminalManager"]
        environment = os.environ | {"PYTHONPATH": str(FILES), "HOME": str(directory), "SHELL": "/bin/bash"}
        self.process = subprocess.Popen(command, env=environment, cwd=directory, stderr=subprocess.DEVNULL)
        until(self.answers, "a server", 30)

    def answers(self) -> bool:
        try:
            self.api("api/status")
        except OSError:
            return False
        return True

    def api(self, path: str, method: str = "GET") -> Any:
        headers = {"Authorization": "token t"}
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
            url = f"ws://127.0.0.1:{self.port}/terminals/websocket/{terminal}?token=t"
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
            f"GET /terminals/websocket/{terminal}?token=t HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
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


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = Server(tmp_path_factory.mktemp("server"))
    yield started
    started.process.terminate()
    started.process.wait(10)


def runs(mark: str) -> bool:
    """Return whether a program runs that was started with a mark among its arguments."""
    return subprocess.run(["pgrep", "-f", mark], check=False, stdout=subprocess.DEVNULL).returncode == 0


def test_closing_a_terminal_ends_a_program_that_ignores_it(server: Server) -> None:
    """And the server answers meanwhile, at once."""
    name, mark = server.terminal(), f"sleep 3{os.getpid()}"
    server.say(name, f"bash -c \"trap '' HUP INT TERM; {mark}; {mark}\"\r")
    until(lambda: runs(mark), "the program")
    url = f"http://127.0.0.1:{server.port}/api/terminals/{name}"
    closing = subprocess.Popen(["curl", "-sf", "-X", "DELETE", "-H", "Authorization: token t", url])
    while closing.poll() is None:
        begin = time.monotonic()
        server.api("api/status")
        assert time.monotonic() - begin < 1
        time.sleep(0.1)
    assert closing.returncode == 0
    until(lambda: not runs(mark), "the end of the program", 2)
    assert server.api("api/terminals") == []


def test_a_closed_terminal_is_off_the_list_whoever_holds_on(server: Server) -> None:
    """A program with a session of its own goes on, as everywhere; the terminal does not."""
    name, mark = server.terminal(), f"sleep 4{os.getpid()}"
    server.say(name, f"setsid -f {mark}\r")
    until(lambda: runs(mark), "the program")
    server.api(f"api/terminals/{name}", "DELETE")
    assert server.api("api/terminals") == []
    assert runs(mark)
    subprocess.run(["pkill", "-f", mark], check=True)


def test_output_that_nobody_fetches_is_bounded(server: Server, tmp_path: Path) -> None:
    """The program waits as long as somebody is connected who does not read, and goes on without."""
    name, done = server.terminal(), tmp_path / "done"
    with server.look_away(name):
        before = server.memory
        server.say(name, f"head -c 200000000 /dev/zero | tr '\\0' x; touch {done}\r")
        time.sleep(3)
        assert server.memory - before < 60
        other = server.terminal()
        server.say(other, f"touch {tmp_path}/other\r")
        until((tmp_path / "other").exists, "another terminal")
    until(done.exists, "the end of the program, which nobody watches any more", 60)
    assert server.memory - before < 60
    for terminal in (name, other):
        server.api(f"api/terminals/{terminal}", "DELETE")


def test_history_is_limited_by_its_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminals, "HISTORY_LIMIT", 10)
    history = History()
    kept = []
    for text in ("abcdef", "ghij", "kl", "m" * 30):
        history.append(text)
        kept.append("".join(history.copy()))
    assert kept == ["abcdef", "abcdefghij", "ghijkl", "m" * 30]
    assert history.total == 42


def test_input_waits_for_its_reader_and_nobody_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for a terminal, a pair of sockets: what does not fit is passed on when there is room."""
    monkeypatch.setattr(terminals, "INPUT_LIMIT", 2 * 10**6)

    async def act() -> None:
        program, server = socket.socketpair()
        process = Process(os.getpid(), server.detach())
        begin = time.monotonic()
        assert process.write("я" * 500_000) == 10**6
        assert process.write("y" * 2 * 10**6) == 0, "more than is kept"
        assert time.monotonic() - begin < 1
        program.setblocking(False)
        read = b""
        loop = asyncio.get_running_loop()
        while len(read) < 10**6:
            read += await asyncio.wait_for(loop.sock_recv(program, 1 << 16), 5)
        assert read.decode() == "я" * 500_000
        program.close()
        assert process.write("x") == 1
        process.close()
        assert process.write("x") == 0

    asyncio.run(act())


def test_a_program_that_let_go_of_its_terminal_is_not_waited_for() -> None:
    async def act() -> None:
        process = Process.spawn(["/bin/sleep", "30"])
        process.flag_eof = True
        begin = time.monotonic()
        assert process.isalive()
        process.close()
        assert time.monotonic() - begin < 1
        os.kill(process.pid, signal.SIGKILL)
        while process.isalive():  # noqa: ASYNC110 (nobody tells)
            await asyncio.sleep(0.02)

    asyncio.run(asyncio.wait_for(act(), 10))
