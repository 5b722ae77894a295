"""
Fork servers or kernels of users from a process that has imported what they need. Runs as root, one for an environment.

    campushub-prefork SOCKET
    campushub-prefork-kernels SOCKET PACKAGE...

What is said here of servers is true of kernels; what is different is in `prefork_kernel`, which is the program then.

Everybody may connect to SOCKET, to have the program run that `prefork_client` would run itself:

1. The client says hello, and a child is forked for it.
2. The child looks at the client in /proc, joins its control groups, takes over its limits, namespaces and whatever
   else the kernel keeps of a process, becomes its user, and checks that the kernel now says the same of both.
3. The client sends its command line, environment and working directory, with its standard input, output and error.
4. The child says that it is ready, or why it cannot be as the client is. In the latter case, and when nothing is
   heard in time, the client runs the program itself.
5. The client says go, the child runs the program. The status of its end is the last word.

The process that everybody's servers are forked from reads nothing of what anybody sends, so there is nothing of one
user in it that the server of another could find. It acts for the UID that the kernel gives for the peer and no other;
all that the child takes over is that of a process of the same user, and one that this user may look into. Nothing that
is sent is read before the child is the user's, and until it is all that the client is nobody but root can look into it.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import dataclasses
import fcntl
import gc
import importlib
import locale
import os
import platform
import random
import re
import resource
import runpy
import select
import signal
import site
import socket
import struct
import sys
import sysconfig
import time
from collections.abc import Iterator, MutableMapping, Sequence
from pathlib import Path
from typing import Any

# What a server imports besides what its program does, as far as it is there.
MODULES = """
campushub_session.app campushub_session.handlers campushub_session.home jupyter_client.asynchronous
jupyter_client.ioloop jupyter_client.provisioning jupyter_displays.app jupyter_displays.handlers
jupyter_displays.manager jupyter_lsp jupyter_server.files.handlers jupyter_server.gateway.managers
jupyter_server.nbconvert.handlers jupyter_server.serverapp jupyter_server.services.api.handlers
jupyter_server.services.config.handlers jupyter_server.services.contents.handlers
jupyter_server.services.contents.largefilemanager jupyter_server.services.events.handlers
jupyter_server.services.kernels.handlers jupyter_server.services.kernels.kernelmanager
jupyter_server.services.kernelspecs.handlers jupyter_server.services.nbconvert.handlers
jupyter_server.services.security.handlers jupyter_server.services.sessions.handlers jupyter_server.services.shutdown
jupyter_server.view.handlers jupyter_server_terminals.app jupyterlab.labapp jupyterlab_server notebook.app
notebook_shim.shim terminado tornado.simple_httpclient
""".split()  # noqa: SIM905
# What a module reads of the environment as it is imported stays as it was for the service: URLs of the hub, or places
# in somebody's home. Of these a server has its own, imported again or loaded again.
ANEW = ("jupyterhub.services", "jupyterhub.singleuser", "jupyterlab.extensions", "jupyterlab.labapp")
RELOADED = ("send2trash.plat_other",)
# What these read makes no difference: languages of messages, the name of the user, which jupyter_config.py sets, places
# that are looked up again for use. Where another module finds something changed there is no fork.
HARMLESS = {"jupyter_client.session", "jupyter_server.transutils", "sysconfig", "wsgiref.handlers", "zoneinfo._tzpath"}

# The program of a service, by its own name.
PROGRAMS = {
    "campushub-prefork": "jupyterhub-singleuser-alone",
    "campushub-prefork-kernels": "campushub-kernel-forked",
}

REQUEST = 4 << 20  # bytes; the kernel allows a program as much
DEADLINE = 10  # seconds from the fork until a child is ready
SILENCE = 2.0  # seconds that a connection may say nothing
CONNECTIONS = 32  # of one user, servers that run among them
STARTS, ONE_MORE = 10, 3.0  # of one user in a row, and the seconds after which there may be one more
UNFIT = 3  # exit status of a service that must not serve

# From <linux/prctl.h>, <linux/ptrace.h>, <linux/keyctl.h>, <linux/seccomp.h> and <sched.h>.
PR_SET_DUMPABLE, PR_SET_NAME, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 4, 15, 22, 24, 38
PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_SECCOMP_GET_FILTER = 17, 0x4206, 0x4207, 0x420C
KEYCTL_JOIN_SESSION_KEYRING, SECCOMP_MODE_FILTER, WALL = 1, 2, 0x40000000
# Without listing those of a client, which its user alone may.
ALL_NAMESPACES = os.listdir("/proc/self/ns")
NAMESPACES = {"mnt": 0x20000, "uts": 0x4000000, "ipc": 0x8000000, "net": 0x40000000}
SAME_PERSONALITY = 0xFFFFFFFF
# keyctl, ioprio_set, ioprio_get
CALLS = {"x86_64": (250, 251, 252), "aarch64": (219, 30, 31)}.get(platform.machine())
# What /proc/PID/status must say of a child as it does of its client.
SAME: tuple[str, ...] = ("Umask", "Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapAmb", "NoNewPrivs")
SAME += ("Seccomp", "Seccomp_filters", "SigBlk", "SigIgn", "Cpus_allowed", "Mems_allowed", "THP_enabled")
SAME += ("Speculation_Store_Bypass", "SpeculationIndirectBranch")

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = libc.ptrace.restype = ctypes.c_long


class RefusedError(Exception):
    """The client must run the program itself; the text says why."""


def call(function: str, *arguments: Any) -> int:
    """Call a function of the C library; raises OSError."""
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    result: int = getattr(libc, function)(*words)
    if result == -1:
        raise OSError(ctypes.get_errno(), f"{function}: {os.strerror(ctypes.get_errno())}")
    return result


def lines_of(path: str) -> list[str]:
    """Return the lines of a file of the kernel. Names that users choose have any byte in them but the end of a line."""
    return os.fsdecode(Path(path).read_bytes()).split("\n")[:-1]


class Filter(ctypes.Structure):
    """A program for seccomp (struct sock_fprog)."""

    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


@dataclasses.dataclass(frozen=True)
class Process:
    """What the kernel keeps of a process and hands on to a program that it executes."""

    status: dict[str, str]
    groups: list[str]  # lines of /proc/PID/cgroup
    namespaces: dict[str, str]
    root: str
    label: str
    login: str
    oom_score_adj: str
    limits: list[list[str]]
    nice: int
    scheduling: tuple[int, int]
    io_priority: int

    @classmethod
    def read(cls, pid: int) -> Process:
        """Look at a process."""
        place = f"/proc/{pid}"
        lines = (line.partition(":\t") for line in lines_of(f"{place}/status"))
        return cls(
            status={name: value.strip() for name, _, value in lines},
            groups=lines_of(f"{place}/cgroup"),
            namespaces={name: os.readlink(f"{place}/ns/{name}") for name in ALL_NAMESPACES},
            root=os.readlink(f"{place}/root"),
            label=mark_of(f"{place}/attr/current"),
            login=mark_of(f"{place}/loginuid") + " " + mark_of(f"{place}/sessionid"),
            oom_score_adj=Path(f"{place}/oom_score_adj").read_text(),
            limits=[line[26:].split()[:2] for line in lines_of(f"{place}/limits")[1:]],
            nice=os.getpriority(os.PRIO_PROCESS, pid),
            scheduling=(os.sched_getscheduler(pid), os.sched_getparam(pid).sched_priority),
            io_priority=call("syscall", CALLS[2], 1, pid) if CALLS else 0,
        )

    def difference(self, other: Process) -> str:
        """Return what is not the same in another process."""
        for name in SAME:
            if self.status.get(name) != other.status.get(name):
                return name
        ignored = ("status", "namespaces")
        names = [field.name for field in dataclasses.fields(self) if field.name not in ignored]
        found = [name for name in names if getattr(self, name) != getattr(other, name)]
        found += [f"{name} namespace" for name in self.namespaces if self.namespaces[name] != other.namespaces[name]]
        return found[0] if found else ""

    def obstacle(self, uid: int, own: Process) -> str:
        """Return why a child of this service cannot become like this process of a user."""
        status, inherited = self.status, own.status
        confined = status["NoNewPrivs"] == "1"
        beyond = int(status["CapBnd"], 16) & ~int(inherited["CapBnd"], 16)
        namespaces = [name for name in self.namespaces if name not in NAMESPACES]
        # A process that has a UID besides its user's runs a program with more rights than the user gave it.
        obstacles = {
            "another user": status["Uid"].split() != [str(uid)] * 4 or len(set(status["Gid"].split())) > 1,
            "capabilities": any(int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")),
            # Nobody gains any with no_new_privs; user namespaces have sets of their own.
            "capabilities that it may gain": beyond and not confined,
            "threads": status["Threads"] != "1",
            "blocked signals": int(status["SigBlk"], 16),
            "a system call filter": status["Seccomp"] not in "02" or (status["Seccomp"] == "2" and not confined),
            "a system call filter of the service": inherited["Seccomp"] != "0" or inherited["NoNewPrivs"] != "0",
            "a security label": self.label != own.label,
            "a login that is audited": self.login != own.login,
            "a root directory": self.root != "/",
            "namespaces": any(self.namespaces[name] != own.namespaces[name] for name in namespaces),
        }
        return next((name for name, there in obstacles.items() if there), "")


def mark_of(path: str) -> str:
    """Return what a kernel that marks processes for this has put there."""
    try:
        return os.fsdecode(Path(path).read_bytes()).rstrip("\0\n")
    except OSError:
        return ""


def look_at(uid: int, pid: int, own: Process) -> Process:
    """Look at a client with its user's rights to files. Raises RefusedError or OSError."""
    call("setfsuid", uid)
    process = Process.read(pid)
    try:
        # The owner alone can read this, and that is root as long as the user may not look into the process: one that
        # had more rights, and may have kept some, or whose program the user may not read.
        personality = int(Path(f"/proc/{pid}/personality").read_text(), 16)
    except PermissionError:
        raise RefusedError("a process that its user may not look into") from None
    call("setfsuid", 0)
    if personality != call("personality", SAME_PERSONALITY):
        raise RefusedError("a personality")
    obstacle = process.obstacle(uid, own)
    if obstacle:
        raise RefusedError(obstacle)
    return process


