"""The service that forks users' servers, with a real client, for users that need not exist."""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import re
import resource
import runpy
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.settings.validation import ROOT
from tests.unit.prefork_service import FILES, PreforkService, make_environment
from tests.unit.user_server import until

PYTHON = "/usr/bin/python3"
pytestmark = pytest.mark.skipif(os.getuid() != 0 or not Path(PYTHON).exists(), reason="takes root")
GROUP, OTHER = 60002, 60003
# Speaks to the service as it likes: takes words from its input, and prints what it gets.
SPEAKER = """
import contextlib, ctypes, os, socket, struct, sys
path, environment, option = sys.argv[1:]
if option == "--closed":
    ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
if option == "--confined":
    ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)
message = "\\0".join([environment, "/", "2", "x", option, "LANG=C.UTF-8", "USER=root"]).encode()
service = socket.socket(socket.AF_UNIX)
service.connect(path)
for line in sys.stdin:
    if line == "ask\\n":
        socket.send_fds(service, [struct.pack("=I", len(message)) + message], [1, 1, 1])
    elif line == "close\\n":
        service.close()
        print("closed", flush=True)
    elif line == "receive\\n":
        print(service.recv(1).decode(), flush=True)
    elif line == "receive all\\n":
        said = b""
        with contextlib.suppress(ConnectionError):
            while part := service.recv(1000):
                said += part
        print(said.partition(b"\\n")[0].decode(), flush=True)
    elif line == "leave\\n":
        if os.fork():
            os._exit(0)
        print("left", flush=True)
    elif line[:5] == "leave":
        os.set_inheritable(service.fileno(), True)
        if os.fork():
            os.execv(line[6:-1], [line[6:-1], "20"])
        print("left", flush=True)
    else:
        service.send(line[:-1].encode())
"""
# Nobody has more than a few starts in a row.
USERS = itertools.count(60010)
# Says what it is, and ends as it is told.
PROGRAM = """
import gc, json, multiprocessing.process, os, random, resource, signal, socket, sys, threading, time
os.environ.get("X_SET")
if __name__ == "__main__":
    import ctypes
    libc, KEYCTL = ctypes.CDLL(None), {"x86_64": 250, "aarch64": 219}.get(os.uname().machine)
    if "--fork" in sys.argv and not os.fork():
        time.sleep(60)
    if "--late" in sys.argv:
        class Late:
            def __del__(self, sleep=time.sleep, write=os.write):
                sleep(0.3)
                write(1, b"late")
        sys.late = Late()
    if "--wait" in sys.argv:
        print(os.getpid(), flush=True)
        time.sleep(60)
    place = "/proc/self/fd/"
    if "--keep" in sys.argv and not os.fork():
        os.write(1, b"kept")
        time.sleep(10)
    if "--fill" in sys.argv:
        own = socket.socket(fileno=max(int(n) for n in os.listdir(place) if os.path.exists(place + n)))
        own.setblocking(True)
        try:
            while True:
                own.send(b"x" * 1000, socket.MSG_DONTWAIT)
        except BlockingIOError:
            os.write(1, b"full")
    if len(sys.argv) > 1 and sys.argv[1] in ("--keep", "--fill"):
        os._exit(0)
    print(json.dumps({
        "arguments": sys.argv[1:], "variables": dict(os.environ), "directory": os.getcwd(), "parent": os.getppid(),
        "pid": os.getpid(),
        "line": open("/proc/self/cmdline").read().rstrip("\\0").split("\\0"),
        "random": [random.random(), bytes(multiprocessing.process.current_process().authkey).hex()],
        "keys": [libc.syscall(KEYCTL, *words, 0, 0) for words in ((0, -3), (11, -3))] if KEYCTL else [],
        "imported in": multiprocessing.process.ORIGINAL_DIR,
        "files": {n: os.readlink(place + n) for n in os.listdir(place) if os.path.exists(place + n)},
        "status": open("/proc/self/status").read(), "groups": open("/proc/self/cgroup").read(),
        "limits": open("/proc/self/limits").read(), "nice": os.nice(0), "oom": open("/proc/self/oom_score_adj").read(),
        "namespaces": {n: os.readlink("/proc/self/ns/" + n) for n in os.listdir("/proc/self/ns")},
        "threads": threading.active_count(), "hup": signal.getsignal(signal.SIGHUP) == signal.SIG_IGN,
    }))
    sys.exit(7)
"""


