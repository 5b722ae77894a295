"""The program that starts servers as their user, with real processes of the user who runs the tests."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.settings.validation import ROOT
from tests.unit.conftest import Storage

from campushub_hub.host import look, mediator
from campushub_hub.spawners import CampusSudoSpawner

SOURCE = ROOT / "files" / "campushub_hub" / "src"

# Runs the mediator with other places for its files, as `sudo -u USER campushub-mediator ACTION` would, or the unit of a
# server.
DRIVER = """
import pathlib, sys
sys.path.insert(0, sys.argv[1])
from campushub_hub.host import mediator
mediator.COMMAND, mediator.receiver, mediator.RECEIVER_SECONDS = pathlib.Path(sys.argv[2]), lambda: sys.argv[3], 2
sys.exit(mediator.receive(sys.argv[3]) if sys.argv[4] == "receive" else mediator.main(sys.argv[4]))
"""

# A stand-in for a user's server: tells what it was given, then goes on.
SERVER = """
import json, os, resource, sys, time
files = {name: os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if name in "0123456789"
         and os.path.lexists(f"/proc/self/fd/{name}")}
told = {"arguments": sys.argv[1:], "environment": dict(os.environ), "files": files, "pid": os.getpid(),
        "directory": os.getcwd(), "limits": resource.getrlimit(resource.RLIMIT_NOFILE)}
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
        self.command, self.receiver, self.told = directory / "command.json", directory / "receiver", directory / "told"
        server = directory / "server.py"
        server.write_text(SERVER)
        self.command.write_text(json.dumps([sys.executable, str(server)]))
        self.units: list[subprocess.Popen[bytes]] = []

    def command_line(self, action: str) -> list[str]:
        return [sys.executable, "-I", "-c", DRIVER, str(SOURCE), str(self.command), str(self.receiver), action]

    @property
    def environment(self) -> dict[str, str]:
        """As sudo and the service manager make it: nothing of the hub's environment is left."""
        return {"PATH": "/usr/bin:/bin", "HOME": str(self.command.parent)}

    def start_unit(self) -> None:
        """Start what the session has the service manager start for a server."""
        command = self.command_line("receive")
        self.units.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, env=self.environment))

    def ask(self, action: str, limit: str = "", **request: Any) -> tuple[dict[str, Any], int]:
        """Return the answer of a mediator, and its process number, which is free again by now."""
        command = self.command_line(action)
        if limit:
            command = ["/usr/bin/prlimit", f"--nofile={limit}", *command]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=self.environment) as process:
            printed, _ = process.communicate(json.dumps(request).encode(), timeout=30)
        answer: dict[str, Any] = json.loads(printed)
        return answer, process.pid

    def spawn(self, *args: str, limit: str = "", **env: Any) -> dict[str, Any]:
        self.start_unit()
        return self.ask("spawn", limit, args=list(args), env={"TOLD": str(self.told), **env})[0]

    def server(self, *args: str, limit: str = "", **env: str) -> tuple[int, dict[str, Any]]:
        """Start a server; return its process number and what it tells."""
        answer = self.spawn(*args, limit=limit, **env)
        assert answer["ok"], answer
        until(self.told.exists, "the server does not run")
        told: dict[str, Any] = json.loads(self.told.read_text())
        return answer["pid"], told


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    for unit in made.units:
        unit.kill()
        unit.wait()


def test_a_server_is_its_unit_and_has_what_it_was_given(place: Place) -> None:
    pid, told = place.server("--port=1234", JUPYTERHUB_API_TOKEN="t", COURSE="Теория")
    assert pid == told["pid"] == place.units[0].pid
    assert told["arguments"] == ["--port=1234"]
    # The directory that it reads is open at that moment; nothing else is.
    assert set(told["files"]) - {"0", "1", "2"} == set()
    assert not place.receiver.exists()
    assert told["directory"] == str(place.command.parent)
    given = {"TOLD": str(place.told), "JUPYTERHUB_API_TOKEN": "t", "COURSE": "Теория"}
    assert {name: value for name, value in told["environment"].items() if name != "LC_CTYPE"} == given


def test_a_server_has_the_limits_of_its_session(place: Place) -> None:
    """As PAM sets them from /etc/security/limits.conf for the sudo process, and not for the unit."""
    assert place.server(limit="300:400")[1]["limits"] == [300, 400]


def test_code_cannot_be_slipped_in_by_the_environment(place: Place) -> None:
    bad = {"LD_PRELOAD": "/tmp/x.so", "LD_LIBRARY_PATH": "/tmp", "PYTHONPATH": "/tmp", "PYTHONSTARTUP": "/tmp/x.py"}
    _, told = place.server(**bad, PYTHONUNBUFFERED="1")
    assert not set(bad) & set(told["environment"])
    assert told["environment"]["PYTHONUNBUFFERED"] == "1"


