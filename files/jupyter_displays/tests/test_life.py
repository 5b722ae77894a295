"""The life of displays: how they start, are used, die and are recovered."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from jupyter_displays import manager as displays_manager
from jupyter_displays import session_cleanup, x11
from jupyter_displays.engines import ENGINES, xpra_start
from jupyter_displays.engines.xpra import XpraEngine
from jupyter_displays.manager import DisplayManager


def processes(directory):
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if f"JUPYTER_DISPLAY_DIR={directory}".encode() in (path / "environ").read_bytes():
                found[int(path.name)] = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
    return found


async def settled_processes(display, count):
    """Return the processes of a display, once those are gone that Xpra asks for its host's name and the like."""
    deadline = time.monotonic() + 5
    while len(found := processes(display.directory)) != count:
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.05)
    return found


@pytest.mark.parametrize("engine", ["xpra"])
async def test_keys_are_repeated_by_the_page_alone(api, manager, engine):
    await api.running()
    display = manager.displays["1"]
    deadline = time.monotonic() + 8
    while x11.repeats(display.number, display.screen.authority):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("engine", ["xpra"])
@pytest.mark.parametrize(
    ("does", "what"),
    [
        ('exec xpra "$@"', "running: "),
        ("echo none today >&2; exit 3", "exit code 3, its last words: none today"),
    ],
)
async def test_xpra_may_be_a_script_of_another_language(api, manager, tmp_path, does, what):
    script = tmp_path / "xpra"
    script.write_text(f"#!/bin/sh\n{does}\n")
    script.chmod(0o755)
    manager.engines["xpra"].xpra = str(script)
    display = await api.create()
    display = await api.state(display["id"], "running", "failed")
    assert what in f"{display['state']}: {display['reason']}"


@pytest.mark.parametrize("engine", ["xpra"])
async def test_the_line_that_says_why_xpra_ended_is_shown(api, manager):
    manager.engines["xpra"].options = {"backend": "nonsense"}
    display = await api.state((await api.create())["id"], "failed")
    assert "its last words: 'desktop' does not support the 'nonsense' backend" in display["reason"]


def test_what_xpra_clears_away_in_the_end_is_not_why_it_ended():
    log = """\
2026-11-29 02:33:27,241 failed to open X11 display ':99'
2026-11-29 02:33:27,241
2026-11-29 02:33:27,241 X11 desktop server is terminating
2026-11-29 02:33:27,241 removing unix domain socket '/run/x/socket'
2026-11-29 02:33:27,242 removed session directory '/run/x/sessions/99'
"""
    assert XpraEngine().last_words(log.splitlines()) == "failed to open X11 display ':99'"


@pytest.fixture
def fake_xpra(tmp_path):
    """A stand-in that only tells its version."""

    def fake(version):
        path = tmp_path / f"xpra-{version}"
        path.write_text(f"#!/bin/sh\necho xpra v{version}-r0\n")
        path.chmod(0o755)
        return str(path)

    return fake


@pytest.mark.parametrize("engine", ["tigervnc"])
@pytest.mark.parametrize("version", ["3.1.3", "5.1.6", "6.4.4"])
async def test_an_xpra_that_is_too_old_is_refused(api, manager, fake_xpra, version):
    manager.engines["xpra"].xpra = fake_xpra(version)
    manager.engine = "xpra"
    status, answer = await api("POST", body={"application": "sleep"})
    reason = f"No display can be started: xpra {version} is too old (6.5 or newer is needed)."
    assert (status, answer["message"]) == (503, reason)
    # Nobody has chosen it.
    manager.engine = ""
    assert (await api.running())["engine"] == "tigervnc"


def test_which_versions_are_tested_is_known(fake_xpra, tmp_path):
    for version, tested in (("6.5.5", True), ("6.5", True), ("6.6", False), ("7.0.1", False)):
        engine = XpraEngine(xpra=fake_xpra(version))
        engine.find_version(tmp_path)
        assert (engine.version, engine.is_tested) == (version, tested)


