"""The manager: starts, watches, recovers and ends displays."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import fcntl
import json
import os
import re
import secrets
import shutil
import signal
import socket
import stat
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_core.paths import jupyter_runtime_dir
from tornado import ioloop, web
from traitlets import Bool, Dict, Float, Integer, List, Unicode, default, observe
from traitlets.config import LoggingConfigurable

from . import programs, session_cleanup, x11
from .engines import ENGINES, Engine, Screen
from .keyboard import Keyboard
from .processes import Process, memory, start_time, with_variable
from .shares import Shares
from .sound import Sound
from .sound import installed as sound_installed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Iterator, Sequence

# Every process of a display is found by this environment variable, whatever its parent is.
DISPLAY_DIR_VARIABLE = "JUPYTER_DISPLAY_DIR"
# What must not reach a display: keys of the server, and what ties a program to another screen or session.
_NOT_INHERITED = (
    *("JPY_", "JUPYTERHUB_", "JUPYTER_TOKEN", "XPRA_", "DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY"),
    *("SESSION_MANAGER", "DBUS_SESSION_BUS_ADDRESS", "XDG_SESSION_", "XDG_SEAT", "XDG_VTNR", "WINDOWID", "PULSE_"),
)
# Where X servers and session managers have their sockets, by names that programs show a cookie at.
_SOCKET_DIRECTORIES = ("/tmp/.X11-unix", "/tmp/.ICE-unix")  # noqa: S108
_SITE_APPLICATIONS = Path("/etc/campushub/applications.d")
_SOCKET_PATH_LIMIT = 107
_SIZE_STABLE_SECONDS = 5.0
# An application without a window is not waited for any longer.
_WINDOW_SECONDS = 30.0
# Numbers of displays: small ones first, then a few of so many that no user can take all their names.
_NUMBERS = 1000
_LARGEST_NUMBER = 2**31 - 1
_RANDOM_NUMBERS = 16
# Who says something, as in "(xfce4-session:123): " or "xfce4-session: ".
_SAID = re.compile(r"\(?([\w.+-]+)(?::\d+\)|\[\d+\])?: ")
# What an X server says whose number somebody has taken in the meantime.
_NUMBER_TAKEN = (
    b"is already active for display",
    b"Cannot establish any listening sockets",
    b"Could not create lock file",
    b"Could not create server lock file",
    b"Can't read lock file",
)


def moment(seconds: float) -> str:
    """Return a time of the epoch as text, in UTC."""
    return dt.datetime.fromtimestamp(seconds, dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def now() -> str:
    """Return the present moment as text, in UTC."""
    return moment(time.time())


def boot() -> str:
    """Return what tells this boot of this host from all others."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip() + "@" + socket.gethostname()


def _x_socket(number: int) -> Path:
    return Path(f"/tmp/.X11-unix/X{number}")  # noqa: S108


def _x_lock(number: int) -> Path:
    return Path(f"/tmp/.X{number}-lock")  # noqa: S108


def _x_new_lock(number: int) -> Path:
    """Return what the X server makes its lock from: it waits 12 s for the name to be free, and ends."""
    return Path(f"/tmp/.tX{number}-lock")  # noqa: S108


def _x_keyboard(number: int) -> Path:
    """Return what the X server writes its keyboard to: without it, it ends."""
    return Path(f"/tmp/server-{number}.xkm")  # noqa: S108


def _x_pid(number: int) -> int:
    """Return the process that this user's lock of a number names.

    Raises:
        OSError: This user has no such lock.
        ValueError: It names none, so far.
    """
    return int(session_cleanup.read_own(_x_lock(number)))


def _number_taken(number: int) -> bool:
    """Return whether an X server has this number, or somebody else has left what a new one cannot clear away."""
    path = _x_socket(number)
    for own in (_x_keyboard(number), _x_new_lock(number)):
        with contextlib.suppress(FileNotFoundError):
            if own.lstat().st_uid != os.getuid():
                return True
    try:
        if start_time(_x_pid(number)):
            return True
    except FileNotFoundError:
        pass
    except (OSError, ValueError):
        return True
    try:
        if path.lstat().st_uid != os.getuid():
            return True
        with socket.socket(socket.AF_UNIX) as knock:
            knock.settimeout(1.0)
            knock.connect(str(path))
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    except OSError:
        return True
    return True


def _numbers() -> Iterator[int]:
    """Return the numbers to try for an X server."""
    yield from range(_NUMBERS)
    for _ in range(_RANDOM_NUMBERS):
        yield _NUMBERS + secrets.randbelow(_LARGEST_NUMBER - _NUMBERS)