def test_mediator_is_gone_when_it_has_answered(place: Place) -> None:
    place.start_unit()
    answer, number = place.ask("spawn", args=[], env={"TOLD": str(place.told)})
    assert not Path(f"/proc/{number}").exists()
    until(place.told.exists, "the server does not run")
    assert alive(answer["pid"])


def test_an_action_of_another_release_is_refused(place: Place) -> None:
    command = place.command_line("stop")
    refused = subprocess.run(command, input="{}", capture_output=True, text=True, env=place.environment, check=False)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == "campushub-mediator has no action 'stop'.\n"


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


def test_a_unit_that_does_not_answer_is_told(place: Place) -> None:
    begin = time.monotonic()
    answer, _ = place.ask("spawn", args=[], env={})
    assert answer["ok"] is False
    assert answer["error"].startswith("its unit does not answer")
    assert time.monotonic() - begin < 10


def test_a_unit_that_nobody_asks_ends(place: Place) -> None:
    place.start_unit()
    place.units[0].wait(10)
    assert not place.receiver.exists()


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


def test_the_lines_of_a_server_are_those_of_its_fork_too() -> None:
    """Of all servers of a user; which process is the fork of which client is in a line of the client's."""
    printed = [(5, "Forked as process 6."), (6, "six"), (7, "Forked as process 8."), (8, "eight"), (9, "nine")]
    assert mediator.lines_of(5, printed) == ["six"]
    assert mediator.lines_of(9, printed) == ["nine"]
    assert mediator.lines_of(0, printed) == ["six", "eight", "nine"]
    # Nobody else's line says so.
    assert mediator.lines_of(9, [*printed, (5, "Forked as process 8.")]) == ["nine"]


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


def test_a_look_at_a_home_imports_nothing_that_takes_long(tmp_path: Path) -> None:
    """Whose home is on a network file system waits for both of these programs at a start, or for the second."""
    request = {"home": str(tmp_path), "mount_point": "", "timeout": 5, "scratch": "", "env": {}}
    slow = {"contextlib", "pathlib", "signal", "site", "socket", "typing"}
    quick = [look.__file__, str(tmp_path), ""]
    for command, unwanted in (([mediator.__file__, "probe"], slow), (quick, slow | {"enum", "json", "re"})):
        run = subprocess.run(
            [sys.executable, "-ISX", "importtime", *command],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            check=True,
        )
        assert "ok" in run.stdout
        imported = {line.rpartition("|")[2].strip() for line in run.stderr.splitlines()}
        assert "os" in imported
        assert not unwanted & imported


@pytest.mark.attack
def test_a_process_with_a_name_that_is_no_text_is_seen() -> None:
    """Else its server would be taken for one that has ended."""
    rename = "import ctypes, time; ctypes.CDLL(None).prctl(15, b'\\xff) Z'); print(flush=True); time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", rename], stdout=subprocess.PIPE)
    try:
        assert process.stdout
        process.stdout.readline()
        assert CampusSudoSpawner._start_time(SimpleNamespace(pid=process.pid))  # type: ignore[arg-type]  # noqa: SLF001
    finally:
        process.kill()
        process.communicate()


# The home of a server that is about to start


def home_request(home: Path, **others: Any) -> dict[str, Any]:
    return {"home": str(home), "mount_point": "", "timeout": 5, "scratch": "", "env": {}} | others


def test_a_unit_whose_home_is_well_becomes_the_server(place: Place, tmp_path: Path) -> None:
    place.start_unit()
    env = {"TOLD": str(place.told)}
    answer, _ = place.ask("spawn", args=[], env=env, home=home_request(tmp_path))
    assert answer == {"ok": True, "pid": place.units[0].pid}
    until(place.told.exists, "the server does not run")
    # Nothing of the look is left in it.
    assert set(json.loads(place.told.read_text())["files"]) - {"0", "1", "2"} == set()


def test_a_unit_whose_home_is_not_there_ends(place: Place, tmp_path: Path) -> None:
    place.start_unit()
    env = {"TOLD": str(place.told)}
    answer, _ = place.ask("spawn", args=[], env=env, home=home_request(tmp_path / "gone"))
    assert answer == {"ok": True, "home": "missing", "problem": "No such file or directory"}
    place.units[0].wait(10)
    assert not place.told.exists()


def test_a_unit_whose_home_hangs_says_so_and_ends(place: Place, storage: Storage, tmp_path: Path) -> None:
    """And makes the home in its place, as its user."""
    storage.hang()
    scratch = tmp_path / "scratch" / "home"
    place.start_unit()
    request = home_request(storage.directory, timeout=0.5, scratch=str(scratch))
    begin = time.monotonic()
    answer, _ = place.ask("spawn", args=[], env={"TOLD": str(place.told)}, home=request)
    assert answer == {"ok": True, "home": "unavailable", "problem": mediator.SILENT}
    place.units[0].wait(10)
    assert time.monotonic() - begin < 3
    assert not place.told.exists()
    assert mediator.SILENT in (scratch / mediator.NOTICE).read_text()