@pytest.mark.parametrize("engine", ["xpra"])
async def test_xpra_has_all_its_files_in_the_displays_directory(api, manager, monkeypatch):
    """It has them in shared directories otherwise, where a second display of a user fails, or another user is first."""
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    await asyncio.gather(api.running(), api.running())
    for display in manager.displays.values():
        while not display.size_stable:
            await asyncio.sleep(0.02)
        name = str(display.number)
        assert (display.directory / "sessions" / name / "server.pid").exists()
        shared = ["/tmp", "/run/xpra", "/var/run/xpra", f"/run/user/{os.getuid()}/xpra", str(Path.home() / ".xpra")]
        assert not [path for path in shared if Path(path, name).exists()]
        server = display.processes["server"].pid
        files = {str(path.readlink()) for path in Path(f"/proc/{server}/fd").iterdir() if path.is_symlink()}
        assert not [
            path for path in files if path.startswith(("/tmp/", "/run/")) and str(display.directory) not in path
        ]


@pytest.mark.parametrize("engine", ["xpra"])
async def test_all_that_is_loaded_early_is_there(manager):
    """Otherwise this version has it elsewhere, or loads with it what the options leave out."""
    script = Path(xpra_start.__file__)
    python = XpraEngine()._python()
    code = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("xpra_start", {str(script)!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
barred = ("ssl", "xpra.net.http", "xpra.server.core", "xpra.server.base")
print(module.load(), [name for name in barred if name in sys.modules])
"""
    answer = subprocess.run([*python, "-c", code], capture_output=True, text=True, check=False)
    assert answer.stdout == "[] []\n", answer.stderr


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_can_be_checked_without_a_server(usable_engine, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    command = [sys.executable, "-m", "jupyter_displays.check", "--engine", usable_engine]
    env = {**os.environ, "HOME": str(home), "TMPDIR": str(tmp_path)}
    answer = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    found = json.loads(answer.stdout)
    assert (answer.returncode, found["ok"], found["reason"]) == (0, True, ""), found
    assert set(found) == {"engine", "version", "tested", "ok", "reason", "seconds"}
    assert list(home.iterdir()) == []
    assert list(tmp_path.iterdir()) == [home]


def test_a_check_of_what_is_not_there_says_so(tmp_path):
    command = [sys.executable, "-m", "jupyter_displays.check", "--engine", "tigervnc"]
    env = {**os.environ, "PATH": str(tmp_path), "TMPDIR": str(tmp_path)}
    answer = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    found = json.loads(answer.stdout)
    assert (answer.returncode, found["ok"], found["version"]) == (1, False, "")
    assert found["reason"] == "No display can be started: Xtigervnc is not installed."
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("engine", ENGINES)
async def test_displays_of_one_user_have_screens_of_their_own(api, manager, engine):
    await asyncio.gather(*(api.running(width=width, height=500) for width in (500, 600, 700)))
    screens = [manager.displays[display_id] for display_id in ("1", "2", "3")]
    assert len({display.number for display in screens}) == 3
    sizes = sorted(x11.size(display.number, display.screen.authority)[0] for display in screens)
    assert sizes == [500, 600, 700]


@pytest.mark.parametrize("engine", ENGINES)
async def test_it_starts_soon_and_leaves_nothing(api, manager, engine):
    begin = time.monotonic()
    await api.running(width=1000, height=700)
    seconds = time.monotonic() - begin
    display = manager.displays["1"]
    assert x11.size(display.number, display.screen.authority) == (1000, 700)
    assert stat.S_IMODE(display.directory.stat().st_mode) == 0o700
    number = display.number
    assert Path(f"/tmp/.X11-unix/X{number}").exists()
    found = await settled_processes(display, len(display.processes))
    secret = display.screen.authority.read_bytes()[-16:].hex()
    assert not any(secret in command for command in found.values())
    await api("DELETE", "1")
    assert not display.directory.exists()
    assert not Path(f"/tmp/.X{number}-lock").exists()
    assert not Path(f"/tmp/.X11-unix/X{number}").exists()
    assert seconds < 5


@pytest.mark.parametrize("engine", ["xpra"])
async def test_programs_find_tickets_and_no_token_of_the_server(api, manager, engine, monkeypatch):
    tickets = {"KRB5CCNAME": "FILE:/run/krb5cc/1/krb5cc", "OAUTH2_TOKEN": "FILE:/run/jupyterhub-users/1/oauth2_token"}
    for name, value in {**tickets, "JUPYTERHUB_API_TOKEN": "server"}.items():
        monkeypatch.setenv(name, value)
    await api.running()
    program = manager.displays["1"].processes["application"].pid
    environment = Path(f"/proc/{program}/environ").read_text().split("\0")
    assert set(environment) >= {f"{name}={value}" for name, value in tickets.items()}
    assert "JUPYTERHUB_API_TOKEN=server" not in environment


async def test_numbers_at_whose_names_somebody_listens_are_left_out(api, manager):
    """Programs would show the cookie of their display to them first."""
    with contextlib.ExitStack() as stack:
        for number in range(40):
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            with contextlib.suppress(OSError):  # A display has it.
                listener.bind(f"\0/tmp/.X11-unix/X{number}")
                listener.listen()
        await api.running()
        assert manager.displays["1"].number >= 40


@pytest.mark.parametrize("engine", ENGINES)
async def test_nobody_can_take_the_names_of_all_numbers(api, manager, monkeypatch, engine):
    """Of the small numbers there are fewer here, as not every machine lets a process open so many files."""
    monkeypatch.setattr(displays_manager, "_NUMBERS", 100)
    with contextlib.ExitStack() as stack:
        for number in range(100):
            name = stack.enter_context(socket.socket(socket.AF_UNIX))
            with contextlib.suppress(OSError):  # A display has it.
                name.bind(f"\0/tmp/.X11-unix/X{number}")
        await api.running()
    display = manager.displays["1"]
    assert display.number >= 100
    assert x11.size(display.number, display.screen.authority) == (display.width, display.height)


@contextlib.contextmanager
def files_of_another(name):
    """Have another user's files of this name in /tmp for the 40 smallest numbers."""
    with contextlib.ExitStack() as stack:
        for number in range(40):
            path = Path("/tmp", name.format(number))
            with contextlib.suppress(FileExistsError):  # An X server starts.
                path.touch(exist_ok=False)
                stack.callback(path.unlink)
                os.chown(path, 65534, 65534)
        yield


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a file of another user")
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["server-{}.xkm", ".tX{}-lock", ".X{}-lock", ".X11-unix/X{}"])
async def test_numbers_of_which_somebody_has_a_file_are_left_out(api, manager, engine, name):
    """X servers have files of known names in directories of everybody's, and wait for them or end without them."""
    begin = time.monotonic()
    with files_of_another(name):
        await api.running()
        assert manager.displays["1"].number >= 40
    # It has not waited for one of them, which takes 12 s.
    assert time.monotonic() - begin < 10


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a file of another user")
@pytest.mark.parametrize("engine", ENGINES)
async def test_nobody_can_take_the_files_of_all_numbers(api, manager, monkeypatch, engine):
    """Of the small numbers there are fewer here, as somebody else on this machine may want one."""
    monkeypatch.setattr(displays_manager, "_NUMBERS", 40)
    with files_of_another(".tX{}-lock"):
        await api.running()
        assert manager.displays["1"].number >= 40


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "says", ["Could not create lock file in", "Could not create server lock file:", "Can't read lock file"]
)
async def test_who_takes_a_number_in_between_has_it_alone(api, manager, tmp_path, engine, says):
    """A stand-in for an X server says what a real one does that finds the lock of another user at its own attempt."""
    server, tried = tmp_path / "Xlate", tmp_path / "tried"
    real = manager.engines[engine].x_server
    real_one = f'if [ "$1" = -version ] || [ -e {tried} ]; then exec {real} "$@"; fi'
    server.write_text(f'#!/bin/sh\n{real_one}\n>{tried}\necho "(EE) {says} /tmp/.X0-lock" >&2\nexit 1\n')
    server.chmod(0o755)
    manager.engines[engine].x_server = str(server)
    await api.running()
    assert tried.exists()