# Imports what a service does, and prints who asks for whom this process runs as, or where, or for random bytes.
IMPORT = """
import importlib, json, os, runpy, sys
for name in sys.argv[3:]:
    sys.path.insert(0, name)
modules, callers = runpy.run_path(sys.argv[1])[sys.argv[2]], set()
def watch(name, real):
    def asked(*arguments):
        callers.add((name, sys._getframe(1).f_globals["__name__"]))
        return real(*arguments)
    setattr(os, name, asked)
for name in ("getuid", "geteuid", "getgid", "getegid", "getgroups", "getlogin", "getpid", "getcwd", "urandom"):
    watch(name, getattr(os, name))
present = 0
for name in modules:
    try:
        importlib.import_module(name)
    except ImportError:
        continue
    present += name.startswith(("campushub_session", "jupyterlab", "ipykernel", "IPython"))
assert present >= 5, present
print(json.dumps(sorted(callers)))
"""


@pytest.fixture(scope="module")
def environment() -> Iterator[Path]:
    # Users must get there.
    with tempfile.TemporaryDirectory(prefix="prefork-") as name:
        Path(name).chmod(0o755)
        yield make_environment(Path(name) / "env", PROGRAM, PYTHON)


@pytest.fixture(scope="module")
def running(environment: Path) -> Iterator[list[PreforkService]]:
    services = [PreforkService(environment)]
    yield services
    services[0].stop()


@pytest.fixture
def service(running: list[PreforkService], environment: Path) -> PreforkService:
    """A service that the last test may have stopped."""
    if running[0].process.poll() is not None:
        running[0] = PreforkService(environment)
    return running[0]