def filters_of(pid: int) -> list[bytes]:
    """Return the programs for seccomp that a process of one thread is under, the oldest first."""
    call("ptrace", PTRACE_SEIZE, pid, 0, 0)
    call("ptrace", PTRACE_INTERRUPT, pid, 0, 0)
    call("waitpid", pid, None, WALL)
    found: list[bytes] = []
    with contextlib.suppress(FileNotFoundError):
        while True:
            length = call("ptrace", PTRACE_SECCOMP_GET_FILTER, pid, len(found), None)
            code = ctypes.create_string_buffer(8 * length)
            call("ptrace", PTRACE_SECCOMP_GET_FILTER, pid, len(found), code)
            found.append(code.raw)
    call("ptrace", PTRACE_DETACH, pid, 0, 0)
    return found


def hierarchies() -> dict[str, tuple[str, str]]:
    """
    Return where control groups are mounted, by the controllers as /proc/PID/cgroup has them; version 2 is ''.

    In a container it may be a group of the machine that is mounted, which comes second: paths of groups begin with it.
    """
    found = {}
    for line in lines_of("/proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ")[:3]
        root, place = before.split(" ")[3:5]
        if kind == "cgroup2":
            found[""] = place, root
        elif kind == "cgroup":
            for controller in options.split(","):
                found[controller] = place, root
    return found