# A stand-in for somebody who is quick: listens, and says how much each visitor has told.
LISTENER = """
import socket, sys
with socket.socket(socket.AF_UNIX) as listening:
    listening.bind(sys.argv[1])
    listening.listen()
    print("listens", flush=True)
    while True:
        visitor = listening.accept()[0]
        print(len(visitor.recv(1000)), flush=True)
        visitor.close()
"""


@contextlib.contextmanager
def listener_of_another_user(number):
    """Listen as another user where an X server of this number would; return the process, whose output tells all."""
    path = Path(f"/tmp/.X11-unix/X{number}")
    command = ["/usr/bin/python3", "-c", LISTENER, path]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, user="nobody", extra_groups=[])
    try:
        assert process.stdout.readline() == "listens\n"
        yield process
    finally:
        process.kill()
        process.wait()
        path.unlink(missing_ok=True)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_no_other_user_is_shown_a_cookie(tmp_path):
    x11.write_authority(tmp_path / "xauthority")
    number = 10**9 + os.getpid()
    with listener_of_another_user(number) as listener:
        with pytest.raises(x11.XError, match="another user listens there"):
            x11.size(number, tmp_path / "xauthority")
        assert listener.stdout.readline() == "0\n"


# A stand-in for an X server that has its lock when another user already listens in its place, which is possible in the
# moment between the choice of its number and its own attempt. At the next number it is a real one.
LATE_X_SERVER = """\
#!{python}
import os, subprocess, sys, time
from pathlib import Path

known = Path({directory!r}, "cookie")
if known.exists() or "-auth" not in sys.argv:
    os.execvp({x_server!r}, [{x_server!r}, *sys.argv[1:]])
known.write_bytes(Path(sys.argv[sys.argv.index("-auth") + 1]).read_bytes()[-16:])
number = sys.argv[1][1:]
lock, path = Path(f"/tmp/.X{{number}}-lock"), f"/tmp/.X11-unix/X{{number}}"
with Path({directory!r}, "heard").open("wb") as heard:
    command = ["/usr/bin/python3", "-c", {listener!r}, path]
    other = subprocess.Popen(command, stdout=heard, user="nobody", extra_groups=[])
while not Path(path).exists():
    time.sleep(0.01)
lock.write_text(f"{{os.getpid():10}}\\n")
time.sleep(1)
lock.unlink()
other.kill()
Path(path).unlink()
sys.exit("Cannot establish any listening sockets")
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("engine", ENGINES)
async def test_who_takes_a_number_in_between_learns_no_cookie(api, manager, tmp_path, engine):
    server = tmp_path / "Xlate"
    facts = {"x_server": manager.engines[engine].x_server, "directory": str(tmp_path), "listener": LISTENER}
    server.write_text(LATE_X_SERVER.format(python=sys.executable, **facts))
    server.chmod(0o755)
    manager.engines[engine].x_server = str(server)
    await api.running()
    listens, *heard = (tmp_path / "heard").read_text().splitlines()
    assert (listens, set(heard)) == ("listens", {"0"})
    # Whoever has one of the first number, however that came about, cannot use it here.
    assert manager.displays["1"].screen.authority.read_bytes()[-16:] != (tmp_path / "cookie").read_bytes()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a directory of another user")
@pytest.mark.parametrize(
    ("made", "runs"),
    [((0, 0o1777), True), ((0, 0o777), False), ((65534, 0o1777), False), ((65534, 0o755), False), (None, True)],
)
async def test_nobody_else_has_the_directory_of_sockets(api, tmp_path, monkeypatch, made, runs):
    """Its owner could put a socket in the place of another user's, and programs would show the cookie there."""
    path = tmp_path / ".X11-unix"
    if made:
        owner, mode = made
        path.mkdir()
        path.chmod(mode)
        os.chown(path, owner, owner)
    monkeypatch.setattr(displays_manager, "_SOCKET_DIRECTORIES", [str(path)])
    display = await api.state((await api.create())["id"], "running", "failed")
    reason = f"It did not start: another user can change {path}, which has to be root's, with mode 1777."
    assert (display["state"], display["reason"]) == (("running", "") if runs else ("failed", reason))