def start(environment: Path, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    settings: dict[str, Any] = {
        "user": next(USERS),
        "group": GROUP,
        "extra_groups": [OTHER],
        "cwd": "/usr",
        "text": True,
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "env": {"LANG": "C.UTF-8", "WORD": "\udcff"},
    }
    program = environment / "bin/jupyterhub-singleuser"
    return subprocess.Popen([program, *arguments], **{**settings, **options})


def run(environment: Path, *arguments: str, **options: Any) -> tuple[dict[str, Any], str]:
    """Return what the program says of itself, and what the client says besides the number of a fork."""
    client = start(environment, *arguments, **options)
    printed, said = client.communicate(timeout=20)
    assert client.returncode == 7, said
    result = json.loads(printed)
    if forked := re.match(r"Forked as process (\d+)\.\n", said):
        assert int(forked[1]) == result["pid"]
        said = said[forked.end() :]
    return result, said


def runs(pid: int) -> bool:
    """Return whether a process has not ended; its parent may not have asked yet."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def status_of(pid: int) -> str:
    """Return what the kernel says of a process."""
    return Path(f"/proc/{pid}/status").read_text()


def as_user(prepare: Callable[[], None], groups: list[int] | None = None) -> dict[str, Any]:
    """Return options for a client of which root changes something first."""

    user = next(USERS)

    def become() -> None:
        prepare()
        os.setgroups(groups or [])
        os.setresgid(GROUP, GROUP, GROUP)
        os.setresuid(user, user, user)

    return {"user": None, "group": None, "extra_groups": None, "preexec_fn": become}


# Loads what a service does, and prints what is left of loops and sockets.
LEFT = """
import gc, json, runpy, sys
space = runpy.run_path(sys.argv[1], run_name="prefork")
program = sys.argv[2]
del sys.argv[1]
space["load"](program)
gc.unfreeze()
import asyncio, selectors, socket, tornado.ioloop, zmq
kinds = asyncio.AbstractEventLoop, selectors.BaseSelector, socket.socket, tornado.ioloop.IOLoop, zmq.Context, zmq.Socket
found = [repr(type(item)) for item in gc.get_objects() if issubclass(type(item), kinds)]
context, loop = zmq.Context(), asyncio.new_event_loop()
assert {zmq.Context, type(loop)} <= {type(item) for item in gc.get_objects()}
print(json.dumps(found))
"""


class Speaker:
    """A user who speaks to the service without its client."""

    def __init__(self, service: PreforkService, environment: Path, option: str = "") -> None:
        self.user = next(USERS)
        self.process: subprocess.Popen[str] = subprocess.Popen(
            [PYTHON, "-c", SPEAKER, str(service.path), str(environment), option],
            user=self.user,
            group=GROUP,
            extra_groups=[],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def say(self, *lines: str) -> None:
        """Have it do things."""
        assert self.process.stdin
        self.process.stdin.write("".join(f"{line}\n" for line in lines))
        self.process.stdin.flush()

    def hear(self, length: int) -> str:
        """Return what it prints."""
        assert self.process.stdout
        return self.process.stdout.read(length)

    def end(self) -> None:
        """End it. A server of its may have its output still."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                pipe.close()


@pytest.fixture
def speak(service: PreforkService, environment: Path) -> Iterator[Callable[[str], Speaker]]:
    """Connect to the service as a user of its own."""
    speakers: list[Speaker] = []

    def connect(option: str = "") -> Speaker:
        speakers.append(Speaker(service, environment, option))
        return speakers[-1]

    yield connect
    for speaker in speakers:
        speaker.end()


@pytest.mark.parametrize("program", ["singleuser.py", "prefork_kernel.py"])
def test_the_service_has_no_event_loop_or_socket(program: str) -> None:
    """Of ZeroMQ's neither."""
    command = [sys.executable, "-c", LEFT, str(FILES / "prefork.py"), str(FILES / program), "matplotlib.pyplot"]
    assert json.loads(subprocess.run(command, check=True, capture_output=True).stdout) == []


@pytest.mark.parametrize(("program", "modules"), [("prefork.py", "MODULES"), ("prefork_kernel.py", "KERNEL")])
def test_no_module_asks_at_its_import_whose_process_it_is(program: str, modules: str) -> None:
    """The answer would be that of the service. A home is asked for by a variable, which the service watches itself."""
    packages = [ROOT / "files/campushub_session", ROOT / "files/jupyter_displays"]
    command = [sys.executable, "-c", IMPORT, str(FILES / program), modules, *map(str, packages)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, env={"HOME": "/nonexistent"}).stdout
    # Where programs of theirs are looked for; what is not so is had again by each fork.
    known = {("getcwd", "rich"), ("getuid", "send2trash.plat_other")}
    known |= {(name, "multiprocessing.process") for name in ("getcwd", "urandom")} | {
        ("urandom", "jupyter_client.session")
    }
    assert set(map(tuple, json.loads(printed))) <= known


def test_a_fork_is_what_the_client_is(environment: Path, service: PreforkService) -> None:
    user = next(USERS)
    forked, said = run(environment, "--port", "1 2", umask=0o027, user=user)
    assert said == ""
    assert forked["parent"] == service.process.pid
    service.stop()
    plain, said = run(environment, "--port", "1 2", umask=0o027, user=user)
    assert said.startswith("No fork: ")
    assert forked["line"][2].endswith("bin/jupyterhub-singleuser")
    changing = r"(Name|Pid|Tgid|PPid|NS\w+|Vm\w+|Rss\w+|\w*ctxt_switches|SigQ|Sig\w+|FDSize|Threads|State|Kthread):.*\n"
    for each in (forked, plain):
        each["status"] = re.sub(changing, "", each["status"])
        # Besides these a fork has its connection to the client.
        each["files"] = sorted(number for number, kind in each["files"].items() if not kind.startswith("socket:"))
        for name in ("keys", "line", "parent", "pid", "random"):
            del each[name]
    assert forked == plain
    assert sorted(forked["files"]) == ["0", "1", "2"]


@pytest.mark.usefixtures("service")
def test_a_fork_has_no_file_of_the_service(environment: Path) -> None:
    waiting = start(environment, "--wait")
    assert waiting.stdout
    pid = int(waiting.stdout.readline())
    files = [entry.readlink() for entry in Path(f"/proc/{pid}/fd").iterdir()]
    # The last is the one to its own client.
    assert len(files) == 4
    mapped = Path(f"/proc/{pid}/maps").read_text()
    assert not re.findall(r"(?m)^.*rw-s.*$", mapped)
    waiting.terminate()
    assert waiting.wait(10) == -signal.SIGTERM
    waiting.communicate()


@pytest.mark.usefixtures("service")
def test_forks_have_randomness_of_their_own(environment: Path) -> None:
    """And a key of their own, by which processes of multiprocessing know each other; with it they run what they get."""
    (one, _), (other, _) = run(environment), run(environment)
    assert not set(one["random"]) & set(other["random"])
    assert one["imported in"] == "/usr"


@pytest.mark.usefixtures("service")
def test_limits_and_rights_are_taken_over(environment: Path) -> None:
    def prepare() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, 300))
        os.nice(5)
        Path("/proc/self/oom_score_adj").write_text("500")
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)
        # CAP_NET_RAW, of those that nobody can gain any more.
        ctypes.CDLL(None).prctl(24, 13, 0, 0, 0)

    def boundary(status: str) -> int:
        return int(status.partition("CapBnd:\t")[2][:16], 16)

    forked, said = run(environment, **as_user(prepare))
    assert said == ""
    own = boundary(Path("/proc/self/status").read_text())
    assert boundary(forked["status"]) == own & ~(1 << 13)
    assert re.search(r"Max open files +200 +300 ", forked["limits"])
    assert (forked["nice"], forked["oom"], forked["hup"]) == (min(os.nice(0) + 5, 19), "500\n", True)
    assert "NoNewPrivs:\t1\n" in forked["status"]


