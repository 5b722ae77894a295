"""The program that starts and stops servers as their user, with real processes of the user who runs the tests."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.settings.validation import ROOT

from campushub_hub.host import mediator

SOURCE = ROOT / "files" / "campushub_hub" / "src"

# Runs the mediator with other places for its two files, as `sudo -u USER campushub-mediator ACTION` would.
DRIVER = """
import pathlib, sys
sys.path.insert(0, sys.argv[1])
from campushub_hub.host import mediator
mediator.COMMAND, mediator.JOURNAL = pathlib.Path(sys.argv[2]), sys.argv[3]
sys.exit(mediator.main(sys.argv[4]))
"""

# A stand-in for a user's server: tells what it was given, then goes on.
SERVER = """
import json, os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN if "--stubborn" in sys.argv else signal.SIG_DFL)
print("a line of output", flush=True)
files = {name: os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if name in "0123456789"
         and os.path.lexists(f"/proc/self/fd/{name}")}
os.umask(umask := os.umask(0))
told = {"arguments": sys.argv[1:], "environment": dict(os.environ), "files": files, "umask": umask,
        "directory": os.getcwd(), "session": os.getsid(0), "parent": os.getppid()}
place = os.environ["TOLD"]
with open(place + ".new", "w") as file:
    json.dump(told, file)