@pytest.mark.parametrize("engine", ENGINES)
async def test_nothing_listens_where_others_knock(api, manager, engine):
    await api.running()
    display = manager.displays["1"]
    deadline = time.monotonic() + 8
    # The server's socket is there a moment before it listens.
    while not display.size_stable or str(display.screen.socket) not in (
        found := _listening(processes(display.directory))
    ):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    assert found == {f"/tmp/.X11-unix/X{display.number}", str(display.screen.socket)}


def _listening(pids):
    """Return where these processes listen."""
    theirs = set()
    for pid in pids:
        # Some are gone by now.
        with contextlib.suppress(OSError):
            for path in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    theirs.add(str(path.readlink()))
    found = set()
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "00010000" and f"socket:[{fields[6]}]" in theirs:
            found.add(fields[7])
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in theirs:
                found.add(fields[1])
    return found


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("engine", ENGINES)
async def test_another_user_gets_in_nowhere(api, manager, engine):
    await api.running()
    display = manager.displays["1"]
    found = await settled_processes(display, len(display.processes))
    script = f"""
import os, socket
def try_(what):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(2)
    try:
        s.connect(what)
        return s
    except OSError as e:
        return None
assert try_({str(display.screen.socket)!r}) is None
assert try_("\\0/tmp/.X11-unix/X{display.number}") is None
try:
    socket.socket(socket.AF_UNIX).bind("\\0/tmp/.X11-unix/X{display.number}")
    raise SystemExit("got the name at which programs show their cookie first")
except OSError:
    pass
for path in ({str(display.screen.authority)!r}, {str(display.directory / "x.log")!r},
             {str(display.directory / "sessions")!r}):
    try:
        open(path); raise SystemExit("read " + path)
    except PermissionError:
        pass
x = try_("/tmp/.X11-unix/X{display.number}")
if x is not None:
    x.sendall(b"l\\0\\x0b\\0\\0\\0\\0\\0\\0\\0\\0\\0")
    assert x.recv(8)[0] != 1, "the X server let me in"
for pid in {list(found)!r}:
    try:
        open(f"/proc/{{pid}}/environ", "rb").read(); raise SystemExit("read the environment")
    except PermissionError:
        pass
print("nowhere")
"""
    result = await asyncio.to_thread(
        subprocess.run,
        ["runuser", "-u", "nobody", "--", "/usr/bin/python3", "-c", script],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.stdout, result.stderr) == ("nowhere\n", "")


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_killed_x_server_is_said(api, manager, engine):
    await api.running()
    display = manager.displays["1"]
    os.kill(display.processes["x"].pid, signal.SIGKILL)
    ended = await api.state("1", "failed", seconds=5)
    assert ended["reason"] == "The X server was killed by SIGKILL."
    assert not Path(f"/tmp/.X{display.number}-lock").exists()
    assert not Path(f"/tmp/.X11-unix/X{display.number}").exists()