def test_a_filter_of_system_calls_is_taken_over(environment: Path, service: PreforkService) -> None:
    # Loads the number of the call; EPERM for reboot(), which nobody needs here, or lets it through.
    reboot = 169 if os.uname().machine == "x86_64" else 142
    code = [(0x20, 0, 0, 0), (0x15, 0, 1, reboot), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7FFF0000)]
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in code))

    class Filter(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))

    def prepare() -> None:
        libc = ctypes.CDLL(None)
        libc.prctl(38, 1, 0, 0, 0)
        for _ in range(2):
            libc.prctl(22, 2, ctypes.byref(Filter(len(code), ctypes.addressof(program))), 0, 0)

    forked, said = run(environment, **as_user(prepare))
    assert said == ""
    assert forked["parent"] == service.process.pid
    assert "Seccomp:\t2\nSeccomp_filters:\t2\n" in forked["status"]


def test_control_groups_and_namespaces_are_taken_over(environment: Path, service: PreforkService) -> None:
    place = next(path for path in ("/sys/fs/cgroup/pids", "/sys/fs/cgroup") if Path(path, "cgroup.procs").exists())
    group = Path(place, f"prefork-test-{os.getpid()}")
    group.mkdir()

    def prepare() -> None:
        (group / "cgroup.procs").write_text("0")
        # Of mounts, host names and System V objects.
        assert ctypes.CDLL(None).unshare(0x20000 | 0x4000000 | 0x8000000) == 0

    forked, said = run(environment, **as_user(prepare))
    assert said == ""
    assert forked["parent"] == service.process.pid
    assert group.name in forked["groups"]
    different = [
        name for name, kind in forked["namespaces"].items() if str(Path(f"/proc/self/ns/{name}").readlink()) != kind
    ]
    assert sorted(different) == ["ipc", "mnt", "uts"]
    until(lambda: not (group / "cgroup.procs").read_text(), "an empty group")
    group.rmdir()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"env": {"PYTHONPATH": "/tmp"}}, "PYTHONPATH is set"),
        ({"env": {"LD_PRELOAD": ""}}, "LD_PRELOAD is set"),
        ({"env": {"LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}}, ""),
        ({"env": {"LANG": "C.UTF-8", "X_SET": ""}}, "X_SET is set"),
        ({"user": 0, "group": 0, "extra_groups": []}, "capabilities"),
        ({"pass_fds": [1]}, ""),
    ],
)
def test_what_cannot_be_forked_starts_by_itself(
    environment: Path, service: PreforkService, options: dict[str, Any], reason: str
) -> None:
    result, said = run(environment, **options)
    assert said == (f"No fork: {reason}. The server starts by itself.\n" if reason else "")
    assert (result["parent"] == service.process.pid) == (not reason)


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize(
    ("control", "reason"),
    [(65, "no memory may be written to and executed"), (41, "THP_enabled cannot be taken over")],
)
def test_rules_for_memory_are_not_lost(environment: Path, control: int, reason: str) -> None:
    """As systemd's MemoryDenyWriteExecute= sets one."""
    if ctypes.CDLL(None).prctl(66, 0, 0, 0, 0) < 0:
        pytest.skip("a kernel without PR_SET_MDWE")
    result, said = run(environment, **as_user(lambda: ctypes.CDLL(None).prctl(control, 1, 0, 0, 0)))
    assert result["parent"] == os.getpid()
    assert said == f"No fork: {reason}. The server starts by itself.\n"


@pytest.mark.usefixtures("service")
def test_a_login_that_is_audited_stays_so(environment: Path) -> None:
    """The kernel writes down who logged in, and a fork of the service would be nobody's."""
    if not Path("/proc/self/loginuid").exists():
        pytest.skip("a kernel without audit")
    own = Path("/proc/self/loginuid").read_text()

    def log_in() -> None:
        Path("/proc/self/loginuid").write_text("60001")

    result, said = run(environment, **as_user(log_in))
    assert own != "60001"
    assert result["parent"] == os.getpid()
    assert said == "No fork: a login that is audited. The server starts by itself.\n"


def test_another_environment_gets_no_fork(environment: Path, service: PreforkService) -> None:
    second = make_environment(environment.parent / "second", PROGRAM, PYTHON)
    (second / "run/s").symlink_to(service.path)
    result, said = run(second)
    assert result["parent"] == os.getpid()
    assert said == "No fork: the service runs another environment. The server starts by itself.\n"


@pytest.mark.usefixtures("service")
def test_a_root_directory_of_its_own_gets_no_fork(environment: Path) -> None:
    root = environment.parent / "root"
    root.mkdir()

    def prepare() -> None:
        libc = ctypes.CDLL(None)
        assert libc.unshare(0x20000) == 0
        assert libc.mount(None, b"/", None, 0x44000, None) == 0
        assert libc.mount(b"/", os.fsencode(root), None, 0x5000, None) == 0
        os.chroot(root)
        os.chdir("/usr")

    result, said = run(environment, **as_user(prepare))
    assert result["parent"] == os.getpid()
    assert said == "No fork: a root directory. The server starts by itself.\n"


def test_a_user_is_told_of_too_many_starts(environment: Path, service: PreforkService) -> None:
    user = next(USERS)
    told = [run(environment, user=user) for _ in range(12)]
    assert [said for _, said in told[:10]] == [""] * 10
    assert told[-1][0]["parent"] != service.process.pid
    assert "the service starts no more for this user at the moment" in told[-1][1]


def test_a_host_that_is_full_does_not_end_the_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = runpy.run_path(str(FILES / "prefork.py"), run_name="prefork")
    service = space["Service"](str(tmp_path / "s"))
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(tmp_path / "s"))
    service.accept()
    (connection,) = service.connections.values()

    def fork() -> int:
        raise BlockingIOError

    monkeypatch.setattr(os, "fork", fork)
    assert not service.fork(connection)
    assert not service.connections
    assert client.recv(1) == b""


