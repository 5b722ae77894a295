"""
What the spawners of CampusHub have in common.

Compared with SystemdSpawner and SudoSpawner:

- `start()` returns when the user's own process listens, looked up every 50 ms. The hub's next step, an HTTP
  request, then succeeds at once; without this the hub tries, fails and backs off by random waits of up to 5 s.
- A port counts only if the socket on it belongs to the user. Another user of the host who binds the port first
  would otherwise be sent the browser of the user who is logging in.
- The hub learns at once, not within 30 s, that a server has ended: until then it sends the browser of the server's user
  to whoever listens on that port next.
- A server that runs and does not answer is named in the hub's journal and on its user's home page.
- A server ends for its age or for want of activity, and its open pages are told before; see `lifetime`.
- Memory, CPU and task limits hold for the user, over all their servers; see `campushub_hub.host.user_session`.
- The token that a login has brought is published to the user's servers, and renewed as long as a server runs.
- Where homes are on a network file system, a home is probed before the server starts, in a way that cannot hang, and
  databases are kept on a local disk.
"""

from __future__ import annotations

import asyncio
import math
import os
import pwd
import secrets
import subprocess
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from jupyterhub.spawner import SpawnException
from traitlets import Bool, Dict, Float, Instance, Integer, List, TraitError, Unicode, validate

from campushub_hub import accounts
from campushub_hub.host import mediator, user_session
from campushub_hub.profiles import SLURM, WITHOUT_SETTINGS, ChoiceError, Offer
from campushub_hub.translation import gettext_noop

from .answers import ask_mediator, printable
from .choices import ChosenServer
from .cluster import Free, SlurmCluster
from .lifetime import Condition, Ending, ServerLifetime, explanation_of
from .listeners import socket_owners

Submitted = TypeVar("Submitted")

# Messages; not_running.html and error.html translate them and put the values in.
ENDED = gettext_noop("Your server ended while it was starting.")
NO_HOME = gettext_noop("There is no home directory %(home)s for you. Please tell your administrator.")
HOME_UNAVAILABLE = gettext_noop(
    "Your home directory %(home)s cannot be used at the moment: %(problem)s. "
    "Please try again in a few minutes; your server starts when it is back."
)
HOME_CLOSED = gettext_noop("Your home directory %(home)s cannot be used: %(problem)s. Please tell your administrator.")
NO_SESSION = gettext_noop("Your session could not be prepared. Please tell your administrator.")
PORT_TAKEN = gettext_noop("Somebody else holds the port of this server. Please start it again.")
SYSTEM_ACCOUNT = gettext_noop("%(user)s is an account of the system and not of a person. It gets no server.")
NOT_ALLOWED = gettext_noop("%(user)s may not use this service.")
# Seconds after which it is tried again to end a server.
STOP_INTERVAL = 5.0
# Seconds that a server has to answer when one of its pages complains, and between two such questions.
PAGE_TIMEOUT, PAGE_INTERVAL = 3.0, 2.0
# To make homes on a storage may take it a minute each: many at once must leave the other threads to starts and names.
HOME_THREADS = ThreadPoolExecutor(8, "home")


def control_group_memory(pid: int, root: Path = Path("/sys/fs/cgroup")) -> tuple[int, int | None] | None:
    """Return the memory that the control group of a process uses, without what only caches files, and its limit."""
    try:
        lines = [line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()]
        places = {controllers: path.lstrip("/") for _, controllers, path in lines}
        if "memory" in places:
            group, names = (
                root / "memory" / places["memory"],
                ("usage_in_bytes", "limit_in_bytes", "total_inactive_file"),
            )
        else:
            group, names = root / places[""], ("current", "max", "inactive_file")
        used, limit = ((group / f"memory.{name}").read_text().strip() for name in names[:2])
        statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        # No limit is "max", or more than there can be.
        most = None if limit == "max" or int(limit) > 2**60 else int(limit)
        return max(0, int(used) - int(statistics.get(names[2], 0))), most
    except (OSError, KeyError, ValueError):
        return None