async def test_the_socket_of_another_x_server_is_left(api, manager):
    await api.running()
    display = manager.displays["1"]
    gone = subprocess.Popen(["true"])
    gone.wait()
    living = display.x_pid
    # One that ended, whose number and number of the socket's file the living one has now; and the living one itself.
    for display.x_pid in (gone.pid, living):
        manager._clear_x(display)
        assert Path(f"/tmp/.X{display.number}-lock").exists()
        assert Path(f"/tmp/.X11-unix/X{display.number}").stat().st_ino == display.x_socket


@pytest.mark.parametrize("what", ["pipe", "link", "another's", "large"])
def test_what_others_put_in_place_of_a_lock_is_not_read(tmp_path, monkeypatch, what):
    """In a /tmp that users share, after the X server has removed its own."""
    lock = tmp_path / "lock"
    monkeypatch.setattr(displays_manager, "_x_lock", lambda _: lock)
    monkeypatch.setattr(displays_manager, "_x_socket", lambda _: tmp_path / "socket")
    gone = subprocess.Popen(["true"])
    gone.wait()
    (tmp_path / "other").write_text(f"{gone.pid}\n")
    if what == "pipe":
        os.mkfifo(lock)
    elif what == "link":
        lock.symlink_to(tmp_path / "other")
    elif what == "large":
        lock.write_text(f"{gone.pid}\n")
        os.truncate(lock, 1 << 30)
    elif os.getuid() == 0:
        lock.write_text(f"{gone.pid}\n")
        os.chown(lock, 65534, 65534)
    else:
        pytest.skip("only root can give a file to another user")
    display = SimpleNamespace(number=7, x_pid=gone.pid, x_socket=0)
    DisplayManager._clear_x(None, display)
    assert lock.is_symlink() or lock.exists()
    assert displays_manager._number_taken(7)