@pytest.mark.usefixtures("service")
def test_a_foreign_user_namespace_gets_no_fork(environment: Path) -> None:
    def prepare() -> None:
        assert ctypes.CDLL(None).unshare(0x10000000) == 0

    client = start(environment, **{**as_user(lambda: None), "preexec_fn": prepare, "env": {"LANG": "C.UTF-8"}})
    _, said = client.communicate(timeout=20)
    assert "No fork: " in said


def test_starts_and_stops_leave_nothing_behind(environment: Path, service: PreforkService) -> None:
    """Two hundred, each in a control group of its own."""
    place = next(path for path in ("/sys/fs/cgroup/pids", "/sys/fs/cgroup") if Path(path, "cgroup.procs").exists())
    children = Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children")
    until(lambda: service.descriptors() <= 5 and not children.read_text(), "no other server")
    seen = []
    for turn in range(20):
        groups = [Path(place, f"prefork-test-{os.getpid()}-{turn}-{number}") for number in range(10)]
        clients = []
        for group in groups:
            group.mkdir()
            enter = as_user(lambda group=group: (group / "cgroup.procs").write_text("0"))  # type: ignore[misc]
            clients.append(start(environment, **enter))
        for group, client in zip(groups, clients, strict=True):
            printed, said = client.communicate(timeout=20)
            assert said.startswith("Forked as process "), said
            assert group.name in json.loads(printed)["groups"]
            # As the service manager removes it, which nothing must be in.
            until(lambda group=group: not (group / "cgroup.procs").read_text(), "an empty group")  # type: ignore[misc]
            group.rmdir()
        if turn in (9, 19):
            until(lambda: not children.read_text() and service.descriptors() <= 5, "no child")
            seen.append(service.memory())
    assert seen[1] - seen[0] < 0.2, seen


@pytest.mark.usefixtures("service")
def test_client_and_server_end_together(environment: Path) -> None:
    for kill in (lambda client, _: client.kill(), lambda _, pid: os.kill(pid, signal.SIGKILL)):
        client = start(environment, "--wait")
        assert client.stdout
        pid = int(client.stdout.readline())
        assert pid != client.pid
        kill(client, pid)
        assert client.wait(10) == -signal.SIGKILL
        until(lambda pid=pid: not runs(pid), "no server")  # type: ignore[misc]
        client.communicate()


@pytest.mark.usefixtures("service")
def test_a_server_ends_as_slowly_as_it_likes(environment: Path) -> None:
    """After it has said with which status."""
    client = start(environment, "--late")
    printed, said = client.communicate(timeout=20)
    assert said.startswith("Forked as process "), said
    assert client.returncode == 7
    assert printed.endswith("}\nlate")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_servers_go_on_without_the_service(environment: Path, service: PreforkService, number: int) -> None:
    client = start(environment, "--wait")
    assert client.stdout
    pid = int(client.stdout.readline())
    service.stop()
    assert client.poll() is None
    assert runs(pid)
    client.send_signal(number)
    client.wait(10)
    until(lambda: not runs(pid), "no server")
    client.communicate()