def _check_socket_directories() -> None:
    """Refuse a directory in which another user could put a socket in the place of one of this user's.

    Raises:
        RuntimeError: It is somebody's who has not got the directory that it is in.
    """
    for path in map(Path, _SOCKET_DIRECTORIES):
        with contextlib.suppress(FileNotFoundError):
            about = path.stat()
            others = {about.st_uid, path.lstat().st_uid} - {os.getuid(), path.parent.stat().st_uid}
            if others or (about.st_mode & stat.S_IWOTH and not about.st_mode & stat.S_ISVTX):
                message = f"another user can change {path}, which has to be root's, with mode 1777"
                raise RuntimeError(message)


def _take_abstract_name(number: int) -> socket.socket:
    """Take the abstract name of an X server's socket, at which then nobody listens.

    Programs knock there first, with the cookie in their hands, and only then at the socket in the file system: any
    other user who had the name would be let in by that cookie.

    Raises:
        OSError: Somebody has it.
    """
    taken = socket.socket(socket.AF_UNIX)
    try:
        taken.bind(f"\0{_x_socket(number)}")
    except OSError:
        taken.close()
        raise
    return taken


class Display:
    """A display and what is known of it."""

    def __init__(self, directory: Path, engine: Engine, record: dict[str, Any]) -> None:
        """Take the facts from a record, which is what a new server finds of it too."""
        self.directory = directory
        self.engine = engine
        self.id: str = directory.name
        self.application: str = record["application"]
        self.title: str = record["title"]
        self.created: str = record["created"]
        self.width: int = record["width"]
        self.height: int = record["height"]
        self.dpi: int = record["dpi"]
        self.number: int = record.get("number", -1)
        self.x_socket: int = record.get("x_socket", 0)
        self.x_pid: int = record.get("x_pid", 0)
        # Records of 1.0 have its older name.
        self.prewarmed: bool = record.get("prewarmed", record.get("waiting", False))
        self.sound: Sound | None = None
        self.state = "starting"
        self.reason = ""
        self.running_since = 0.0
        self.shown = False
        self.last_activity = time.time()
        self.viewers: dict[object, dict[str, str]] = {}
        self.close_viewer: dict[object, Callable[[int, str], None]] = {}
        self.processes: dict[str, Process] = {}
        self.changed = asyncio.Event()
        self.lock: int | None = None
        self.typing = asyncio.Lock()
        self.starting: asyncio.Task[None] | None = None

    @property
    def screen(self) -> Screen:
        """The facts that an engine needs."""
        return Screen(self.directory, self.width, self.height, self.dpi)

    @property
    def terminated(self) -> bool:
        """Whether none of its processes run any more."""
        return self.state in {"ended", "failed"}

    @property
    def size_stable(self) -> bool:
        """Whether it runs, and its engine leaves the screen's size alone from now on."""
        # A log may have been emptied since.
        long = time.monotonic() - self.running_since > _SIZE_STABLE_SECONDS
        return self.state == "running" and (long or self.engine.size_stable(self.screen))

    def matches(self, engine: Engine, application: str, dpi: int) -> bool:
        """Whether this pre-warmed display is what a user asks for."""
        return self.size_stable and (self.engine, self.application, self.dpi) == (engine, application, dpi)

    def set_state(self, state: str, reason: str = "") -> None:
        """Change the state, and wake who waits for that."""
        self.state, self.reason = state, reason
        if state == "running":
            self.running_since = time.monotonic()
        self.changed.set()
        self.changed = asyncio.Event()

    async def ready(self) -> bool:
        """Wait until it runs; return whether it does."""
        while self.state == "starting":
            await self.changed.wait()
        return self.state == "running"

    def record(self) -> dict[str, Any]:
        """Return what a later server has to know."""
        names = (
            "application",
            "title",
            "created",
            "width",
            "height",
            "dpi",
            "number",
            "prewarmed",
            "x_pid",
            "x_socket",
        )
        return {name: getattr(self, name) for name in names} | {
            "engine": self.engine.name,
            "processes": {name: [process.pid, process.started] for name, process in self.processes.items()},
            # It comes and goes while the display runs.
            "sound": [self.sound.process.pid, self.sound.process.started] if self.sound and self.sound.process else [],
        }

    def save(self, owner: str) -> None:
        """Write the record, whole or not at all."""
        path = self.directory / "display.json"
        new = path.with_suffix(".new")
        new.write_text(json.dumps(self.record() | {"owner": owner, "boot": boot()}), encoding="utf-8")
        new.replace(path)

    def model(self, base_url: str) -> dict[str, Any]:
        """Return the display as the API describes it."""
        return {
            "id": self.id,
            "name": f"display/{self.id}",
            "title": self.title,
            "application": self.application,
            "engine": self.engine.name,
            "version": self.engine.version,
            "protocol": self.engine.protocol,
            "state": self.state,
            "reason": self.reason,
            "shown": self.shown,
            "created": self.created,
            "last_activity": moment(self.last_activity),
            "width": self.width,
            "height": self.height,
            "sound": self.sound is not None,
            "viewers": list(self.viewers.values()),
            "url": f"{base_url}displays/{self.id}",
        }