class ServerStartError(SpawnException):  # type: ignore[misc]
    """
    A server that did not start, with a message for its user.

    The reference is on the user's page and in the hub's journal. JupyterHub writes one line there for this class.
    """

    line = file = ""
    number = 0
    # Of the page that shows it, if that of its status does not fit.
    title = ""

    def __init__(self, template: str, status_code: int = 500, **values: str) -> None:
        self.template, self.values = template, values
        self.reference = secrets.token_hex(4)
        message = template % values
        super().__init__(message, reason="not-started", status_code=status_code)
        # JupyterHub shows this attribute on the page that waits for the server.
        self.jupyterhub_message = message

    def get_message(self) -> str:
        """Return the message for programs that have asked for the start."""
        return str(self)

    def __str__(self) -> str:
        """Return all that is known, for the journal."""
        place = f" ({self.file}:{self.number})" if self.file else ""
        return f"{self.message}{f' {self.line}{place}' if self.line else ''} Reference: {self.reference}"


class ServerEndedError(ServerStartError):
    """A server that ended before it listened, or that could not be executed at all."""


class CampusSpawner(ChosenServer, ServerLifetime):
    """What the spawners of CampusHub have in common, to be mixed into a Spawner of JupyterHub."""

    # Attributes of the Spawner that this is mixed into.
    authenticator: Any
    port: int
    poll: Callable[[], Awaitable[int | None]]
    _spawn_future: asyncio.Future[None] | None
    _callbacks: list[Callable[[], Any]]
    user_options: dict[str, Any]
    # What a start that is given up must not break off: nobody would know of the unit or job that it leaves.
    _submission: asyncio.Task[Any] | None = None
    _watch: asyncio.Task[None] | None = None
    _notifying = Instance(asyncio.Lock, ())

    user_memory_limit = Unicode(
        "2G",
        config=True,
        help="""
        Memory of one user over all their servers: a number of bytes, or with K, M, G or T (powers of 1024), such as
        512M. Empty is unlimited.

        With CampusSudoSpawner this setting, the other limits, `uid_minimum`, `create_homes` and `tmp_directory` count
        only as they are in /etc/jupyterhub/settings.json: root, not the hub, prepares the session.
        """,
    )
    user_cpu_limit = Float(2.0, config=True, help="CPU cores of one user over all their servers. 0 is unlimited.")
    user_tasks_limit = Integer(
        1024, config=True, help="Number of processes and threads of one user over all their servers. 0 is unlimited."
    )
    group_limits: Any = List(
        Dict(),
        config=True,
        help="""
        Other limits for members of Unix groups: dictionaries with the name of the `group` and any of `memory` (as
        `user_memory_limit`), `cpu` (cores) and `tasks` (number). The first entry with a group of the user's counts;
        what it leaves out is as for everybody.
        """,
    )
    uid_minimum = Integer(1000, config=True, help="The lowest UID of an account that gets a server.")
    create_homes = Bool(
        False, config=True, help="Whether a missing home is created, closed to others, when a server starts."
    )
    tmp_directory = Unicode(
        "",
        config=True,
        help="""
        Directory with the temporary files of users' servers. Each user has a /tmp and /var/tmp in it that all their
        servers share and nobody else sees; it is removed with the last of them. Empty leaves the host's to servers.

        The unit jupyterhub-tmp@.service names the same directory.
        """,
    )
    listen_interval = Float(0.05, config=True, help="Seconds between two checks whether a server listens on its port.")
    answer_interval = Float(
        20,
        config=True,
        help="Seconds between two checks whether a running server answers; three times as long for a server in a Slurm "
        "cluster that has answered.",
    )
    answer_timeout = Float(15, config=True, help="Seconds that a running server has to answer such a check.")
    token_interval = Float(15, config=True, help="Seconds between two checks whether a user's token must be renewed.")
    mediator_path = Unicode(mediator.__file__, config=True, help="Path of the program that acts as the user.")

    _account: pwd.struct_passwd | None = None
    _limits: user_session.Limits
    _groups: frozenset[str] = frozenset()
    _homes: user_session.Homes | None = None
    # The home that the server gets, where homes are on a network file system.
    _home: str = ""
    _is_scratch = False
    # The token that was published last.
    _token: str = ""
    _renewal: asyncio.Task[None] | None = None
    _answers: asyncio.Task[None] | None = None
    _look: asyncio.Task[None] | None = None
    # By pages of the server, and when last.
    _asking = Instance(asyncio.Lock, ())
    _asked = -math.inf
    # The main process of a server that runs.
    _pid = 0
    # Whether the server runs, and has not answered lately, and what was wrong with its home. The home page shows both.
    unresponsive = False
    home_problem = ""

    @validate("user_memory_limit")
    def _valid_size(self, proposal: Any) -> str:
        try:
            user_session.parse_size(proposal["value"])
        except ValueError:
            raise TraitError(f"{proposal['value']!r} is no size. Write one such as 512M or 2G.") from None
        return str(proposal["value"])

    def get_state(self) -> dict[str, Any]:
        """Remember the home that the server has."""
        state = super().get_state()
        return {**state, "home": self._home} if self._home else state

    def load_state(self, state: dict[str, Any]) -> None:
        """Read what `get_state` wrote."""
        super().load_state(state)
        self._home = state.get("home", "")

    @property
    def session_settings(self) -> user_session.Settings:
        """The settings of the user's session, as `user_session` takes them."""
        return {name: getattr(self, name) for name in user_session.Settings.__annotations__}  # type: ignore[return-value]

    @property
    def account(self) -> pwd.struct_passwd:
        """The Unix account that the server runs as."""
        if self._account is None:
            try:
                self._account = pwd.getpwnam(self.user.name)
            except KeyError:
                raise ServerStartError(
                    gettext_noop("There is no Unix account %(user)s on this host. Please tell your administrator."),
                    user=self.user.name,
                ) from None
        return self._account

    async def prepare(self) -> None:
        """Look up the account and its limits, which may take long, without holding others up."""
        self._account = None
        if self.user_options.get(WITHOUT_SETTINGS):
            # JupyterHub would repeat it at each start to come.
            self.orm_spawner.user_options = {
                name: value for name, value in self.user_options.items() if name != WITHOUT_SETTINGS
            }
            # The next request would undo it.
            self.user.db.commit()
        try:
            await self.look_up_limits()
        except accounts.DirectoryTimeoutError as error:
            self.log.error("Could not look up %s: %s", self.user.name, error)  # noqa: TRY400 (where is known)
            raise ServerStartError(accounts.SILENT) from None
        if self.account.pw_uid < self.uid_minimum:
            raise ServerStartError(SYSTEM_ACCOUNT, status_code=403, user=self.user.name)
        # Not where they are looked up, as for a page that somebody opens meanwhile.
        self.mem_limit, self.cpu_limit = self._limits["memory"], self._limits["cpu"]
        try:
            self.apply_choice()
        except ChoiceError as error:
            raise ServerStartError(error.template, status_code=400, **error.values) from None

    async def free_in_cluster(self) -> dict[str, Free]:
        """Return what is free in the cluster, if servers of this hub run there."""
        return await SlurmCluster.instance(config=self.config).free() if SLURM in self.everywhere else {}

    async def look_up_offers(self) -> tuple[Offer, ...]:
        """Look up what the user may start. Raises ServerStartError."""
        try:
            await self.look_up_limits()
        except accounts.DirectoryTimeoutError as error:
            self.log.error("Could not look up %s: %s", self.user.name, error)  # noqa: TRY400 (where is known)
            raise ServerStartError(accounts.SILENT, status_code=503) from None
        return self.offers()

    async def look_up_limits(self) -> user_session.Limits:
        """Look up the account and its limits. Raises DirectoryTimeoutError and ServerStartError."""
        # A site may use an authenticator of its own.
        provider_groups = getattr(self.authenticator, "provider_groups", None)
        groups = await provider_groups(self.user) if provider_groups else frozenset()
        await accounts.look_up(partial(self.choose_limits, groups))
        return self._limits

    def credentials(self) -> dict[str, str]:
        """Return the variables in which file systems such as EOS look for a user's ticket and token."""
        ccache = user_session.kerberos_ccache(self.account.pw_uid)
        found = {"KRB5CCNAME": ccache, "OAUTH2_TOKEN": f"FILE:{self.token_file}" if self._token else ""}
        return {name: value for name, value in found.items() if value}

    def get_env(self) -> dict[str, str]:
        """Add the user's directories on the host to the environment of the server."""
        environment = super().get_env()
        # Connection files and the kernels' sockets: short path (socket names are limited to 107 bytes), local disk.
        environment["JUPYTER_RUNTIME_DIR"] = runtime = self.private_directory()
        if self.user_options.get(WITHOUT_SETTINGS):
            # An empty place for settings, and nothing of ~/.local. What the site has set counts as always.
            environment |= {"JUPYTER_CONFIG_DIR": f"{runtime}/without-settings", "PYTHONNOUSERSITE": "1"}
        environment = {**self.credentials(), **environment}
        if self._homes:
            local = self.local_directory(self._homes)
            environment["HOME"] = self._home
            # Databases that need locks, and files whose modes matter. Users' own packages in the home are still found.
            environment["IPYTHONDIR"] = f"{local}/ipython"
            environment["JUPYTER_DATA_DIR"] = f"{local}/jupyter"
            places = [environment.get("JUPYTER_PATH", ""), f"{self._home}/.local/share/jupyter"]
            environment["JUPYTER_PATH"] = os.pathsep.join(filter(None, places))
        if self._is_scratch:
            environment["JUPYTERHUB_ROOT_DIR"] = self._home
            if environment.get("JUPYTERHUB_DEFAULT_URL", "").startswith("/lab"):
                environment["JUPYTERHUB_DEFAULT_URL"] = f"/lab/tree/{mediator.NOTICE}"
        return environment

    def private_directory(self) -> str:
        """Return the directory of the user's own, in memory or for as long as the server runs, on its host."""
        return str(user_session.runtime_directory(self.account.pw_uid))

    def local_directory(self, homes: user_session.Homes) -> str:
        """Return the directory of the user's own on the disk of the server's host."""
        return str(user_session.local_directory(self.account.pw_uid, homes))

    def user_command(self, seconds: float) -> list[str]:
        """Return the words in front of a command that is to run as the user, for so long at most."""
        raise NotImplementedError

    async def create_network_home(self, homes: user_session.Homes, **request: Any) -> dict[str, Any]:
        """Have the user's home created on the storage, as root, and probe it again."""
        try:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(HOME_THREADS, user_session.make_network_home, self.account, homes)
        except (OSError, subprocess.SubprocessError) as error:
            self.log.error("Cannot create the home of %s: %s", self.user.name, error)  # noqa: TRY400 (no bug of ours)
        return await self.probe_home(**request)

    def session_variables(self, action: str) -> dict[str, str]:  # noqa: ARG002 (for sessions that read some)
        """Return the environment variables that the session of an action of the mediator reads."""
        return {}

    async def run_mediator(self, action: str, **kwargs: Any) -> dict[str, Any]:
        """
        Run the mediator as the user and return its answer, or do without it after some time: it is the user's process.

        Raises ServerStartError.
        """
        seconds = user_session.action_seconds(action, user_session.homes_of_site())
        command = [*self.user_command(seconds), self.mediator_path, action]
        environment = {**os.environ, **self.session_variables(action)}
        try:
            answer = await ask_mediator(
                self.user.name, command, kwargs, seconds + user_session.SESSION_SECONDS, environment
            )
        except OSError as failure:
            self.log.error("The action %s has failed: %s", action, failure)  # noqa: TRY400 (no bug of ours)
            raise ServerStartError(NO_SESSION) from None
        if not answer["ok"]:
            error = ServerEndedError(gettext_noop("The server could not be started. Please tell your administrator."))
            error.line = printable(answer.get("error", ""))
            raise error
        return answer

    @property
    def token_file(self) -> Path:
        """The file with the user's token, on a file system in memory and in a directory closed to others."""
        return user_session.runtime_directory(self.account.pw_uid) / "oauth2_token"

    async def publish_token(self) -> None:
        """Store the token of the user's login for their server, where the authenticator provides one."""
        token_of = getattr(self.authenticator, "token_of", None)
        token = await token_of(self.user) if token_of else ""
        if token and token != self._token:
            if self._account is None:
                # A hub that has been restarted.
                await accounts.look_up(lambda: self.account)
            await self.run_mediator("store-token", path=str(self.token_file), text=token)
            self._token = token

    async def renew_token(self) -> None:
        """Publish new tokens as long as the server runs, whether or not its user is active."""
        while True:
            try:
                await self.publish_token()
            except Exception:
                self.log.exception("The token of %s was not renewed", self.user.name)
            await asyncio.sleep(self.token_interval)

    def choose_home(self) -> dict[str, Any]:
        """Choose the home that the server gets; return the request to probe it if it is on a network file system."""
        homes = self._homes = user_session.homes_of_site()
        self._home, self._is_scratch = "", False
        if not homes:
            return {}
        self._home = user_session.home_path(self.account, homes)
        local = user_session.local_directory(self.account.pw_uid, homes)
        return {**self.home_request(), "scratch": f"{local}/home" if homes["on_unavailable"] == "scratch" else ""}

    async def resolve_home(self) -> None:
        """Probe the user's home where it is on a network file system. Raises ServerStartError."""
        if request := self.choose_home():
            await self.accept_home(request, await self.probe_home(**request))

    async def accept_home(self, request: dict[str, Any], answer: dict[str, Any]) -> None:
        """
        Take the home that was probed, one that is made now, or the scratch home that the probe has made.

        Raises ServerStartError.
        """
        homes, home = self._homes, request["home"]
        if answer["home"] == "missing" and homes and homes["create_command"]:
            answer = await self.create_network_home(homes, **request)
        if answer["home"] == "ok":
            return
        if answer["home"] == "missing":
            raise ServerStartError(NO_HOME, home=home)
        problem = printable(answer["problem"])
        if not request["scratch"]:
            raise ServerStartError(HOME_UNAVAILABLE, home=home, problem=problem)
        self.log.error("The home of %s, %s: %s", self.user.name, home, problem)
        self._home, self._is_scratch = request["scratch"], True

    async def probe_home(self, **request: Any) -> dict[str, Any]:
        """Return whether the user's home can be used; if it is unavailable, make the scratch home, if one is named."""
        return await self.run_mediator("probe", **request)

    def home_request(self) -> dict[str, Any]:
        """Return what the mediator must know to probe the home that the server has, or is to get."""
        # A hub that has been restarted has not read it.
        homes = self._homes = self._homes or user_session.homes_of_site()
        place: dict[str, Any] = {"home": self.account.pw_dir, "mount_point": "", "timeout": 5}
        if homes:
            home = self._home or user_session.home_path(self.account, homes)
            place = {"home": home, "mount_point": homes["mount_point"], "timeout": homes["check_timeout"]}
        return {**place, "env": self.credentials()}

    async def look_at_home(self) -> None:
        """Note what is wrong with the home of a server that does not answer, where it is on a network file system."""
        try:
            await accounts.look_up(lambda: self.account)
            request = self.home_request()
            if not self._homes:
                return
            async with explanation_of(self.user.name):
                answer = await self.probe_home(scratch="", **request)
        except (OSError, ServerStartError, accounts.DirectoryTimeoutError) as unknown:
            self.log.error("Cannot look at the home of %s: %s", self.user.name, unknown)  # noqa: TRY400 (no bug of ours)
            return
        if answer["home"] != "ok":
            self.home_problem = printable(answer["problem"])
            self.log.error("The home of %s, %s: %s", self.user.name, request["home"], self.home_problem)

    async def store_output(self) -> None:
        """Store what the server has printed where the mediator reads it, unless the mediator's session does."""

    async def explain(self, error: ServerEndedError, pid: int) -> ServerStartError:
        """
        Return why a server ended before it listened: its home, or its own last words with their place.

        The words are those of process `pid`; 0 is of any that `store_output` has stored, -1 of none.
        """
        account, request = self.account, self.home_request()
        try:
            await self.store_output()
            output = str(user_session.output_file(account.pw_uid))
            answer = await self.run_mediator("explain", output=output, pid=pid, **request)
        except (OSError, ServerStartError, subprocess.SubprocessError) as unknown:
            self.log.error("Cannot tell why the server of %s ended: %s", account.pw_name, unknown)  # noqa: TRY400 (no bug of ours)
            return error
        if answer["home"] != "ok":
            template = HOME_UNAVAILABLE if self._homes else HOME_CLOSED
            template = NO_HOME if answer["home"] == "missing" else template
            return ServerStartError(template, home=request["home"], problem=printable(answer["problem"]))
        if answer["line"]:
            error.line, error.file = printable(answer["line"]), printable(answer["file"])
            error.number = int(answer["number"])
        return error

    async def why_ended(self, pid: int) -> Ending:
        """Return that the server's home cannot be used, or the last line that the server has printed."""
        try:
            # A hub that has been restarted has not looked it up.
            await accounts.look_up(lambda: self.account)
        except (ServerStartError, accounts.DirectoryTimeoutError):
            return {"reason": "ended", "message": ""}
        error = ServerEndedError(ENDED)
        why = await self.explain(error, pid)
        if why is not error:
            home, problem = why.values["home"], why.values["problem"]
            self.log.error("The server %s ended, and its home, %s: %s", self._log_name, home, problem)
            return {"reason": "home", "message": problem}
        if error.line:
            self.log.warning("The last words of the server %s were: %s", self._log_name, error.line)
        return {"reason": "ended", "message": error.line}

    def choose_limits(self, provider_groups: frozenset[str] = frozenset()) -> None:
        """Look up the user's limits, by Unix groups and those of the provider, so that the server can show them."""
        groups = user_session.groups_of(self.account) | provider_groups
        self._groups, self._limits = frozenset(groups), user_session.limits_of(groups, self.session_settings)

    async def wait_until_listening(self) -> None:
        """
        Wait until the user's own process listens on the server's port.

        Raises ServerStartError if the server ends before, or if somebody else holds the port.
        """
        uid = self.account.pw_uid
        last_poll = time.monotonic()
        while True:
            owners = socket_owners(self.port)
            if owners == {uid}:
                return
            if owners:
                self.log.error("Port %s of %s's server is held by UID %s", self.port, self.user.name, owners)
                raise ServerStartError(PORT_TAKEN)
            # poll() costs a process: twenty servers that start at once would mostly wait for each other's.
            if not self.probably_running() or time.monotonic() - last_poll > 5:
                if await self.poll() is not None:
                    raise ServerEndedError(ENDED)
                last_poll = time.monotonic()
            await asyncio.sleep(self.listen_interval)

    @property
    def submitting(self) -> bool:
        """Whether a unit or job is being submitted, so that nobody can tell yet whether there is one."""
        return self._submission is not None and not self._submission.done()

    async def finish_submission(self, steps: Coroutine[Any, Any, Submitted]) -> Submitted:
        """Return what comes of a submission. It goes on when the start is given up, and the stop waits for it."""
        self._submission = asyncio.ensure_future(steps)
        # Nobody asks then why it has failed.
        self._submission.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(self._submission)

    async def wait_for_submission(self) -> None:
        """Wait until it is known what there is to stop."""
        if self._submission:
            await asyncio.wait([self._submission])

    async def end_unit(self) -> bool:
        """End the server with all that it has started, and return whether that is certain."""
        raise NotImplementedError

    async def stop(self, now: bool = False) -> None:  # noqa: ARG002 (a server has the same time whoever asks)
        """
        Stop the server, and return when it has ended.

        JupyterHub forgets it then, whatever this has raised. A hub that is restarted meanwhile knows that it runs.
        """
        self.note_stop()
        await self.wait_for_submission()
        while not await self.end_unit():
            self.log.error("The server %s has not ended; it is tried again in %g s", self._log_name, STOP_INTERVAL)
            await asyncio.sleep(STOP_INTERVAL)

    async def main_pid(self) -> int:
        """Return the PID of the server, 0 if there is none."""
        raise NotImplementedError

    def memory_use(self) -> tuple[int, int | None] | None:
        """Return the memory in bytes that the server uses, and its own limit, as far as the host knows."""
        return control_group_memory(self._pid) if self._pid else None

    def probably_running(self) -> bool:
        """Return whether the server seems to run, by a check that costs nothing; only `poll` is certain."""
        raise NotImplementedError

    async def poll_and_notify(self) -> int | None:
        """
        Poll, and tell the hub of an end.

        Whoever asks while the hub clears up after an end waits for that: JupyterHub would begin the next start, and the
        rest of the clearing up would take it for the last one.
        """
        async with self._notifying:
            if self._spawn_future and not self._spawn_future.done():
                # The hub sets its callbacks when the start has been completed.
                return await self.poll()
            status: int | None = await super().poll_and_notify()  # type: ignore[misc]
            if status is not None and self.server and self.user.spawners.get(self.name) is self:
                # Its callback waits for the proxy, and gives up. Nobody polls the server any more.
                self.log.error("The server %s has ended, and is cleared up without the proxy", self._log_name)
                await self.user.stop(self.name)
        return status

    def start_polling(self) -> None:
        """Watch the server's process, in addition to polling it as every spawner does."""
        super().start_polling()
        self._watch = asyncio.ensure_future(self.watch())
        self._answers = asyncio.ensure_future(self.watch_answers())
        if hasattr(self.authenticator, "token_of"):
            self._renewal = asyncio.ensure_future(self.renew_token())

    def stop_polling(self) -> None:
        """End the watch, because the server is being stopped or has ended."""
        super().stop_polling()
        # The watch itself calls this when the server has ended, and must not be cancelled then.
        if self._watch and self._watch is not asyncio.current_task():
            self._watch.cancel()
        self._watch = None
        for task in filter(None, (self._renewal, self._answers, self._look)):
            task.cancel()
        self._renewal = self._answers = self._look = None
        self.unresponsive, self.home_problem, self._pid = False, "", 0

    async def watch_answers(self) -> None:
        """Note whether the server answers, as long as it runs."""
        while True:
            await asyncio.sleep(self.answer_pause)
            await self.check_answer(self.answer_timeout)

    @property
    def answer_pause(self) -> float:
        """Return the seconds until the server is asked again."""
        return self.answer_interval

    async def check_answer(self, timeout: float) -> None:
        """Note whether the server answers, and what is wrong with its home if it does not."""
        try:
            answered = await asyncio.wait_for(self.answers(), timeout)
        except (OSError, asyncio.TimeoutError):
            answered = False
        before, self.unresponsive = self.unresponsive, not answered
        if before and answered:
            self.log.warning("The server %s answers again", self._log_name)
            if self._look:
                self._look.cancel()
            self.home_problem = ""
        elif not before and not answered:
            self.log.error("The server %s runs, but does not answer within %g s", self._log_name, timeout)
            # Once: on storage that hangs each look may leave a process behind, until that answers.
            self._look = asyncio.ensure_future(self.look_at_home())

    async def condition_of_run(self) -> Condition:
        """Return that the server does not answer, and what is wrong with its home. All of its pages ask at once."""
        async with self._asking:
            if self.ready and time.monotonic() - self._asked > PAGE_INTERVAL:
                await self.check_answer(PAGE_TIMEOUT)
                self._asked = time.monotonic()
        if self._look:
            # It goes on for the next question.
            await asyncio.wait([self._look], timeout=PAGE_TIMEOUT)
        return {"reason": "silent" if self.unresponsive else "", "message": self.home_problem, "final": False}

    async def answers(self) -> bool:
        """Return whether the server answers a request, whatever it says."""
        reader, writer = await asyncio.open_connection(self.server.ip, self.server.port, ssl=self.tls)
        try:
            # This page is no activity of the user's.
            writer.write(f"GET {self.server.base_url}api HTTP/1.0\r\n\r\n".encode())
            return await reader.read(5) == b"HTTP/"
        finally:
            writer.close()

    async def watch(self) -> None:
        """Wait for the end of the server's process and tell the hub."""
        try:
            self._pid = await self.main_pid()
            process = os.pidfd_open(self._pid)
        except (OSError, ValueError):
            # It has ended.
            pass
        else:
            ended = asyncio.Event()
            asyncio.get_running_loop().add_reader(process, ended.set)
            try:
                await ended.wait()
            finally:
                asyncio.get_running_loop().remove_reader(process)
                os.close(process)
        # The hub sets its callbacks when the start has been completed.
        while not self._callbacks:  # noqa: ASYNC110 (it is a list of JupyterHub)
            await asyncio.sleep(self.listen_interval)
        # The service manager may notice the end a little later than the kernel.
        while await self.poll_and_notify() is None:  # noqa: ASYNC110 (there is no event)
            await asyncio.sleep(self.listen_interval)