def test_a_client_ends_though_something_has_its_connection(environment: Path, service: PreforkService) -> None:
    """A process that the server has forked, while there is no service that could say how the server has ended."""
    client = start(environment, "--wait", "--fork")
    assert client.stdout
    pid = int(client.stdout.readline())
    (other,) = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    service.stop()
    os.kill(pid, signal.SIGKILL)
    assert client.wait(10) == -signal.SIGKILL
    assert runs(other)
    os.kill(other, signal.SIGKILL)
    client.communicate()


def test_a_start_is_not_too_late_once_it_is_promised(environment: Path) -> None:
    """The client runs nothing itself any more."""
    slow = make_environment(environment.parent / "slow", PROGRAM, PYTHON)
    program = slow / "bin/campushub-prefork"
    text = program.read_text()
    program.write_text(text.replace("DEADLINE = 10", "DEADLINE = 1"))
    assert program.read_text() != text
    service = PreforkService(slow)
    speaker = Speaker(service, slow)
    try:
        speaker.say("H", "receive", "receive", "ask", "receive")
        assert speaker.hear(6) == "A\nB\nR\n"
        time.sleep(1.2)
        speaker.say("G", "receive")
        assert speaker.process.stdout
        assert json.loads(speaker.process.stdout.readline())["parent"] == service.process.pid
    finally:
        speaker.end()
        service.stop()


@pytest.mark.parametrize(("before", "after"), [([], ["ask", "receive"]), (["ask", "receive"], [])])
def test_a_start_goes_on_when_the_service_is_killed(
    service: PreforkService, speak: Callable[[str], Speaker], before: list[str], after: list[str]
) -> None:
    """Before its request, and before go."""
    speaker = speak("")
    speaker.say("H", "receive", "receive", *before)
    heard = speaker.hear(6 if before else 4)
    service.stop()
    speaker.say(*after, "G", "receive")
    assert speaker.process.stdout
    assert heard + speaker.hear(2 if after else 0) == "A\nB\nR\n"
    assert json.loads(speaker.process.stdout.readline())["parent"] != service.process.pid
    # Its status.
    assert speaker.hear(1) == "\x07"


@pytest.mark.parametrize("heard", [b"", b"A", b"AB", b"AB" + struct.pack("=i", -signal.SIGKILL)])
def test_a_child_that_is_killed_fails_no_start(environment: Path, heard: bytes) -> None:
    """With a stand-in for the service, which says what is said until then."""
    with tempfile.TemporaryDirectory(dir=environment.parent) as name, socket.socket(socket.AF_UNIX) as listener:
        Path(name).chmod(0o755)
        killed = make_environment(Path(name) / "env", PROGRAM, PYTHON)
        listener.bind(str(killed / "run/s"))
        (killed / "run/s").chmod(0o666)
        listener.listen()
        client = start(killed)
        connection, _ = listener.accept()
        connection.sendall(heard)
        connection.close()
        printed, said = client.communicate(timeout=20)
    assert (client.returncode, json.loads(printed)["pid"]) == (7, client.pid)
    assert said.startswith("No fork: ")


@pytest.mark.parametrize("delay", [0.0, 0.01, 0.02, 0.03])
def test_no_start_fails_whenever_the_service_is_killed(
    environment: Path, service: PreforkService, delay: float
) -> None:
    client = start(environment)
    time.sleep(delay)
    service.stop()
    printed, said = client.communicate(timeout=20)
    # A server that has been forked goes on.
    assert client.returncode == 7, said
    assert json.loads(printed)["directory"] == "/usr"


def test_a_service_that_hangs_delays_a_start_shortly(environment: Path) -> None:
    impatient = make_environment(environment.parent / "impatient", PROGRAM, PYTHON, wait=1)
    service = PreforkService(impatient)
    os.kill(service.process.pid, signal.SIGSTOP)
    result, said = run(impatient)
    service.stop()
    assert result["parent"] == os.getpid()
    assert said.startswith("No fork: ")