class DisplayManager(LoggingConfigurable):  # type: ignore[misc]
    """Keeps the displays of one server."""

    engine = Unicode("", help=f"The engine: {', '.join(ENGINES)}. Empty: the first of them that is installed.").tag(
        config=True
    )
    applications = Dict(
        help='Further applications than "desktop" and "terminal": id -> {"title", "description", "command": [...]}.'
    ).tag(config=True)
    applications_directory = Unicode(
        str(_SITE_APPLICATIONS), help="A directory of JSON files that add applications, in the same form."
    ).tag(config=True)
    desktop_command = List(
        Unicode(), help="What the application `desktop` starts. Empty: the first desktop that is found."
    ).tag(config=True)
    terminal_command = List(Unicode(), help="What the application `terminal` starts.").tag(config=True)
    limit = Integer(8, help="How many displays a user may have at once. 0: any number.").tag(config=True)
    memory_limit = Integer(
        0, help="A display whose programs have more memory than this, in bytes, is ended. 0: the system's limits hold."
    ).tag(config=True)
    idle_timeout = Integer(
        0, help="A display is ended when for so many seconds nobody used a key or the pointer. 0: never."
    ).tag(config=True)
    prewarm = Integer(
        0, help="How many desktops are started in advance: a user who asks for one then gets it at once."
    ).tag(config=True)
    prewarm_delay = Float(5.0, help="Seconds between handing out a pre-warmed desktop and starting another one.").tag(
        config=True
    )
    waiting = Integer(0, help="Deprecated: use prewarm.").tag(config=True)
    waiting_delay = Float(5.0, help="Deprecated: use prewarm_delay.").tag(config=True)
    check_interval = Float(30.0, help="Every so many seconds, idle time and memory are looked at.").tag(config=True)
    start_timeout = Float(30.0, help="A display that is not ready after so many seconds has failed.").tag(config=True)
    forget_after = Float(300.0, help="A display that ended without a request is listed for so many seconds.").tag(
        config=True
    )
    stop_with_server = Bool(
        default_value=True,
        help="Whether a server that is told to stop ends its displays. Those of a killed one are found by the next.",
    ).tag(config=True)
    keyboard_layouts = List(
        Unicode(), ["us", "ru", "de", "fr"], help="Characters of these XKB layouts are keys of a display."
    ).tag(config=True)
    sound = Bool(
        default_value=True, help="Whether displays have sound where PulseAudio and the library of Opus are installed."
    ).tag(config=True)
    largest_size = Integer(8192, help="No screen is wider or higher than this.").tag(config=True)
    upload_directory = Unicode("", help="Where files from the browser go. Empty: ~/Desktop.").tag(config=True)
    upload_limit = Integer(4 << 30, help="No file from the browser may be larger than this, in bytes.").tag(config=True)
    log_limit = Integer(4 << 20, help="A display's log is emptied when it gets larger than this, in bytes.").tag(
        config=True
    )
    runtime_directory = Unicode(help="Where sockets, authority files and records of displays are.").tag(config=True)

    @observe("waiting", "waiting_delay")
    def _renamed(self, change: Any) -> None:
        """Accept the names of 1.0 in a site's configuration."""
        name = change.name.replace("waiting", "prewarm")
        self.log.warning("DisplayManager.%s is deprecated: use DisplayManager.%s", change.name, name)
        setattr(self, name, change.new)

    @default("runtime_directory")
    def _default_runtime_directory(self) -> str:
        path = str(Path(jupyter_runtime_dir(), "displays"))
        if len(path) + len("/0000/socket") > _SOCKET_PATH_LIMIT:
            path = str(Path(tempfile.gettempdir(), f"jupyter-displays-{os.getuid()}"))
        return path

    @default("terminal_command")
    def _default_terminal_command(self) -> list[str]:
        for name in ("xfce4-terminal", "mate-terminal", "xterm"):
            if shutil.which(name):
                return [name, "--disable-server"] if name != "xterm" else [name, "-u8", "-maximized"]
        return ["xterm"]

    @default("desktop_command")
    def _default_desktop_command(self) -> list[str]:
        bus = ["dbus-run-session", "--"] if shutil.which("dbus-run-session") else []
        for name in ("startxfce4", "xfce4-session", "startlxqt", "mate-session", "icewm-session", "openbox-session"):
            if shutil.which(name):
                return [*bus, name]
        return [*bus, "openbox"] if shutil.which("openbox") else self.terminal_command

    def __init__(
        self, base_url: str = "/", emit: Callable[[dict[str, Any]], None] | None = None, **kwargs: Any
    ) -> None:
        """Prepare; `start` finds what an earlier server left."""
        super().__init__(**kwargs)
        self.base_url = base_url
        self.displays: dict[str, Display] = {}
        self._prewarmed: dict[str, Display] = {}
        self._prepared: asyncio.Future[Any] | None = None
        self.engines: dict[str, Engine] = {name: kind(parent=self.parent) for name, kind in ENGINES.items()}
        self.keyboard = Keyboard(self.keyboard_layouts)
        self.shares = Shares()
        self.started = asyncio.Event()
        self._activity_listeners: list[Callable[[dt.datetime], None]] = []
        self._emit = emit or (lambda _data: None)
        self._tasks: set[asyncio.Task[None]] = set()
        self._endings: dict[str, asyncio.Task[None]] = {}
        self._checks: ioloop.PeriodicCallback | None = None
        self._stopping = False

    # -- what there is

    @property
    def directory(self) -> Path:
        """The directory of all displays, which nobody else can enter.

        Raises:
            OSError: It cannot be made, or is not this user's own.
        """
        path = Path(self.runtime_directory)
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = path.lstat()
        if about.st_uid != os.getuid() or path.is_symlink():
            message = f"{path} is not yours"
            raise PermissionError(message)
        if about.st_mode & 0o077:
            path.chmod(0o700)
        return path

    def get(self, display_id: str) -> Display:
        """Return a display.

        Raises:
            web.HTTPError: 404, there is none of this id.
        """
        try:
            return self.displays[display_id]
        except KeyError:
            raise web.HTTPError(404, f"There is no display {display_id[:20]!r}.") from None

    def list_applications(self) -> dict[str, dict[str, Any]]:
        """Return what can be started: the two of this package, the site's files, the configuration's."""
        found: dict[str, dict[str, Any]] = {
            "desktop": {"title": "Desktop", "description": "A full Linux desktop", "command": self.desktop_command},
            "terminal": {"title": "Terminal", "description": "A terminal window", "command": self.terminal_command},
        }
        for path in sorted(Path(self.applications_directory).glob("*.json")):
            try:
                added = json.loads(path.read_text(encoding="utf-8"))
                if not all(isinstance(value["command"], list) for value in added.values()):
                    raise TypeError("command")  # noqa: TRY301
            except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
                self.log.warning("%s is left out: %s", path, error)
            else:
                found |= added
        found |= self.applications
        return found

    def choose_engine(self) -> Engine:
        """Return the engine of new displays.

        Raises:
            web.HTTPError: 503, nothing that can make a display is installed, or it is too old.
        """
        if self.engine and self.engine not in self.engines:
            raise web.HTTPError(503, f"There is no engine {self.engine!r}.")
        wanted = [self.engines[self.engine]] if self.engine else list(self.engines.values())
        for engine in wanted:
            if not engine.refusal():
                return engine
        raise web.HTTPError(503, f"No display can be started: {', and '.join(engine.refusal() for engine in wanted)}.")

    def emit(self, action: str, display: Display) -> None:
        """Tell every open page."""
        if not display.prewarmed:
            self._emit({"action": action, "display": display.model(self.base_url)})

    # -- start

    async def start(self) -> None:
        """Find the displays that an earlier server left, and clear away what is left of dead ones."""
        try:
            for path in sorted(self.directory.iterdir()):
                if path.is_dir() and path.name.isdigit():
                    await self._recover(path)
            await asyncio.to_thread(session_cleanup.clear)
        except OSError as error:
            self.log.error("Displays: %s", error)  # noqa: TRY400
        finally:
            self.started.set()
        self._checks = ioloop.PeriodicCallback(self._check, self.check_interval * 1000)
        self._checks.start()
        if self.prewarm:
            self._run(self._refill_pool(self.prewarm_delay / 5))

    async def prepare(self) -> None:
        """Have what the first display and its pages need and what takes time: done once, and kept on disk."""
        if self._prepared is None:
            versions = asyncio.to_thread(self._find_versions)
            self._prepared = asyncio.gather(self.keyboard.prepare(self.directory), versions)
        await asyncio.shield(self._prepared)

    def _find_versions(self) -> None:
        engines = [self.engines[self.engine]] if self.engine in self.engines else self.engines.values()
        for engine in engines:
            if not engine.missing():
                engine.find_version(self.directory)

    @property
    def files(self) -> Path:
        """Where files from the browser go, and where it finds those to download."""
        return Path(self.upload_directory or "~/Desktop").expanduser()

    async def _recover(self, path: Path) -> None:
        lock = self._lock(path)
        if lock is None:
            return  # Another server of this user has it.
        try:
            record = json.loads((path / "display.json").read_text(encoding="utf-8"))
            elsewhere = record["boot"].partition("@")[2] != socket.gethostname()
            if elsewhere or (record["owner"] != self.base_url and record["boot"] == boot()):
                os.close(lock)
                return
            display = Display(path, self.engines[record["engine"]], record)
            display.processes = {
                name: Process(pid, started if record["boot"] == boot() else 0)
                for name, (pid, started) in record["processes"].items()
            }
        except (OSError, ValueError, KeyError, TypeError):
            self.log.warning("Display %s left no record", path.name)
            await self._kill_processes(path)
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)
            return
        display.lock = lock
        display.last_activity = path.joinpath("display.json").stat().st_mtime
        if set(display.processes) >= {"x", "application"} and all(p.alive for p in display.processes.values()):
            self.log.info("Display %s is recovered", display.id)
            self.shares.load(path)
            self._give_sound(display)
            if display.sound:
                display.sound.open(Process(*record["sound"]) if record.get("sound") else None)
            (self._prewarmed if display.prewarmed else self.displays)[display.id] = display
            display.last_activity = time.time()
            display.shown = True
            display.set_state("running")
            self._watch(display)
            self._run(self._disable_key_repeat(display))
        else:
            if not display.prewarmed:
                self.displays[display.id] = display
            await self._end(display, "failed", "It died while no server was there.")

    def _lock(self, path: Path) -> int | None:
        """Take a display's lock, which ends with this server however that ends."""
        lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            return None
        return lock

    def create(
        self, application: str = "desktop", title: str = "", width: int = 1280, height: int = 800, dpi: int = 96
    ) -> Display:
        """Begin to start a display and return it.

        Raises:
            web.HTTPError: It cannot be, and the reason says why: 400, 409, 503.
        """
        known = self.list_applications()
        if application not in known:
            raise web.HTTPError(400, f"There is no application {application[:60]!r}.")
        self.check_size(width, height, dpi)
        if self._stopping:
            raise web.HTTPError(503, "The server is stopping.")
        if self.limit and sum(not display.terminated for display in self.displays.values()) >= self.limit:
            raise web.HTTPError(409, f"You have {self.limit} displays, which is the limit. Shut one down first.")
        engine = self.choose_engine()
        title = title or known[application].get("title", application)
        display = next((d for d in self._prewarmed.values() if d.matches(engine, application, dpi)), None)
        if display:
            del self._prewarmed[display.id]
            display.prewarmed, display.title, display.created, display.last_activity = False, title, now(), time.time()
            self._run(self._resize_prewarmed(display, width, height))
        else:
            facts = {"application": application, "width": width, "height": height, "dpi": dpi, "title": title}
            display = self._make(engine, facts, known[application]["command"])
        self.displays[display.id] = display
        self.emit("created", display)
        if self.prewarm:
            self._run(self._refill_pool(self.prewarm_delay))
        return display

    def _make(self, engine: Engine, facts: dict[str, Any], command: Sequence[str]) -> Display:
        try:
            path = self._new_directory()
        except OSError as error:
            raise web.HTTPError(503, f"No directory can be made for the display: {error.strerror}.") from error
        display = Display(path, engine, facts | {"created": now()})
        display.lock = self._lock(path)
        self._give_sound(display)
        display.starting = self._run(self._start(display, command))
        return display

    async def _refill_pool(self, delay: float) -> None:
        """Start desktops in advance until there are as many as configured."""
        await asyncio.sleep(delay)
        await self.prepare()
        known = self.list_applications()["desktop"]
        facts = {"application": "desktop", "width": 1280, "height": 800, "dpi": 96, "title": known["title"]}
        while len(self._prewarmed) < self.prewarm and not self._stopping:
            try:
                display = self._make(self.choose_engine(), facts | {"prewarmed": True}, known["command"])
            except web.HTTPError as error:
                self.log.warning("No desktop is pre-warmed: %s", error.log_message)
                return
            self._prewarmed[display.id] = display

    async def _resize_prewarmed(self, display: Display, width: int, height: int) -> None:
        """Give a pre-warmed display the size that is asked for."""
        with contextlib.suppress(x11.XError):
            display.width, display.height = await asyncio.to_thread(
                x11.set_size, display.number, display.screen.authority, width, height, display.dpi
            )
            display.save(self.base_url)
            self.emit("changed", display)

    def check_size(self, width: int, height: int, dpi: int) -> None:
        """Refuse a screen that nobody can want.

        Raises:
            web.HTTPError: 400.
        """
        largest = self.largest_size
        if not (200 <= width <= largest and 150 <= height <= largest and 48 <= dpi <= 480):
            raise web.HTTPError(400, f"A screen is 200x150 to {largest}x{largest} at 48 to 480 dpi.")

    def _new_directory(self) -> Path:
        for number in range(1, 10000):
            if str(number) not in self.displays and str(number) not in self._prewarmed:
                with contextlib.suppress(FileExistsError):
                    path = self.directory / str(number)
                    path.mkdir(mode=0o700)
                    return path
        raise OSError(0, "there are too many")

    async def _start(self, display: Display, command: Sequence[str]) -> None:
        why = ""
        try:
            await asyncio.wait_for(self._start_programs(display, command), self.start_timeout)
        except asyncio.TimeoutError:
            why = f"It was not ready after {self.start_timeout:g} s."
        except OSError as error:
            why = f"It did not start: {error.strerror or error}{f': {error.filename}' if error.filename else ''}."
        except (x11.XError, RuntimeError) as error:
            why = f"It did not start: {error}."
        display.starting = None
        if why:
            await self._end(display, "failed", why)

    async def _start_programs(self, display: Display, command: Sequence[str]) -> None:
        engine, screen = display.engine, display.screen
        await self.prepare()
        keyboard = await self.keyboard.prepare(self.directory)
        screen = Screen(screen.directory, screen.width, screen.height, screen.dpi, keyboard)
        if display.sound:
            display.sound.open()
        env = self._environment(display)
        if serve := engine.server_command(screen):
            self._spawn(display, "server", serve, env | engine.server_environment(screen), reads=True)
        await self._start_x(display, engine.x_command(screen), env)
        display.x_socket = _x_socket(display.number).stat().st_ino
        env["DISPLAY"] = f":{display.number}"
        env |= await asyncio.to_thread(programs.provide, display.directory, env)
        if serve:
            size = (screen.width, screen.height, screen.dpi)
            await asyncio.to_thread(x11.set_size, display.number, screen.authority, *size)
            display.processes["server"].write_line(str(display.number))
        self._spawn(display, "application", command, env)
        while not screen.socket.exists():
            await self._pause(display)
        display.save(self.base_url)
        display.set_state("running")
        self.emit("changed", display)
        self._watch(display)
        self._run(self._disable_key_repeat(display))
        self._run(self._await_window(display))

    async def _await_window(self, display: Display) -> None:
        """Note that a program has shown a window: until then a page says that it starts, in place of a black screen."""
        deadline = time.monotonic() + _WINDOW_SECONDS
        while display.state == "running" and time.monotonic() < deadline:
            with contextlib.suppress(x11.XError):
                if await asyncio.to_thread(x11.has_window, display.number, display.screen.authority):
                    break
            await asyncio.sleep(0.1)
        if display.state == "running":
            display.shown = True
            self.emit("changed", display)

    async def _disable_key_repeat(self, display: Display) -> None:
        """Leave the repetition of keys to the page, once the start of the engine no longer undoes it."""
        if not display.engine.page_repeats_keys:
            return
        while display.state == "running" and not display.size_stable:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        with contextlib.suppress(x11.XError):
            await asyncio.to_thread(x11.disable_key_repeat, display.number, display.screen.authority)

    async def _start_x(self, display: Display, command: list[str], env: dict[str, str]) -> None:
        """Start an X server on a free number, and return when it is ready.

        It must not choose the number itself: one that listens on nothing but a socket in the file system takes the
        socket of another of the same user away, and looks at no lock. With a number it takes the lock first, so that
        of two that want the same at once, one ends and tries the next.
        """
        log = display.directory / "x.log"
        for number in _numbers():
            _check_socket_directories()
            if _number_taken(number):
                continue
            try:
                name = _take_abstract_name(number)
            except OSError:
                continue
            # A cookie is good for one number: nobody has seen it where another one was tried.
            x11.write_authority(display.screen.authority)
            said = log.stat().st_size if log.exists() else 0
            try:
                # The X server has the name as long as it lives, whatever becomes of this process.
                with name:
                    numbered = [*command[:1], f":{number}", *command[1:]]
                    await self._start_x_as(display, number, numbered, env, name.fileno())
            except RuntimeError:
                if any(words in log.read_bytes()[said:] for words in _NUMBER_TAKEN):
                    display.processes.pop("x").close()
                    continue
                raise
            # The X server makes the directory where it is missing, or somebody has been quicker.
            _check_socket_directories()
            return
        message = "there is no free X display number"
        raise RuntimeError(message)

    async def _start_x_as(
        self, display: Display, number: int, command: list[str], env: dict[str, str], name: int
    ) -> None:
        """Start an X server with a number and wait until it answers.

        Its option -displayfd, by which it would say so, makes it look at no lock.
        """
        display.number, display.x_pid = number, 0
        self._spawn(display, "x", command, env, [name])
        process = display.processes["x"]
        while process.alive:
            # Another one may answer as long as the lock is not this one's, or that of what a script has started.
            with contextlib.suppress(OSError, ValueError, x11.XError):
                pid = _x_pid(number)
                if os.getsid(pid) == process.pid:
                    display.x_pid = pid
                    await asyncio.to_thread(x11.size, number, display.screen.authority)
                    return
            await asyncio.sleep(0.01)
        raise RuntimeError(self._failure_reason(display, "x"))

    async def _pause(self, display: Display) -> None:
        for name, process in display.processes.items():
            if not process.alive:
                raise RuntimeError(self._failure_reason(display, name))
        await asyncio.sleep(0.02)

    def _environment(self, display: Display) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_INHERITED)}
        if display.sound:
            kept |= display.sound.environment
        return kept | {
            DISPLAY_DIR_VARIABLE: str(display.directory),
            "XAUTHORITY": str(display.screen.authority),
            # The cookies of its session manager end with it.
            "ICEAUTHORITY": str(display.directory / "iceauthority"),
            "XDG_SESSION_TYPE": "x11",
            "NO_AT_BRIDGE": "1",
        }

    def _give_sound(self, display: Display) -> None:
        """Let a display have sound, if there is what makes it."""
        if self.sound and sound_installed():
            display.sound = Sound(display.directory, partial(self._start_sound, display))

    def _start_sound(self, display: Display, sound: Sound, listening: socket.socket) -> None:
        env = self._environment(display) | sound.server_environment
        with (display.directory / "sound.log").open("ab") as log:
            sound.process = Process.start(sound.command(), env, log, display.directory, stdin=listening.fileno())
        with contextlib.suppress(OSError):
            display.save(self.base_url)

    def _spawn(
        self,
        display: Display,
        name: str,
        command: Sequence[str],
        env: dict[str, str],
        keeps: Sequence[int] = (),
        *,
        reads: bool = False,
    ) -> None:
        cwd = Path.home() if Path.home().is_dir() else Path("/")
        with (display.directory / f"{name}.log").open("ab") as log:
            display.processes[name] = Process.start(command, env, log, cwd, keeps, reads=reads)
        # From its first process on, a server that takes over knows what belongs to this display.
        display.save(self.base_url)

    def _failure_reason(self, display: Display, name: str) -> str:
        """Return why a program of a display has ended: its exit code and the last thing that it said."""
        what = {"x": "the X server", "server": display.engine.name, "application": "the application"}[name]
        process = display.processes[name]
        code = process.exit_code if not process.alive else None
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                return f"{what} was killed by {signal.Signals(-code).name}"
        last = ""
        with contextlib.suppress(OSError):
            log = (display.directory / f"{name}.log").read_text(encoding="utf-8", errors="replace")
            lines = log[-4000:].splitlines()
            if name == "application" and display.application == "desktop":
                lines = self._of_session(lines)
            last = display.engine.last_words(lines)[-200:]
        ended = f"{what} ended" if code is None else f"{what} ended with exit code {code}"
        return f"{ended}, its last words: {last}" if last and code else ended

    def _of_session(self, lines: list[str]) -> list[str]:
        """Return what the program of a desktop has said itself: everything that runs in it writes into the same log."""
        command = self.list_applications()["desktop"]["command"]
        text = " ".join(command)
        with contextlib.suppress(OSError, UnicodeDecodeError):
            # A script that starts it.
            text += Path(shutil.which(command[0]) or command[0]).read_text(encoding="utf-8")
        names = {Path(word).name for word in text.split()}
        return [line for line in lines if (said := _SAID.match(line)) and said[1] in names]

    def _watch(self, display: Display) -> None:
        for name, process in display.processes.items():
            process.when_ended(partial(self._program_ended, display, name))

    def _program_ended(self, display: Display, name: str, _process: Process) -> None:
        if display.state != "running":
            return
        if name == "application" and (display.processes[name].exit_code or 0) == 0:
            self._run(self._end(display, "ended", "Its program was closed."))
            return

        async def end() -> None:
            # The X server takes the others with it: give its own end the time to be seen.
            await asyncio.sleep(0.05)
            dead = next((n for n in ("x", "server") if n in display.processes and not display.processes[n].alive), name)
            why = self._failure_reason(display, dead)
            await self._end(display, "failed", f"{why[0].upper()}{why[1:]}.")

        self._run(end())

    # -- end

    async def shut_down(self, display: Display, reason: str = "It was shut down.") -> None:
        """End a display and forget it."""
        await self._end(display, "ended", reason)
        self.forget(display)

    async def shut_down_all(self, reason: str = "It was shut down.") -> None:
        """End all displays and forget them."""
        await asyncio.gather(*(self.shut_down(display, reason) for display in list(self.displays.values())))

    async def _shut_down_prewarmed(self) -> None:
        await asyncio.gather(*(self.shut_down(display, "") for display in list(self._prewarmed.values())))

    def forget(self, display: Display) -> None:
        """Take a display that is over off the list."""
        self._prewarmed.pop(display.id, None)
        if self.displays.get(display.id) is display:
            del self.displays[display.id]
            self.emit("removed", display)

    async def _end(self, display: Display, state: str, reason: str) -> None:
        """End everything of a display, once, and leave nothing behind."""
        if display.terminated:
            return
        task = self._endings.get(display.id)
        if task is None:
            task = asyncio.ensure_future(self._do_end(display, state, reason))
            self._endings[display.id] = task
            task.add_done_callback(lambda _task: self._endings.pop(display.id, None))
        await asyncio.shield(task)

    async def _do_end(self, display: Display, state: str, reason: str) -> None:
        self.log.info("Display %s: %s", display.id, reason)
        display.set_state("stopping", reason)
        self.emit("changed", display)
        for close in list(display.close_viewer.values()):
            close(4410, reason)
        if display.starting:
            display.starting.cancel()
            await asyncio.wait([display.starting], timeout=2)
        if application := display.processes.get("application"):
            application.signal(signal.SIGTERM)
            await application.ended(1.0)
        processes = [*display.processes.values(), *(display.sound.close() if display.sound else ())]
        await self._kill_processes(display.directory, processes)
        for process in processes:
            await process.ended(5.0)
            process.close()
        if display.number >= 0:
            self._clear_x(display)
        await asyncio.to_thread(session_cleanup.clear)
        shutil.rmtree(display.directory, ignore_errors=True)
        self.shares.forget(display.id)
        if display.lock is not None:
            os.close(display.lock)
            display.lock = None
        display.set_state(state, reason)
        self.emit(state, display)
        asyncio.get_running_loop().call_later(self.forget_after, self.forget, display)

    async def _kill_processes(self, directory: Path, known: Collection[Process] = ()) -> None:
        """End every process that belongs to a display: with SIGTERM, and soon with SIGKILL.

        A program shows no environment yet in the moment after its start: what is known is not looked for.
        """
        pids = {process.pid for process in known}
        for number, seconds in ((signal.SIGTERM, 0.7), (signal.SIGKILL, 1.0), (signal.SIGKILL, 1.0)):
            marked = with_variable(DISPLAY_DIR_VARIABLE, str(directory))
            found = [Process(pid, start_time(pid)) for pid in marked if pid not in pids]
            living = [*(process for process in known if process.alive), *found]
            if not living:
                return
            for process in living:
                process.signal(number)
            for process in living:
                await process.ended(seconds)
            for process in found:
                process.close()

    def _clear_x(self, display: Display) -> None:
        """Remove lock and socket of an X server that could not do it itself.

        As long as the lock is its own, no other one has the number. Without it the socket may be another's, even when
        it is the same file to the eye, for file systems use the numbers of files again.
        """
        lock, path = _x_lock(display.number), _x_socket(display.number)
        with contextlib.suppress(OSError, ValueError):
            if _x_pid(display.number) == display.x_pid and not start_time(display.x_pid):
                with contextlib.suppress(FileNotFoundError):
                    if display.x_socket in {0, path.stat().st_ino}:
                        path.unlink()
                lock.unlink()

    async def stop(self) -> None:
        """End with the server: with the displays, or leave them for the next one."""
        self._stopping = True
        if self._checks:
            self._checks.stop()
        if self.stop_with_server:
            await asyncio.gather(self.shut_down_all("The server was stopped."), self._shut_down_prewarmed())
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=2)

    # -- while it runs

    def record_activity(self, display: Display) -> None:
        """Record that a user pressed a key or used the pointer."""
        display.last_activity = time.time()
        for listener in self._activity_listeners:
            listener(dt.datetime.now(dt.timezone.utc))

    def refresh_size(self, display: Display) -> None:
        """Record the size that a screen gets in a moment, because a page has asked the engine for it."""

        async def refresh() -> None:
            await asyncio.sleep(0.2)
            with contextlib.suppress(x11.XError):
                size = await asyncio.to_thread(x11.size, display.number, display.screen.authority)
                if display.state == "running" and size != (display.width, display.height):
                    display.width, display.height = size
                    display.save(self.base_url)
                    self.emit("changed", display)

        self._run(refresh())

    def on_activity(self, listener: Callable[[dt.datetime], None]) -> None:
        """Call a listener whenever a user presses a key or uses the pointer."""
        self._activity_listeners.append(listener)

    async def _check(self) -> None:
        for display in [d for d in self.displays.values() if d.state == "running"]:
            idle = time.time() - display.last_activity
            if self.idle_timeout and idle > self.idle_timeout:
                await self._end(display, "ended", f"Nobody used it for {self.idle_timeout} s.")
                continue
            if self.memory_limit:
                used = memory(with_variable(DISPLAY_DIR_VARIABLE, str(display.directory)))
                if used > self.memory_limit:
                    reason = f"Its programs took {used >> 20} MB of memory; the limit is {self.memory_limit >> 20} MB."
                    await self._end(display, "failed", reason)
                    continue
            with contextlib.suppress(OSError):
                for log in display.directory.glob("*.log"):
                    if log.stat().st_size > self.log_limit:
                        os.truncate(log, 0)
                # A server that finds the display again continues with this.
                os.utime(display.directory / "display.json", (display.last_activity, display.last_activity))

    def _run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)

        def done(task: asyncio.Task[Any]) -> None:
            self._tasks.discard(task)
            if not task.cancelled() and task.exception():
                self.log.error("Displays: %s", task.exception(), exc_info=task.exception())

        task.add_done_callback(done)
        return task