@pytest.mark.parametrize("engine", ["xpra"])
async def test_a_killed_xpra_is_said(api, manager, engine):
    await api.running()
    os.kill(manager.displays["1"].processes["server"].pid, signal.SIGKILL)
    ended = await api.state("1", "failed", seconds=5)
    assert ended["reason"] == "Xpra was killed by SIGKILL."


async def test_the_last_words_of_an_application_are_said(api):
    await api.create(application="fails")
    ended = await api.state("1", "failed")
    assert ended["reason"].endswith("The application ended with exit code 3, its last words: no licence.")


@pytest.mark.parametrize(
    ("own", "reason"),
    [
        ("(my-session:7): no bus", "The application ended with exit code 3, its last words: (my-session:7): no bus."),
        ("", "The application ended with exit code 3."),
    ],
)
async def test_the_end_of_a_desktop_is_told_in_its_own_words(api, manager, tmp_path, own, reason):
    """Programs that run in it write into the same log, before and after."""
    script = tmp_path / "session"
    script.write_text(f"#!/bin/sh\n# exec my-session\necho '{own}'\necho '(panel:8): CRITICAL'\necho odd\nexit 3\n")
    script.chmod(0o755)
    manager.desktop_command = [str(script)]
    await api.create(application="desktop")
    ended = await api.state("1", "failed")
    assert ended["reason"].endswith(reason)


async def test_a_closed_application_ends_its_display(api, manager):
    await api.running()
    os.kill(manager.displays["1"].processes["application"].pid, signal.SIGTERM)
    ended = await api.state("1", "ended", "failed")
    assert ended["reason"] == "The application was killed by SIGTERM."
    manager.applications["short"] = {"title": "Short", "command": ["sleep", "0.5"]}
    await api.create(application="short")
    ended = await api.state("2", "ended", "failed")
    assert (ended["state"], ended["reason"]) == ("ended", "Its program was closed.")


async def test_an_application_that_is_not_there_is_said(api, manager):
    manager.applications["none"] = {"title": "None", "command": ["/nonexistent/program"]}
    await api.create(application="none")
    ended = await api.state("1", "failed")
    assert "/nonexistent/program" in ended["reason"]


async def test_what_does_not_want_to_end_is_ended(api, manager):
    await api.running(application="stubborn")
    directory = manager.displays["1"].directory
    assert sum("sleep" in command for command in processes(directory).values()) >= 2
    await api("DELETE", "1")
    assert processes(directory) == {}


async def test_one_that_is_shut_down_while_it_starts_leaves_nothing(api, manager):
    await api.create()
    await api("DELETE", "1")
    assert manager.displays == {}
    await asyncio.sleep(0.3)
    assert processes(manager.directory) == {}


async def test_no_free_display_number_is_said(api, manager, tmp_path):
    fake = tmp_path / "Xfull"
    fake.write_text("#!/bin/sh\necho 'Fatal server error:' >&2; echo 'No free display number' >&2; exit 1\n")
    fake.chmod(0o755)
    manager.engines["tigervnc"].x_server = str(fake)
    await api.create()
    ended = await api.state("1", "failed")
    assert ended["reason"] == (
        "It did not start: the X server ended with exit code 1, its last words: No free display number."
    )


async def test_one_that_hangs_has_failed(api, manager, tmp_path):
    fake = tmp_path / "Xhangs"
    fake.write_text('#!/bin/sh\n[ "$1" = -version ] && exit\nexec sleep 600\n')
    fake.chmod(0o755)
    manager.engines["tigervnc"].x_server = str(fake)
    manager.start_timeout = 0.3
    await api.create()
    ended = await api.state("1", "failed")
    assert ended["reason"] == "It was not ready after 0.3 s."