def test_garbage_and_crowds_gain_nothing(environment: Path, service: PreforkService) -> None:
    """Ten thousand connections of ten users, from processes that have as many open files as they may."""
    crowd = """
import os, resource, socket, struct, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
user = int(sys.argv[2])
os.setresuid(user, user, user)
held = []
print("begin", flush=True)
for number in range(1000):
    s = socket.socket(socket.AF_UNIX)
    s.connect(sys.argv[1])
    held.append(s)
    try:
        if number % 3 == 0:
            s.send(b"H" + os.urandom(50))
        elif number % 3 == 1:
            s.send(b"H" + struct.pack("=I", 1000) + b"half")
        elif number % 5 == 0:
            socket.send_fds(s, [b"HHHHHH"], [0] * 200)
    except OSError:
        pass
print("held", flush=True)
sys.stdin.read()
"""
    attackers = [
        subprocess.Popen(
            [PYTHON, "-c", crowd, str(service.path), str(user)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for user in range(60000, 60010)
    ]
    try:
        for word in ("begin\n", "held\n"):
            for attacker in attackers:
                assert attacker.stdout
                assert attacker.stdout.readline() == word
            began = time.monotonic()
            result, said = run(environment)
            assert (said, result["parent"]) == ("", service.process.pid)
            # The client as shipped waits so long for an answer.
            assert time.monotonic() - began < 3, word
            # 32 connections of each, and a handle of each child.
            assert service.descriptors() <= 5 + 10 * 32 * 2
    finally:
        for attacker in attackers:
            attacker.communicate(timeout=10)
    until(lambda: service.descriptors() <= 5, "no descriptor left")
    assert service.process.poll() is None


def test_nothing_of_a_user_is_known_to_the_service() -> None:
    """Variables that differ between users, and are read by an import, would be those of the service in each server."""
    look = """
import json, runpy, sys
space = runpy.run_path(sys.argv[1], run_name="prefork")
print(json.dumps(space["load"](sys.argv[2]).variables))
"""
    command = [sys.executable, "-c", look, str(FILES / "prefork.py"), str(FILES / "singleuser.py")]
    read = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert "TORNADO_EXTENSION" in read
    known = {"JUPYTERHUB_METRICS_PREFIX", "JUPYTERHUB_XSRF_ANONYMOUS_IP_CIDRS", "JUPYTERHUB_XSRF_ANONYMOUS_ID_HEADERS"}
    known |= {f"JUPYTERHUB_SERVER_{when}_DURATION_SECONDS_BUCKETS" for when in ("SPAWN", "STOP")}
    assert {name for name in read if name.startswith("JUPYTERHUB_")} == known
    others = ("HOME", "USER", "LOGNAME", "PATH", "TMPDIR", "XDG_", "LANG", "LC_", "JUPYTER_CONFIG", "JUPYTER_RUN")
    assert [name for name in read if name.upper().startswith(others) or name.lower().endswith("_proxy")] == []


def test_nobody_acts_for_another_user(speak: Callable[[str], Speaker]) -> None:
    """Whatever a request says: who connected is who the server is."""
    speaker = speak("")
    speaker.say("H", "receive", "receive", "ask", "receive", "G")
    assert speaker.hear(6) == "A\nB\nR\n"
    assert speaker.process.stdout
    status = json.loads(speaker.process.stdout.readline())["status"]
    user = speaker.user
    assert f"Uid:\t{user}\t{user}\t{user}\t{user}\nGid:\t{GROUP}\t{GROUP}" in status


def test_nothing_is_read_before_the_child_is_the_users(
    service: PreforkService, speak: Callable[[str], Speaker]
) -> None:
    speaker = speak("--confined")
    speaker.say("H", "receive", "receive")
    assert speaker.hear(4) == "A\nB\n"
    (child,) = Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children").read_text().split()
    status = Path(f"/proc/{child}/status").read_text()
    assert f"Uid:\t{speaker.user}\t{speaker.user}\t{speaker.user}\t{speaker.user}\n" in status
    assert "CapPrm:\t0000000000000000\n" in status
    assert "NoNewPrivs:\t1\n" in status
    # Its user may not look into it, nor trace it.
    assert Path(f"/proc/{child}/fd").stat().st_uid == 0
    speaker.say("ask", "receive")
    assert speaker.hear(2) == "R\n"
    assert Path(f"/proc/{child}/fd").stat().st_uid == speaker.user


@pytest.mark.parametrize("accepted", [False, True])
@pytest.mark.parametrize("program", ["", "sleep"])
def test_who_is_gone_or_another_by_then_gets_no_fork(
    environment: Path, service: PreforkService, speak: Callable[[str], Speaker], accepted: bool, program: str
) -> None:
    """The client ends, or executes a program with more rights, while somebody has its connection still."""
    until(lambda: service.descriptors() <= 5, "no other server")
    words = ["leave"]
    if program:
        # Of root, as `su` is one.
        place = environment.parent / program
        shutil.copyfile("/usr/bin/sleep", place)
        place.chmod(0o4755)
        words = [f"leave {place}"]
    if not accepted:
        os.kill(service.process.pid, signal.SIGSTOP)
    speaker = speak("")
    if accepted:
        until(lambda: service.descriptors() > 5, "a connection")
        os.kill(service.process.pid, signal.SIGSTOP)
    speaker.say("H", *words)
    assert speaker.hear(5) == "left\n"
    if program:
        until(lambda: "Uid:\t" + str(speaker.user) + "\t0\t" in status_of(speaker.process.pid), "more rights")
    else:
        assert speaker.process.wait(10) == 0
    os.kill(service.process.pid, signal.SIGCONT)
    speaker.say("receive all")
    assert speaker.process.stdout
    said = speaker.process.stdout.readline()
    if program:
        assert said == "ANa process that its user may not look into\n"
    else:
        assert said == "\n" or said.startswith("AN"), said
    result, said = run(environment)
    assert (said, result["parent"]) == ("", service.process.pid)


def test_process_closed_to_its_user_gets_no_fork(speak: Callable[[str], Speaker]) -> None:
    """As one that has run a program with more rights, and may have kept a group of it."""
    speaker = speak("--closed")
    speaker.say("H", "receive", *["receive"] * 12)
    assert speaker.hear(26).replace("\n", "") == "ANa process t"


def test_a_full_socket_holds_nobody_up(
    environment: Path, service: PreforkService, speak: Callable[[str], Speaker]
) -> None:
    """The service and a server have one socket to a client that reads nothing, and the server may make it wait."""
    speaker = speak("--fill")
    speaker.say("H", "receive", "receive", "ask", "receive", "G")
    assert speaker.hear(10) == "A\nB\nR\nfull"
    until(lambda: service.descriptors() <= 5, "the end of the server")
    result, said = run(environment)
    assert (said, result["parent"]) == ("", service.process.pid)


def test_a_socket_that_is_kept_ends_no_other_server(
    environment: Path, service: PreforkService, speak: Callable[[str], Speaker]
) -> None:
    """A number of a descriptor must not mean what it meant before, as long as somebody has what it was."""
    until(lambda: service.descriptors() <= 5, "no other server")
    speaker = speak("--keep")
    speaker.say("H", "receive", "receive", "ask", "receive", "G")
    assert speaker.hear(10) == "A\nB\nR\nkept"
    until(lambda: service.descriptors() <= 5, "the end of the server")
    other = start(environment, "--wait")
    assert other.stdout
    pid = int(other.stdout.readline())
    used = service.cpu_seconds()
    speaker.say("close")
    assert speaker.hear(7) == "closed\n"
    with pytest.raises(subprocess.TimeoutExpired):
        other.wait(1)
    assert runs(pid)
    # Nor does it keep the service busy.
    assert service.cpu_seconds() - used < 0.2
    other.terminate()
    other.communicate()


def test_a_fork_has_no_key_of_the_service(environment: Path) -> None:
    """It has a keyring of its own for its session, with nothing in it, as the unit of a server has."""
    add = {"x86_64": 248, "aarch64": 217}.get(os.uname().machine, -1)
    keyed = make_environment(environment.parent / "keyed", PROGRAM, PYTHON)

    def prepare() -> None:
        libc = ctypes.CDLL(None)
        keyctl = {"x86_64": 250, "aarch64": 219}[os.uname().machine]
        # It is the service's, to write to and read.
        assert libc.syscall(keyctl, 1, None) > 0
        assert libc.syscall(add, b"user", b"campushub-test", b"x", 1, -3) > 0
        assert libc.syscall(keyctl, 11, -3, None, 0) == 4

    try:
        service = PreforkService(keyed, preexec_fn=prepare)
    except subprocess.SubprocessError:
        pytest.skip("no keyrings here")
    (one, said), (other, _) = run(keyed), run(keyed)
    service.stop()
    assert (said, one["parent"]) == ("", service.process.pid)
    assert (one["keys"][1], other["keys"][1]) == (0, 0)
    assert one["keys"][0] > 0
    assert one["keys"][0] != other["keys"][0]


def test_names_that_users_give_are_no_lines(environment: Path) -> None:
    """Of a mount, as users may have them, or of a control group of theirs."""
    named = make_environment(environment.parent / "named", PROGRAM, PYTHON)

    def prepare() -> None:
        libc = ctypes.CDLL(None)
        place = os.fsencode(named) + b"/a\r1 2\x1c3\xff"
        Path(os.fsdecode(place)).mkdir()
        assert libc.unshare(0x20000) == 0
        assert libc.mount(None, b"/", None, 0x44000, None) == 0
        assert libc.mount(b"none", place, b"tmpfs", 0, None) == 0

    service = PreforkService(named, preexec_fn=prepare)
    result, said = run(named)
    service.stop()
    assert (said, result["parent"]) == ("", service.process.pid)