def join(groups: list[str], own: list[str]) -> None:
    """Move this process into control groups."""
    mounted = hierarchies()
    for line in groups:
        if line not in own:
            _, controllers, path = line.split(":", 2)
            place, root = mounted.get(controllers.split(",")[0], ("", ""))
            below = "" if root == "/" else root
            if not place or not f"{path}/".startswith(f"{below}/"):
                raise RefusedError(f"no hierarchy of control groups for {controllers or 'version 2'}")
            Path(f"{place}{path.removeprefix(below)}", "cgroup.procs").write_text("0")


def identity(path: str) -> tuple[int, int]:
    """Return what tells a file from all others."""
    found = os.stat(path)
    return found.st_dev, found.st_ino


class Request:
    """What the client wants to run."""

    def __init__(self, message: bytes, descriptors: list[int]) -> None:
        """Read it; raises ValueError."""
        environment, directory, count, *words = os.fsdecode(message).split("\0")
        if len(descriptors) != 3:
            raise ValueError("not three descriptors")
        self.directory, self.descriptors = directory, descriptors
        self.arguments, variables = words[: int(count)], words[int(count) :]
        self.variables = {name: value for name, _, value in (variable.partition("=") for variable in variables)}
        self.environment = environment

    def check(self, known: dict[str, str | None]) -> None:
        """Raise RefusedError if something would be another than what was imported with these variables."""
        if self.environment != sys.prefix:
            raise RefusedError("the service runs another environment")
        for name, value in known.items():
            if self.variables.get(name) != value:
                raise RefusedError(f"{name} is set")

    @classmethod
    def receive(cls, connection: socket.socket) -> Request:
        """Wait for it."""
        data, descriptors, _, _ = socket.recv_fds(connection, 1 << 16, 3)
        (length,) = struct.unpack_from("=I", data)
        if length > REQUEST:
            raise ValueError("too long")
        parts = [data[4:]]
        missing = length - len(parts[0])
        while missing > 0:
            parts.append(connection.recv(min(missing, 1 << 16)))
            if not parts[-1]:
                raise ValueError("half a request")
            missing -= len(parts[-1])
        return cls(b"".join(parts), descriptors)