@pytest.mark.parametrize("manager_settings", [{"idle_timeout": 1, "check_interval": 0.1}])
async def test_an_idle_display_is_ended(api, manager, manager_settings):
    await api.running()
    ended = await api.state("1", "ended", seconds=4)
    assert ended["reason"] == "Nobody used it for 1 s."


@pytest.mark.parametrize("manager_settings", [{"memory_limit": 1 << 20, "check_interval": 0.1}])
async def test_a_display_with_too_much_memory_is_ended(api, manager, manager_settings):
    await api.create()
    ended = await api.state("1", "failed", seconds=4)
    assert ended["reason"].endswith("MB of memory; the limit is 1 MB.")


@pytest.mark.parametrize("manager_settings", [{"forget_after": 0.1}])
async def test_one_that_is_over_is_forgotten(api, manager, manager_settings):
    await api.create(application="fails")
    await asyncio.sleep(1)
    assert (await api("GET"))[1]["displays"] == []


def another_server(manager, **settings):
    """Return the manager of the server that comes after this one."""
    later = DisplayManager(base_url=manager.base_url, config=manager.config, log=manager.log, **settings)
    later.runtime_directory = manager.runtime_directory
    later.applications = manager.applications
    later.engine = manager.engine
    return later


async def kill(manager):
    """Let go of everything, as a server does that is killed."""
    manager._checks.stop()
    for display in manager.displays.values():
        for process in display.processes.values():
            process.close()
        os.close(display.lock)
    manager.displays.clear()


@pytest.mark.parametrize("engine", ENGINES)
async def test_the_next_server_finds_a_display_again(api, manager, engine):
    await api.running(title="Kept")
    share = (await api("POST", "1", "shares", body={"mode": "view"}))[1]
    pids = {name: process.pid for name, process in manager.displays["1"].processes.items()}
    await kill(manager)
    later = another_server(manager)
    await later.start()
    display = later.displays["1"]
    assert (display.title, display.state) == ("Kept", "running")
    assert {name: process.pid for name, process in display.processes.items()} == pids
    assert later.shares.by_token(share["url"].rpartition("/")[2]).mode == "view"
    os.kill(pids["x"], signal.SIGKILL)
    for _ in range(100):
        if display.terminated:
            break
        await asyncio.sleep(0.05)
    assert (display.state, display.reason) == ("failed", "The X server ended.")
    assert not Path(f"/tmp/.X{display.number}-lock").exists()
    await later.stop()


async def test_what_died_without_a_server_is_cleared_away(api, manager):
    await api.running()
    display = manager.displays["1"]
    pid = display.processes["x"].pid
    await kill(manager)
    os.kill(pid, signal.SIGKILL)
    await asyncio.sleep(0.2)
    later = another_server(manager)
    await later.start()
    assert later.displays["1"].reason == "It died while no server was there."
    assert processes(display.directory) == {}
    assert not display.directory.exists()
    assert not Path(f"/tmp/.X{display.number}-lock").exists()
    await later.stop()


async def test_a_second_server_leaves_the_displays_of_the_first(api, manager):
    await api.running()
    later = another_server(manager)
    await later.start()
    assert later.displays == {}
    display = later.create("sleep")
    assert display.id == "2"
    assert await display.ready()
    await later.stop()
    assert manager.displays["1"].state == "running"
    assert processes(manager.displays["1"].directory)


async def test_a_display_that_is_shut_down_at_once_leaves_nothing(api, manager):
    # In the moment after its start a program shows no environment by which it could be found.
    for _ in range(100):
        display = manager.create("sleep")
        while "x" not in display.processes:
            await asyncio.sleep(0)
        await manager.shut_down(display)
        assert processes(display.directory) == {}


@pytest.mark.parametrize("manager_settings", [{"stop_with_server": False}])
@pytest.mark.leaves_processes
async def test_a_server_may_leave_its_displays_behind(api, manager, manager_settings):
    await api.running()
    directory = manager.displays["1"].directory
    await manager.stop()
    assert processes(directory)


