"""
SystemdSpawner and SudoSpawner as CampusHub runs them.

What both gain here:

- `start()` returns when the user's own process listens, looked up every 50 ms. The hub's next step, an HTTP
  request, then succeeds at once; without this the hub tries, fails and backs off by random waits of up to 5 s.
- A port counts only if the socket on it belongs to the user. Another user of the host who binds the port first
  would otherwise be sent the browser of the one who is logging in.
- The hub learns at once, not within 30 s, that a server has ended: as long as it does not know, it sends the browser of
  the server's user to whoever listens on that port next.
- Memory, CPU and task limits hold for the user, over all their servers; see `user_session`.
- Where a site wants that, the token that a login has brought is handed on, and renewed for as long as the server runs.
- Where homes are on a network file system, a home is looked at before the server starts, in a way that cannot hang, and
  what has to be on a local disk gets there.
"""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import re
import socket
import struct
import subprocess
import time
from collections.abc import Awaitable, Callable
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from sudospawner import SudoSpawner
from systemdspawner import SystemdSpawner, systemd
from traitlets import Dict, Float, Unicode
from traitlets.config import LoggingConfigurable

from . import accounts, mediator, user_session

# From <linux/netlink.h>, <linux/sock_diag.h> and <linux/tcp.h>.
NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY = 4, 20
NLM_F_REQUEST, NLM_F_DUMP, NLMSG_ERROR, NLMSG_DONE = 0x1, 0x300, 2, 3
TCP_LISTEN = 10