os.rename(place + ".new", place)
time.sleep(600)
"""


def until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Place:
    """What a mediator needs on a host."""

    def __init__(self, directory: Path) -> None:
        self.command, self.journal, self.told = directory / "command.json", directory / "journal", directory / "told"
        server = directory / "server.py"
        server.write_text(SERVER)
        self.command.write_text(json.dumps([sys.executable, str(server)]))
        # A stand-in for journald's socket, which containers and build machines may lack.
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.journal))
        self.listener.listen()
        self.logged = b""
        threading.Thread(target=self.read, daemon=True).start()
        self.pids: list[int] = []

    def read(self) -> None:
        while True:
            try:
                stream, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.keep, args=(stream,), daemon=True).start()

    def keep(self, stream: socket.socket) -> None:
        with stream:
            while data := stream.recv(4096):
                self.logged += data

    def ask(self, action: str, **request: Any) -> tuple[dict[str, Any], int]:
        """Return the answer of a mediator, and its process number, which is free again by now."""
        command = [sys.executable, "-I", "-c", DRIVER, str(SOURCE), str(self.command), str(self.journal), action]
        # As sudo makes it: nothing of the hub's environment is left.
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(self.command.parent)}
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
            printed, _ = process.communicate(json.dumps(request).encode(), timeout=30)
        answer: dict[str, Any] = json.loads(printed)
        self.pids += [answer["pid"]] if "pid" in answer else []
        return answer, process.pid

    def spawn(self, *args: str, **env: Any) -> dict[str, Any]:
        return self.ask("spawn", args=list(args), env={"TOLD": str(self.told), **env})[0]

    def server(self, *args: str, **env: str) -> tuple[int, dict[str, Any]]:
        """Start a server; return its process number and what it tells."""
        answer = self.spawn(*args, **env)
        assert answer["ok"], answer
        until(self.told.exists, "the server does not run")
        told: dict[str, Any] = json.loads(self.told.read_text())
        return answer["pid"], told


@pytest.fixture
def place(tmp_path: Path, adoption: None) -> Iterator[Place]:  # noqa: ARG001 (it only has to be there)
    made = Place(tmp_path)
    yield made
    made.listener.close()
    for pid in made.pids:
        if alive(pid):
            os.kill(pid, signal.SIGKILL)
        try:
            os.waitpid(pid, 0)
        except ChildProcessError:
            continue


def test_a_server_is_detached_and_has_only_what_it_was_given(place: Place) -> None:
    pid, told = place.server("--port=1234", JUPYTERHUB_API_TOKEN="t", COURSE="Теория")
    assert alive(pid)
    assert told["arguments"] == ["--port=1234"]
    assert told["files"]["0"] == "/dev/null"
    assert told["files"]["1"].startswith("socket:")
    assert told["files"]["1"] == told["files"]["2"]
    # The directory that it reads is open at that moment; nothing else is.
    assert set(told["files"]) - {"0", "1", "2"} == set()
    assert told["umask"] == 0o022
    assert told["directory"] == str(place.command.parent)
    assert told["session"] not in (pid, os.getsid(0)), "it leads no session, so it cannot get a terminal"
    given = {"TOLD": str(place.told), "JUPYTERHUB_API_TOKEN": "t", "COURSE": "Теория"}
    assert {name: value for name, value in told["environment"].items() if name != "LC_CTYPE"} == given


def test_its_output_goes_to_the_journal_under_its_users_name(place: Place) -> None:
    place.server()
    until(lambda: b"a line of output\n" in place.logged, "nothing in the journal")
    header, _, output = place.logged.partition(b"a line")
    user = subprocess.check_output(["id", "-un"]).strip()
    assert header == b"jupyterhub-user-" + user + b"\n\n6\n0\n0\n0\n0\n"
    assert output == b" of output\n"


def test_code_cannot_be_slipped_in_by_the_environment(place: Place) -> None:
    bad = {"LD_PRELOAD": "/tmp/x.so", "LD_LIBRARY_PATH": "/tmp", "PYTHONPATH": "/tmp", "PYTHONSTARTUP": "/tmp/x.py"}
    _, told = place.server(**bad, PYTHONUNBUFFERED="1")
    assert not set(bad) & set(told["environment"])
    assert told["environment"]["PYTHONUNBUFFERED"] == "1"


def test_mediator_is_gone_when_it_has_answered(place: Place) -> None:
    answer, number = place.ask("spawn", args=[], env={"TOLD": str(place.told)})
    assert not Path(f"/proc/{number}").exists()
    until(place.told.exists, "the server does not run")
    assert json.loads(place.told.read_text())["parent"] == os.getpid(), "no process of the mediator's is left"
    assert alive(answer["pid"])


@pytest.mark.parametrize(
    ("command", "env", "reason"),
    [
        (["/nonexistent/bin/jupyterhub-singleuser"], {}, "No such file or directory"),
        (["/etc"], {}, "Permission denied"),
        (None, {"COUNT": 4}, "expected str, bytes"),
        (None, {"NUL": "a\0b"}, "embedded null byte"),
        (None, {"A=B": "c"}, "illegal environment variable name"),
    ],
    ids=["missing", "directory", "number", "nul", "name"],
)
def test_a_server_that_cannot_be_started_is_told_with_the_reason(
    place: Place, command: list[str] | None, env: dict[str, Any], reason: str
) -> None:
    if command:
        place.command.write_text(json.dumps(command))
    answer = place.spawn(**env)
    assert answer["ok"] is False
    assert reason in answer["error"]
    assert "pid" not in answer


def test_without_the_journal_no_server_is_started(place: Place) -> None:
    place.journal.unlink()
    assert "No such file" in place.spawn()["error"]
    assert not place.told.exists()


def test_stop_ends_a_server_and_waits_for_it(place: Place) -> None:
    pid, _ = place.server()
    begin = time.monotonic()
    assert place.ask("stop", pid=pid, patience=10)[0] == {"ok": True, "alive": False}
    assert not alive(pid)
    assert time.monotonic() - begin < 5
    # Again, for what is gone is stopped.
    assert place.ask("stop", pid=pid, patience=10)[0]["ok"]
    # What has ended can be buried: nobody else holds on to it.
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGTERM


def test_stop_ends_a_server_that_ignores_it(place: Place) -> None:
    pid, _ = place.server("--stubborn")
    begin = time.monotonic()
    assert place.ask("stop", pid=pid, patience=0.5)[0]["ok"]
    assert time.monotonic() - begin >= 0.5
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL


def test_stop_leaves_other_processes_alone(place: Place) -> None:
    """The tests run in no slice of a user's, so nothing but the one process is a server's."""
    neighbour, _ = place.server()
    place.told.unlink()
    pid, _ = place.server()
    assert place.ask("stop", pid=pid, patience=10)[0]["ok"]
    assert alive(neighbour)


@pytest.mark.parametrize("pid", [1, 0, -1, -5])
def test_stop_ends_no_more_than_one_server(monkeypatch: pytest.MonkeyPatch, pid: int) -> None:
    sent: list[tuple[int, int]] = []
    # Were this to fail with the real kill(2), it would end everything that runs here.
    monkeypatch.setattr("campushub_hub.host.mediator.os.kill", lambda *signal: sent.append(signal))
    assert mediator.stop(pid, 0) == {"ok": False, "error": f"{pid} is no server"}
    assert sent == []


def test_a_token_is_kept_where_nobody_else_can_read_it(place: Place, tmp_path: Path) -> None:
    file = tmp_path / "oauth2_token"
    (tmp_path / "oauth2_token.new").symlink_to(tmp_path / "elsewhere")
    for text in ("first", "second"):
        assert place.ask("store-token", path=str(file), text=text)[0] == {"ok": True}
        assert (file.read_text(), file.stat().st_mode & 0o777) == (text, 0o600)
    assert sorted(found.name for found in tmp_path.iterdir() if "token" in found.name) == ["oauth2_token"]
    assert not (tmp_path / "elsewhere").exists()


# What a server said last

PREFIX = "[C 2026-11-29 09:01:37.458 ServerApp] "
TRACE = """
[E 2026-11-29 09:01:37.458 ServerApp] Exception while loading config file {home}/.jupyter/jupyter_server_config.py
    Traceback (most recent call last):
      File "/opt/campushub/user/lib/python3.11/site-packages/traitlets/config/application.py", line 915, in _load
        exec(compile(f.read(), conf_filename, "exec"), namespace, namespace)
      File "{home}/.jupyter/jupyter_server_config.py", line 2, in <module>
        import nb_conda_kernels
      File "{home}/.local/lib/python3.11/site-packages/nb_conda_kernels/__init__.py", line 1, in <module>
    ModuleNotFoundError: No module named 'conda'