def test_only_what_dead_session_managers_have_left_is_removed(tmp_path):
    sockets, notes = tmp_path / "s", tmp_path / "n"
    sockets.mkdir()
    notes.mkdir()
    gone = subprocess.Popen(["true"])
    gone.wait()
    dead, hidden, living = (sockets / str(number) for number in (gone.pid, 4194305, os.getpid()))
    no_socket, other = sockets / "4194306", sockets / "name"
    no_socket.touch()
    listening = [socket.socket(socket.AF_UNIX) for _ in range(4)]
    for server, path in zip(listening, (dead, hidden, living, other), strict=True):
        server.bind(str(path))
        server.listen()
    listening[0].close()
    listening[3].close()
    of_dead, of_living, of_none = (notes / f".xfsm-ICE-{name}" for name in ("A", "B", "C"))
    of_dead.write_text(f"remove protoname=ICE netid=local/h:@/tmp/.ICE-unix/{dead.name} authname=X\n")
    of_living.write_text(f"remove protoname=ICE netid=local/h:@/tmp/.ICE-unix/{living.name} authname=X\n")
    of_none.write_text("something else")
    if os.getuid() == 0:
        foreign = notes / ".xfsm-ICE-D"
        foreign.write_text(of_dead.read_text())
        os.chown(foreign, 65534, 65534)
    else:
        foreign = of_none
    session_cleanup.clear(sockets, notes)
    # One that another container's process listens on has a number that no process has here.
    assert set(sockets.iterdir()) == {hidden, living, no_socket, other}
    assert set(notes.iterdir()) == {of_living, of_none, foreign}
    for server in listening:
        server.close()


def test_names_of_others_sockets_keep_nothing_in_place(tmp_path):
    """They may be of any bytes, and every user of the host sees them."""
    with socket.socket(socket.AF_UNIX) as left, socket.socket(socket.AF_UNIX) as others:
        left.bind(str(tmp_path / "dbus-DeadDeadDe"))
        left.close()
        others.bind(b"\0" + os.fsencode(tmp_path) + b"\xff\x85")
        session_cleanup.clear(tmp_path / "none", tmp_path)
    assert not list(tmp_path.iterdir())


def test_only_what_dead_buses_have_left_is_removed(tmp_path):
    names = ["dbus-DeadDeadDe", "dbus-Listening1", "dbus-StartingUp", "dbus-other"]
    dead, listening, starting, other = (tmp_path / name for name in names)
    sockets = [socket.socket(socket.AF_UNIX) for _ in names]
    for server, path in zip(sockets, (dead, listening, starting, other), strict=True):
        server.bind(str(path))
    sockets[1].listen()
    sockets[0].close()
    sockets[3].close()
    (tmp_path / "dbus-NoSocketNo").touch()
    session_cleanup.clear(tmp_path / "none", tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*names[1:], "dbus-NoSocketNo"}
    for server in sockets:
        server.close()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "manager_settings", [{"prewarm": 1, "prewarm_delay": 0.1, "desktop_command": ["sleep", "600"]}]
)
async def test_a_prewarmed_desktop_is_there_at_once(api, manager, engine, manager_settings):
    for _ in range(200):
        if [d.matches(d.engine, "desktop", 96) for d in manager._prewarmed.values()] == [True]:
            break
        await asyncio.sleep(0.05)
    assert (await api("GET"))[1]["displays"] == []
    assert (await api("GET", "1"))[0] == 404
    begin = time.monotonic()
    display = await api.running(application="desktop", title="Mine", width=900, height=700)
    seconds = time.monotonic() - begin
    assert (display["id"], display["title"]) == ("1", "Mine")
    assert seconds < 0.1
    for _ in range(100):
        if (await api("GET", "1"))[1]["width"] == 900:
            break
        await asyncio.sleep(0.02)
    assert x11.size(manager.displays["1"].number, manager.displays["1"].screen.authority) == (900, 700)
    await asyncio.sleep(0.5)
    assert list(manager._prewarmed) == ["2"]
    await api("DELETE")
    assert list(manager._prewarmed) == ["2"]
    await manager.stop()
    assert processes(manager.directory) == {}