def become(uid: int, pid: int) -> None:
    """Take over from a client what the kernel keeps of it. Raises RefusedError, OSError or ValueError."""
    handle, own = os.pidfd_open(pid), Process.read(os.getpid())
    peer = look_at(uid, pid, own)
    filters = filters_of(pid) if peer.status["Seccomp"] == "2" else []
    # All of it is of the process that the handle means, which was of the user before and after it was looked at.
    again = look_at(uid, pid, own)
    signal.pidfd_send_signal(handle, 0)
    if peer.difference(again):
        raise RefusedError("it changed while it was looked at")

    join(peer.groups, own.groups)
    if peer.oom_score_adj != own.oom_score_adj:
        Path("/proc/self/oom_score_adj").write_text(peer.oom_score_adj)
    if peer.scheduling != own.scheduling:
        os.sched_setscheduler(0, peer.scheduling[0], os.sched_param(peer.scheduling[1]))
    os.setpriority(os.PRIO_PROCESS, 0, peer.nice)
    os.sched_setaffinity(0, os.sched_getaffinity(pid))
    if CALLS and peer.io_priority != own.io_priority:
        call("syscall", CALLS[1], 1, 0, peer.io_priority)

    program = identity(sys.prefix), identity(sys.executable)
    kinds = [kind for name, kind in NAMESPACES.items() if peer.namespaces[name] != own.namespaces[name]]
    if kinds:
        call("setns", handle, sum(kinds))
    os.close(handle)
    os.chdir("/")
    if program != (identity(sys.prefix), identity(sys.executable)):
        raise RefusedError("it sees other files")
    ignore_signals(int(peer.status["SigIgn"], 16))
    drop_root(uid, peer, own)
    if CALLS:
        call("syscall", CALLS[0], KEYCTL_JOIN_SESSION_KEYRING, 0)
    os.umask(int(peer.status["Umask"], 8))
    if peer.status["NoNewPrivs"] == "1":
        call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    for code in filters:
        call("prctl", PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(Filter(len(code) // 8, code)), 0, 0)
    # The last look at what must be true; a client that has ended meanwhile is none.
    difference = peer.difference(Process.read(os.getpid()))
    if difference:
        raise RefusedError(f"{difference} cannot be taken over")


def limit_of(text: str) -> int:
    """Return a limit as setrlimit() takes it."""
    return resource.RLIM_INFINITY if text == "unlimited" else int(text)


def ignore_signals(ignored: int) -> None:
    """Ignore the signals that the client ignores, and no other."""
    # Until this process is ready, an alarm ends it.
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGALRM}:
        if ignored >> (number - 1) & 1:
            signal.signal(number, signal.SIG_IGN)
        elif signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def drop_root(uid: int, peer: Process, own: Process) -> None:
    """Become the user."""
    for number, limits in enumerate(peer.limits):
        if limits != own.limits[number]:
            resource.setrlimit(number, (limit_of(limits[0]), limit_of(limits[1])))
    superfluous = int(own.status["CapBnd"], 16) & ~int(peer.status["CapBnd"], 16)
    for number in range(64):
        if superfluous >> number & 1:
            call("prctl", PR_CAPBSET_DROP, number, 0, 0, 0)
    os.setgroups([int(gid) for gid in peer.status["Groups"].split()])
    gid = int(peer.status["Gid"].split()[0])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def settle(request: Request, options: Sequence[str]) -> None:
    """Give this process the client's directory, output, environment and name, and randomness of its own."""
    os.chdir(request.directory)
    for number, descriptor in enumerate(request.descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(request.variables)
    with contextlib.suppress(locale.Error):
        locale.setlocale(locale.LC_CTYPE, "")
    if locale.nl_langinfo(locale.CODESET) != "UTF-8":
        raise RefusedError("a locale without UTF-8")
    time.tzset()
    site.USER_BASE = site.USER_SITE = None
    site.getusersitepackages()
    sysconfig.get_config_vars()["userbase"] = site.USER_BASE
    for name in RELOADED:
        if name in sys.modules:
            importlib.reload(sys.modules[name])
    renew_randomness()
    words = [sys.executable, *(options or ("-s", request.arguments[0])), *request.arguments[1:]]
    name = "python" if options else os.path.basename(request.arguments[0])
    call("prctl", PR_SET_NAME, ctypes.create_string_buffer(os.fsencode(name)), 0, 0, 0)
    # What others see as its command line is where the kernel has put that of the service.
    start, end = (int(word) for word in Path("/proc/self/stat").read_text().rpartition(")")[2].split()[45:47])
    line = b"\0".join(os.fsencode(word) for word in words)[: end - start - 1]
    ctypes.memmove(start, line.ljust(end - start, b"\0"), end - start)


def renew_randomness() -> None:
    """Take again what imports have taken at random, and where this process is."""
    random.seed()
    if process := sys.modules.get("multiprocessing.process"):
        # By the key processes know each other; in the directory they look for modules.
        vars(process)["current_process"]().authkey = os.urandom(32)
        vars(process)["ORIGINAL_DIR"] = os.getcwd()
    if session := sys.modules.get("jupyter_client.session"):
        # Of a kernel that is started with --secure.
        for settings, _ in vars(session)["session_flags"].values():
            if settings["Session"].get("key"):
                settings["Session"]["key"] = vars(session)["new_id_bytes"]()


class WatchedEnvironment(MutableMapping[str, str]):
    """The variables of this process; notes which of them a module reads that is not imported again."""

    def __init__(self) -> None:
        self.real, self.read = os.environ, dict[tuple[str, str], str | None]()

    def __getitem__(self, name: str) -> str:
        # Whoever is being imported: a module may be imported for the first time by one that is imported again.
        frame: Any = sys._getframe(1)  # noqa: SLF001
        while frame and frame.f_code.co_name != "<module>":
            frame = frame.f_back
        module = frame.f_globals["__name__"] if frame else ""
        if not is_anew(module):
            self.read[module, name] = self.real.get(name)
        return self.real[name]

    def __setitem__(self, name: str, value: str) -> None:
        self.real[name] = value

    def __delitem__(self, name: str) -> None:
        del self.real[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.real)

    def __len__(self) -> int:
        return len(self.real)

    def copy(self) -> dict[str, str]:
        """Return all of it."""
        return dict(self)


@dataclasses.dataclass
class Program:
    """What is run in children."""

    path: str
    variables: dict[str, str | None]  # that imports have read, and what they were
    space: dict[str, Any]  # of a kernel: what it does differently


def load(program: str) -> Program:
    """Import what servers need."""
    for name in os.environ.keys() - {"PATH", "LANG"}:
        del os.environ[name]
    files, watched = open_files(), WatchedEnvironment()
    os.environ = watched  # type: ignore[assignment]  # noqa: B003
    space = runpy.run_path(program, run_name="campushub_prefork")
    for name in () if "run" in space else MODULES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    os.environ = watched.real  # noqa: B003
    for name in [name for name in sys.modules if is_anew(name)]:
        del sys.modules[name]
    if len(os.listdir("/proc/self/task")) > 1 or open_files() != files:
        print("What servers need has started a thread or opened a file: nothing is forked.", file=sys.stderr)
        raise SystemExit(UNFIT)
    gc.collect()
    # What the collector never looks at is not written to, and stays common to all.
    gc.freeze()
    known = HARMLESS.union(RELOADED)
    harmless = space.get("HARMLESS", re.compile("(?!)"))
    read = [item for item in watched.read.items() if item[0][0] not in known and not harmless.fullmatch(item[0][0])]
    return Program(program, {name: value for (_, name), value in read}, space)


def open_files() -> list[str]:
    """Return the numbers of descriptors; one of them is that of this very look."""
    return os.listdir("/proc/self/fd")


def is_anew(module: str) -> bool:
    """Return whether a module is imported again for each server."""
    return module in ANEW or module.startswith(tuple(f"{name}." for name in ANEW))


@dataclasses.dataclass
class Visitor:
    """What a user has of this service."""

    connections: int = 0
    starts: float = STARTS
    since: float = 0.0

    def may_start(self) -> bool:
        """Take one of the starts that the user has left."""
        now = time.monotonic()
        self.starts, self.since = min(STARTS, self.starts + (now - self.since) / ONE_MORE), now
        if self.starts < 1:
            return False
        self.starts -= 1
        return True


@dataclasses.dataclass
class Connection:
    """A client, and the child for it."""

    socket: socket.socket
    pid: int
    uid: int
    since: float
    child: int = -1  # a handle


class Service:
    """The process that all are forked from."""

    def __init__(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        # Whoever may run a program here may have a server.
        os.chmod(path, 0o666)  # noqa: S103
        self.listener.listen(4096)
        self.listener.setblocking(False)
        self.poll = select.epoll()
        self.poll.register(self.listener, select.EPOLLIN)
        self.connections: dict[int, Connection] = {}
        self.silent: dict[int, Connection] = {}
        self.children: dict[int, Connection] = {}
        self.visitors: dict[int, Visitor] = {}
        self.namespace = os.stat("/proc/self/ns/user").st_ino

    def serve(self) -> Connection:
        """Fork a child for each client; returns in the child."""
        while True:
            events = dict(self.poll.poll(SILENCE if self.silent else None))
            # What closes descriptors comes before what opens some: a number must not mean another one by then.
            for number in self.children.keys() & events.keys():
                self.reap(self.children[number])
            for number in (self.connections.keys() - self.silent.keys()) & events.keys():
                # The client has ended, as if by SIGKILL.
                self.unwatch(number)
                signal.pidfd_send_signal(self.connections[number].child, signal.SIGKILL)
            ready = [self.silent[number] for number in self.silent.keys() & events.keys()]
            for connection in ready:
                if not events[connection.socket.fileno()] & select.EPOLLIN:
                    self.forget(connection)
            # Nobody waits for more than one of each other user.
            for connection in {item.uid: item for item in ready if item.socket.fileno() in self.silent}.values():
                if self.fork(connection):
                    return connection
            if self.listener.fileno() in events:
                self.accept()
            now = time.monotonic()
            for connection in [item for item in self.silent.values() if now - item.since > SILENCE]:
                self.forget(connection)

    def accept(self) -> None:
        """Take over clients that have connected, up to a number of each user."""
        for _ in range(256):
            try:
                new, _ = self.listener.accept()
            except OSError:
                return
            pid, uid, _ = struct.unpack("3I", new.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            visitor = self.visitors.get(uid, Visitor())
            # What crowds cost least is asked first; who is not heard is not remembered either.
            if visitor.connections >= CONNECTIONS or not self.is_near(pid):
                new.close()
                continue
            self.visitors[uid] = visitor
            visitor.connections += 1
            new.setblocking(False)
            connection = Connection(new, pid, uid, time.monotonic())
            self.connections[new.fileno()] = self.silent[new.fileno()] = connection
            self.poll.register(new, select.EPOLLIN | select.EPOLLRDHUP)

    def is_near(self, pid: int) -> bool:
        """Return whether a process is in no other user namespace. There users can have any number of UIDs."""
        try:
            return os.stat(f"/proc/{pid}/ns/user").st_ino == self.namespace
        except OSError:
            return False

    def fork(self, connection: Connection) -> bool:
        """Fork a child for a client, if its user may have one; True in the child."""
        if not self.visitors[connection.uid].may_start():
            self.forget(connection)
            return False
        try:
            child = os.fork()
        except OSError:
            self.forget(connection)
            return False
        del self.silent[connection.socket.fileno()]
        if child:
            connection.child = os.pidfd_open(child)
            self.children[connection.child] = connection
            self.poll.register(connection.child, select.EPOLLIN)
            self.poll.modify(connection.socket, select.EPOLLRDHUP)
            return False
        self.poll.close()
        self.listener.close()
        for other in self.connections.values():
            if other.child >= 0:
                os.close(other.child)
            if other is not connection:
                other.socket.close()
        return True

    def reap(self, connection: Connection) -> None:
        """Tell the client how its child has ended."""
        end = os.waitid(os.P_PIDFD, connection.child, os.WEXITED | os.WNOHANG)
        if not end:
            return
        status = end.si_status if end.si_code == os.CLD_EXITED else -end.si_status
        with contextlib.suppress(OSError):
            # The child has had the same socket, and may have made it one that waits.
            connection.socket.send(struct.pack("=i", status), socket.MSG_DONTWAIT)
        del self.children[connection.child]
        self.unwatch(connection.child)
        os.close(connection.child)
        self.forget(connection)

    def forget(self, connection: Connection) -> None:
        """Close the connection to a client."""
        number = connection.socket.fileno()
        self.silent.pop(number, None)
        self.unwatch(number)
        del self.connections[number]
        connection.socket.close()
        self.visitors[connection.uid].connections -= 1

    def unwatch(self, number: int) -> None:
        """Watch a descriptor no more. By itself that ends with its last copy, which a user may have indefinitely."""
        with contextlib.suppress(FileNotFoundError):
            self.poll.unregister(number)


def begin(connection: Connection, program: Program) -> Request:
    """Become what the client is, and wait for its word; ends this process otherwise."""
    signal.alarm(DEADLINE)
    client = connection.socket
    client.setblocking(True)
    try:
        client.recv(1)
        client.sendall(b"A")
        os.setsid()
        handle = os.pidfd_open(os.getpid())
        become(connection.uid, connection.pid)
        client.sendall(b"B")
        request = Request.receive(client)
        request.check(program.variables)
        settle(request, program.space.get("OPTIONS", ()))
        if "check" in program.space:
            program.space["check"](request.variables, RefusedError)
        # As after any start of a program, and not before: all there is of this process is the user's now.
        call("prctl", PR_SET_DUMPABLE, 1, 0, 0, 0)
        # From this word on the client runs nothing itself. Where it ends before it says go there is nothing to read.
        signal.alarm(0)
        socket.send_fds(client, [b"R"], [handle])
        os.close(handle)
        if client.recv(1) != b"G":
            os._exit(0)
    except (RefusedError, OSError, ValueError, LookupError, struct.error) as error:
        with contextlib.suppress(OSError):
            client.sendall(f"N{error}\n".encode(errors="replace"))
        os._exit(0)
    return request


def end_with(connection: socket.socket, owner: int) -> None:
    """Have the kernel of the system end a process or a group (-PID) when the client has gone, whatever they do."""
    fcntl.fcntl(connection, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(connection, fcntl.F_SETOWN, owner)
    fcntl.fcntl(connection, fcntl.F_SETFL, fcntl.fcntl(connection, fcntl.F_GETFL) | os.O_ASYNC)
    watch = select.poll()
    watch.register(connection, 0)
    if watch.poll(0):
        os.kill(os.getpid(), signal.SIGKILL)


def main(path: str, program: str) -> None:
    """Serve; in a child, run the program."""
    os.closerange(3, 1 << 16)
    loaded = load(program)
    service = Service(path)
    connection = service.serve()
    request = begin(connection, loaded)
    status, pid = 1, os.getpid()
    # The service does the same for a server, as long as it is there. What a kernel has started ends with it.
    end_with(connection.socket, -pid if "run" in loaded.space else pid)

    def tell() -> None:
        """Tell the client, which the service cannot do when it was restarted meanwhile."""
        with contextlib.suppress(OSError):
            # A program may fork, and end as this one would.
            if os.getpid() == pid:
                connection.socket.send(struct.pack("=i", status))

    # What is registered first comes last.
    atexit.register(tell)
    sys.argv = [program, *request.arguments[1:]]
    try:
        if "run" in loaded.space:
            loaded.space["run"](request.arguments[1:])
        else:
            runpy.run_path(program, run_name="__main__")
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise


if __name__ == "__main__":
    directory, own_name = os.path.split(os.path.realpath(__file__))
    if own_name == "campushub-prefork-kernels" and sys.flags.no_user_site:
        # A kernel sees its user's packages, and hands on that it does; this service has none.
        os.environ["PYTHONUSERBASE"] = "/nonexistent"
        os.execv(sys.executable, [sys.executable, *sys.argv])  # noqa: S606
    main(sys.argv[1], os.path.join(directory, PROGRAMS[own_name]))