"""


@pytest.mark.parametrize(
    ("printed", "line", "place"),
    [
        (TRACE, "ModuleNotFoundError: No module named 'conda'", ("jupyter_server_config.py", 2)),
        # As Jupyter prints them, without a place.
        (
            f"{PREFIX}Bad config encountered during initialization: No such directory: ''/gone''\n\n",
            "Bad config encountered during initialization: No such directory: ''/gone''",
            ("jupyter_server_config.py", 5),
        ),
        (
            (
                f"{PREFIX}Bad config encountered during initialization: The 'port' trait of a ServerApp instance "
                "expected an int, not the str 'abc'."
            ),
            (
                "Bad config encountered during initialization: The 'port' trait of a ServerApp instance expected an "
                "int, not the str 'abc'."
            ),
            ("jupyter_server_config.json", 3),
        ),
        (f"{PREFIX}Bad config: The 'nowhere' trait", "Bad config: The 'nowhere' trait", ("", 0)),
        ("", "", ("", 0)),
    ],
    ids=["traceback", "value", "trait", "unknown", "silent"],
)
def test_last_words_have_a_place_in_the_users_settings(
    tmp_path: Path, printed: str, line: str, place: tuple[str, int]
) -> None:
    settings = tmp_path / ".jupyter"
    settings.mkdir()
    (settings / "jupyter_server_config.py").write_text(
        "c = get_config()\n# c.ServerApp.root_dir = '/gone'\n\nport = 1\nc.ServerApp.root_dir = '/gone'\n"
    )
    (settings / "jupyter_server_config.json").write_text('{"ServerApp": {\n"ip": "",\n"port": "abc"}}\n')
    found = mediator.last_words(printed.format(home=tmp_path).splitlines(), str(tmp_path))
    assert found == {"line": line, "file": str(settings / place[0]) if place[0] else "", "number": place[1]}
