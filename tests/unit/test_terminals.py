"""Terminals of users' servers: a real server of Jupyter with real programs."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from roles.jupyter.files.campushub_server import terminals
from roles.jupyter.files.campushub_server.terminals import History, Process
from tests.unit.user_server import TOKEN, Server, until

OPTION = "--TerminalsExtensionApp.terminal_manager_class=campushub_server.terminals.CampusTerminalManager"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = Server(tmp_path_factory.mktemp("server"), OPTION)
    yield started
    started.end()


def runs(mark: str) -> bool:
    """Return whether a program runs that was started with a mark among its arguments."""
    return subprocess.run(["pgrep", "-f", mark], check=False, stdout=subprocess.DEVNULL).returncode == 0


def test_closing_a_terminal_ends_a_program_that_ignores_it(server: Server) -> None:
    """And the server answers meanwhile, at once."""
    name, mark = server.terminal(), f"sleep 3{os.getpid()}"
    server.say(name, f"bash -c \"trap '' HUP INT TERM; {mark}; {mark}\"\r")
    until(lambda: runs(mark), "the program")
    url = f"http://127.0.0.1:{server.port}/api/terminals/{name}"
    closing = subprocess.Popen(["curl", "-sf", "-X", "DELETE", "-H", f"Authorization: token {TOKEN}", url])
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
        server.say(name, f"head -c 100000000 /dev/zero | tr '\\0' x; touch {done}\r")
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
    monkeypatch.setattr(terminals, "INPUT_LIMIT", 5 * 10**5)

    async def act() -> None:
        program, server = socket.socketpair()
        process = Process(os.getpid(), server.detach())
        begin = time.monotonic()
        assert process.write("я" * 500_000) == 10**6, "a text that is pasted is one piece"
        assert process.write("y") == 0, "more than is kept"
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