class ServerStartError(Exception):
    """A server that did not start, with a message for its user."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        # JupyterHub shows this attribute on the page that waits for the server.
        self.jupyterhub_message = message


def socket_owners(port: int) -> set[int]:
    """
    Return the user numbers of the sockets of this host that listen on a TCP port.

    The kernel is asked for listening sockets alone (sock_diag(7)): /proc/net/tcp costs a thousand times as much on a
    host with many connections, and this is asked twenty times a second for each server that starts.
    """
    owners = set()
    for family in (socket.AF_INET, socket.AF_INET6):
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as kernel:
            body = struct.pack("=BBxxI48x", family, socket.IPPROTO_TCP, 1 << TCP_LISTEN)
            flags = NLM_F_REQUEST | NLM_F_DUMP
            kernel.send(struct.pack("=IHHII", 16 + len(body), SOCK_DIAG_BY_FAMILY, flags, 0, 0) + body)
            done = False
            while not done:
                answer = kernel.recv(1 << 16)
                while answer:
                    length, kind = struct.unpack_from("=IH", answer)
                    # A host without IPv6 answers with an error.
                    done = done or kind in (NLMSG_ERROR, NLMSG_DONE)
                    if kind == SOCK_DIAG_BY_FAMILY and struct.unpack_from("!H", answer, 20)[0] == port:
                        owners.add(struct.unpack_from("=I", answer, 80)[0])
                    answer = answer[(length + 3) & ~3 :]
    return owners


def unit_part(name: str) -> str:
    """Return a name in the characters that a unit name and a path may have, distinct for distinct names."""
    escaped = re.sub(r"[^a-zA-Z0-9_-]", lambda match: f".{match[0].encode().hex()}", name)
    return escaped if len(escaped) <= 80 else f"{escaped[:60]}.h{sha256(name.encode()).hexdigest()[:16]}"


class CampusSpawner(LoggingConfigurable):
    """What the spawners of CampusHub have in common, to be mixed into a Spawner of JupyterHub."""

    # What the Spawner has that this is mixed into.
    user: Any
    authenticator: Any
    port: int
    poll: Callable[[], Awaitable[int | None]]
    poll_and_notify: Callable[[], Awaitable[int | None]]
    _callbacks: list[Callable[[], Any]]
    _watch: asyncio.Task[None] | None = None

    listen_interval = Float(0.05, config=True, help="Seconds between two looks for the server's port.")

    settings = Dict(config=True, help="The document /etc/jupyterhub/settings.json.")

    token_interval = Float(15, config=True, help="Seconds between two looks whether a token is to be renewed.")

    mediator_path = Unicode(mediator.__file__, config=True, help="The program that acts as the user.")

    _account: pwd.struct_passwd | None = None
    _limits: user_session.Limits
    _homes: user_session.Homes | None = None
    # The home that the server gets, if it is not just the account's.
    _home: str = ""
    _is_scratch = False
    # What was handed on last, if anything is.
    _token: str = ""
    _renewal: asyncio.Task[None] | None = None

    @property
    def account(self) -> pwd.struct_passwd:
        """The Unix account that the server runs as."""
        if self._account is None:
            try:
                self._account = pwd.getpwnam(self.user.name)
            except KeyError:
                raise ServerStartError(
                    f"There is no Unix account {self.user.name} on this host. Please tell your administrator."
                ) from None
        return self._account

    async def prepare(self) -> None:
        """Look up the account and its limits, which may take long, without holding others up."""
        self._account = None
        # A site may have put an authenticator of its own in the place of ours.
        asked = getattr(self.authenticator, "further_groups", None)
        further = await asked(self.user) if asked else frozenset()
        try:
            await accounts.look_up(partial(self.choose_limits, further))
        except accounts.SilentDirectoryError as error:
            self.log.error("Could not look up %s: %s", self.user.name, error)  # noqa: TRY400 (where is known)
            raise ServerStartError(
                "The university's user directory does not answer. Please try again in a few minutes."
            ) from None

    def credentials(self) -> dict[str, str]:
        """Return the variables in which file systems such as EOS look for a user's ticket and token."""
        ticket = user_session.ticket_of(self.account.pw_uid)
        found = {"KRB5CCNAME": ticket, "OAUTH2_TOKEN": f"FILE:{self.token_file}" if self._token else ""}
        return {name: value for name, value in found.items() if value}

    def get_env(self) -> dict[str, str]:
        """Add what the server needs to know of the user's place on the host."""
        environment: dict[str, str] = super().get_env()  # type: ignore[misc]
        # Connection files and the kernels' sockets: short path (socket names are limited to 107 bytes), local disk.
        environment["JUPYTER_RUNTIME_DIR"] = str(user_session.runtime_directory(self.account.pw_uid))
        environment = {**self.credentials(), **environment}
        if self._homes:
            local = user_session.local_directory(self.account.pw_uid, self._homes)
            environment["HOME"] = self._home
            # Databases that need locks, and files whose modes matter. What users install for themselves is still found.
            environment["IPYTHONDIR"] = f"{local}/ipython"
            environment["JUPYTER_DATA_DIR"] = f"{local}/jupyter"
            places = [environment.get("JUPYTER_PATH", ""), f"{self._home}/.local/share/jupyter"]
            environment["JUPYTER_PATH"] = os.pathsep.join(filter(None, places))
        if self._is_scratch:
            environment["JUPYTERHUB_ROOT_DIR"] = self._home
            if environment.get("JUPYTERHUB_DEFAULT_URL", "").startswith("/lab"):
                environment["JUPYTERHUB_DEFAULT_URL"] = f"/lab/tree/{mediator.NOTICE}"
        return environment

    def as_user(self) -> list[str]:
        """Return the command that runs the one behind it as the user."""
        raise NotImplementedError

    async def make_home(self, homes: user_session.Homes, **request: Any) -> dict[str, Any]:
        """Have the user's home made where the storage is, and look again."""
        raise NotImplementedError

    async def do(self, action: str, **kwargs: Any) -> dict[str, Any]:
        """
        Have the mediator do something as the user, and return its answer.

        The action is a word of the command, where the sudo rule and the session see it. What sudo says goes to the
        hub's journal. Raises ServerStartError.
        """
        process = await asyncio.create_subprocess_exec(
            *(*self.as_user(), self.mediator_path, action), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        printed, _ = await process.communicate(json.dumps(kwargs).encode())
        if process.returncode or not printed:
            self.log.error("The mediator of %s ended with %s and no answer", self.user.name, process.returncode)
            raise ServerStartError("Your session could not be prepared. Please tell your administrator.")
        answer: dict[str, Any] = json.loads(printed)
        if not answer["ok"]:
            self.log.error("Mediator of %s: %s", self.user.name, answer["error"])
            raise ServerStartError("The server could not be started. Please tell your administrator.")
        return answer

    @property
    def token_file(self) -> Path:
        """The file with the user's token, on a file system in memory and in a directory closed to others."""
        return user_session.runtime_directory(self.account.pw_uid) / "oauth2_token"

    async def hand_on_token(self) -> None:
        """Put the token that the user's login has brought where their server finds it, if a site wants that."""
        asked = getattr(self.authenticator, "token_of", None)
        token = await asked(self.user) if asked else ""
        if token and token != self._token:
            if self._account is None:
                # A hub that has been restarted.
                await accounts.look_up(lambda: self.account)
            await self.do("keep", path=str(self.token_file), text=token)
            self._token = token

    async def renew_token(self) -> None:
        """Hand on new tokens for as long as the server runs, whether its user looks at it or not."""
        while True:
            try:
                await self.hand_on_token()
            except Exception:
                self.log.exception("The token of %s was not renewed", self.user.name)
            await asyncio.sleep(self.token_interval)

    async def choose_home(self) -> None:
        """Look whether the user's home can be used, where that is not sure. Raises ServerStartError."""
        homes = self._homes = user_session.homes_of_site()
        self._is_scratch = False
        if not homes:
            return
        self._home = home = user_session.home_of(self.account, homes)
        local = user_session.local_directory(self.account.pw_uid, homes)
        scratch = f"{local}/home" if homes["when_down"] == "scratch" else ""
        request: dict[str, Any] = {"home": home, "scratch": scratch, "env": self.credentials()}
        request |= {"mount_point": homes["mount_point"], "deadline": homes["deadline"]}
        answer = await self.do("look", **request)
        if answer["home"] == "missing" and homes["create_command"]:
            answer = await self.make_home(homes, **request)
        if answer["home"] == "well":
            return
        self.log.error("The home of %s, %s: %s", self.user.name, home, answer["problem"])
        if answer["home"] == "missing":
            raise ServerStartError(f"There is no home directory {home} for you. Please tell your administrator.")
        if not scratch:
            raise ServerStartError(
                f"Your home directory {home} cannot be used at the moment: {answer['problem']}. "
                "Please try again in a few minutes; your server starts when it is back."
            )
        self._home = scratch
        self._is_scratch = True

    def choose_limits(self, further: frozenset[str] = frozenset()) -> None:
        """Look the user's limits up, also as a member of further groups, so that the server can show them."""
        self._limits = user_session.limits_of(user_session.groups_of(self.account) | further, self.settings)
        self.mem_limit = self._limits["memory"]
        self.cpu_limit = self._limits["cpu"]

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
                self.log.error("Port %s of %s's server is held by user number %s", self.port, self.user.name, owners)
                raise ServerStartError("Somebody else holds the port of this server. Please start it again.")
            # To be sure costs a process: twenty who start at once would mostly wait for each other's.
            if not self.seems_alive() or time.monotonic() - last_poll > 5:
                if await self.poll() is not None:
                    raise ServerStartError("The server ended while it was starting. Please tell your administrator.")
                last_poll = time.monotonic()
            await asyncio.sleep(self.listen_interval)

    async def main_process(self) -> int:
        """Return the number of the server's process, 0 if there is none."""
        raise NotImplementedError

    def seems_alive(self) -> bool:
        """Return whether there is a sign of life that costs nothing to look for; only `poll` is sure of the end."""
        raise NotImplementedError

    def start_polling(self) -> None:
        """Notice the end of the server: by asking now and then, as every spawner does, and by watching its process."""
        super().start_polling()  # type: ignore[misc]
        self._watch = asyncio.ensure_future(self.watch())
        if hasattr(self.authenticator, "token_of"):
            self._renewal = asyncio.ensure_future(self.renew_token())

    def stop_polling(self) -> None:
        """Do not look any more, because the server is being stopped or has ended."""
        super().stop_polling()  # type: ignore[misc]
        # The watch that has seen the end comes here, too, and is to finish what it does.
        if self._watch and self._watch is not asyncio.current_task():
            self._watch.cancel()
        self._watch = None
        if self._renewal:
            self._renewal.cancel()
        self._renewal = None

    async def watch(self) -> None:
        """Wait for the end of the server's process and tell the hub."""
        try:
            process = os.pidfd_open(await self.main_process())
        except (OSError, ValueError):
            # It is gone, or going.
            pass
        else:
            ended = asyncio.Event()
            asyncio.get_running_loop().add_reader(process, ended.set)
            try:
                await ended.wait()
            finally:
                asyncio.get_running_loop().remove_reader(process)
                os.close(process)
        # The hub wants to be called back only when the start is quite over.
        while not self._callbacks:  # noqa: ASYNC110 (it is a list of JupyterHub's)
            await asyncio.sleep(self.listen_interval)
        # The service manager may learn of the end a little later than we do.
        while await self.poll_and_notify() is None:  # noqa: ASYNC110 (only asking tells)
            await asyncio.sleep(self.listen_interval)


class CampusSystemdSpawner(CampusSpawner, SystemdSpawner):  # type: ignore[misc]
    """SystemdSpawner with a unit for each named server, in the slice of its user."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The parent's template knows no server names: a second server would replace the first one.
        self.unit_name = f"jupyterhub-user-{unit_part(self.user.name)}"
        if self.name:
            self.unit_name += f".s-{unit_part(self.name)}"
        self._submitting = False

    async def start(self) -> tuple[str, int]:
        """Start the unit and return the server's address once it listens."""
        await self.prepare()
        account = self.account
        await self.end_remains()
        try:
            await asyncio.to_thread(user_session.prepare, account, self._limits, self.settings)
        except (OSError, subprocess.SubprocessError) as error:
            self.log.error("Cannot prepare the session of %s: %s", account.pw_name, error)  # noqa: TRY400 (no bug of ours)
            raise ServerStartError("Your session could not be prepared. Please tell your administrator.") from error
        self.slice = user_session.slice_of(account.pw_uid)
        self.default_shell = account.pw_shell or "/bin/bash"
        # The look at the home needs the token.
        await self.hand_on_token()
        await self.choose_home()
        # The parent fills in a template; a home is none.
        self.user_workingdir = self._home.replace("{", "{{").replace("}", "}}") if self._homes else None
        self._submitting = True
        try:
            address: tuple[str, int] = await super().start()
        finally:
            self._submitting = False
        await self.wait_until_listening()
        return address

    def as_user(self) -> list[str]:
        """Return the command that has the service manager run something as the user, among what the user runs."""
        account = self.account
        outside = ["systemd-run", "--quiet", "--wait", "--pipe", "--collect"]
        outside.append(f"--slice={user_session.slice_of(account.pw_uid)}")
        # The mediator leaves a process behind that may sit at a hung mount; nobody is to wait for its end.
        return [*outside, f"--uid={account.pw_uid}", f"--gid={account.pw_gid}", "--property=KillMode=process", "--"]

    async def make_home(self, homes: user_session.Homes, **request: Any) -> dict[str, Any]:
        """Have the user's home made where the storage is, and look again."""
        try:
            await asyncio.to_thread(user_session.make_network_home, self.account, homes)
        except (OSError, subprocess.SubprocessError) as error:
            self.log.error("Cannot make the home of %s: %s", self.user.name, error)  # noqa: TRY400 (no bug of ours)
        return await self.do("look", **request)

    async def main_process(self) -> int:
        """Return the number of the unit's main process."""
        show = await asyncio.create_subprocess_exec(
            *("systemctl", "show", "--value", "--property=MainPID", self.unit_name), stdout=subprocess.PIPE
        )
        printed, _ = await show.communicate()
        return int(printed)

    def has_directory(self) -> bool:
        """Return whether there is a directory for the unit, which the service manager makes and removes with it."""
        return Path(systemd.RUN_ROOT, self.unit_name).exists()

    def seems_alive(self) -> bool:
        """Return whether the unit has its directory."""
        return self.has_directory()

    async def end_remains(self) -> None:
        """
        End what is left of the unit, and with it the directory that is the user's as long as it lasts.

        The parent's start() writes a file into that directory, as root. A unit of which something refuses to end
        counts as stopped already; its user could have put a link to any file of the host there.
        """
        for command in (["kill", "--signal=SIGKILL"], ["stop"]):
            if self.has_directory():
                process = await asyncio.create_subprocess_exec("systemctl", *command, self.unit_name)
                await process.wait()
        if self.has_directory():
            self.log.error("%s does not run, but still has its directory in %s", self.unit_name, systemd.RUN_ROOT)
            raise ServerStartError("Your last server has not quite ended. Please try again in a minute.")

    async def poll(self) -> int | None:
        """Return None while the server runs."""
        # The parent's start() looks once a second, for up to a minute, for a unit that ended at once.
        # wait_until_listening() does that better.
        if self._submitting:
            return None
        status: int | None = await super().poll()
        return status


class CampusSudoSpawner(CampusSpawner, SudoSpawner):  # type: ignore[misc]
    """SudoSpawner with a mediator of our own, see `mediator`, and a stop that leaves nothing running."""

    stop_patience = Float(10, config=True, help="Seconds that a server has to end by itself.")

    def get_state(self) -> dict[str, Any]:
        """Remember the process well enough to know it again."""
        state: dict[str, Any] = super().get_state()
        if self.pid:
            state["pid_started"] = self._pid_started
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """Read what `get_state` wrote."""
        super().load_state(state)
        self._pid_started = state.get("pid_started")

    def clear_state(self) -> None:
        """Forget the process."""
        super().clear_state()
        self._pid_started = None

    _pid_started: str | None = None

    def _start_time(self) -> str | None:
        """Return the kernel's start time of the server's process, or None if there is no such process."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        # A process number comes around again, after a reboot within minutes; with its start time it does not.
        return None if fields[0] == "Z" else fields[19]

    def as_user(self) -> list[str]:
        """Return the command that runs something as the user by the hub's sudo rule."""
        return ["sudo", "-u", self.user.name, *self.sudo_args]

    async def make_home(self, homes: user_session.Homes, **request: Any) -> dict[str, Any]:  # noqa: ARG002 (read there)
        """Have the user's home made where the storage is, which the session of that word does, and look again."""
        return await self.do("make", **request)

    async def main_process(self) -> int:
        """Return the number of the server's process."""
        return int(self.pid)

    def seems_alive(self) -> bool:
        """Return whether there is the process that was started."""
        started = self._start_time()
        return started is not None and started == self._pid_started

    def user_env(self, env: dict[str, str]) -> dict[str, str]:
        """Add what a login would set."""
        account = self.account
        env.update(USER=account.pw_name, LOGNAME=account.pw_name, HOME=self._home if self._homes else account.pw_dir)
        env["SHELL"] = account.pw_shell or "/bin/bash"
        return env

    async def start(self) -> tuple[str, int]:
        """Start the server and return its address once it listens."""
        await self.prepare()
        # The look at the home needs the token.
        await self.hand_on_token()
        await self.choose_home()
        address: tuple[str, int] = await super().start()
        self._pid_started = self._start_time()
        await self.wait_until_listening()
        return address

    async def poll(self) -> int | None:
        """Return None while the server runs."""
        if not self.pid:
            return 0
        started = self._start_time()
        if started is None or (self._pid_started is not None and started != self._pid_started):
            self.clear_state()
            return 0
        return None

    async def stop(self, now: bool = False) -> None:
        """Stop the server and whatever it left behind."""
        if await self.poll() is None:
            await self.do("stop", pid=self.pid, patience=0 if now else self.stop_patience)
        self.clear_state()


def environment_path(user_environment: str) -> str:
    """Return the PATH of users' servers: their environment first, nothing of the hub's."""
    places = [f"{user_environment}/bin", "/usr/local/bin", "/usr/bin", "/bin", "/usr/local/games", "/usr/games"]
    return os.pathsep.join(places)
