"""SystemdSpawner with a unit for each named server, in the slice of its user."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

from systemdspawner import SystemdSpawner, systemd
from traitlets import Float

from campushub_hub.host import look, mediator, user_session
from campushub_hub.translation import gettext_noop

from . import transient_unit
from .base import NO_SESSION, CampusSpawner, ServerEndedError, ServerStartError

# The service manager keeps the definition of a unit that was made by systemd-run here for as long as it knows the unit.
TRANSIENT_UNITS = Path("/run/systemd/transient")

# After how many seconds of preparations it is looked again whether the user's slice is being removed.
PREPARATION_SECONDS = 0.3

# To read the journal takes seconds: many ends at once must leave the other threads to starts.
JOURNAL_THREADS = ThreadPoolExecutor(4, "journal")

# What no program of a user can do anyway without more rights than the user's own: it is out of reach of a fault of the
# kernel, too. Namespaces, devices, other architectures, debuggers and setgid directories are left to users; so is
# CAP_NET_RAW, because ping would not start where it could not have it.
CONFINEMENT = {
    "CapabilityBoundingSet": "CAP_NET_RAW",
    "RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6 AF_NETLINK",
    "RestrictRealtime": "yes",
    "SystemCallErrorNumber": "EPERM",
    "SystemCallFilter": "~@module @obsolete @raw-io @reboot @swap",
}


def escape_unit_name(name: str) -> str:
    """Return a name in the characters that a unit name and a path may have, distinct for distinct names."""
    escaped = re.sub(r"[^a-zA-Z0-9_-]", lambda match: f".{match[0].encode().hex()}", name)
    return escaped if len(escaped) <= 80 else f"{escaped[:60]}.h{sha256(name.encode()).hexdigest()[:16]}"


async def property_of(unit: str, name: str) -> str:
    """Return a property of a unit as the service manager says it."""
    while True:
        show = await asyncio.create_subprocess_exec(
            *("systemctl", "show", "--value", f"--property={name}", unit), stdout=subprocess.PIPE
        )
        printed, _ = await show.communicate()
        if printed:
            return printed.decode().strip()
        # One that does not answer, as while it restarts, says nothing of the unit.
        await asyncio.sleep(1)


async def main_pid_of(unit: str) -> int:
    """Return the PID of a unit's main process as the service manager says it, 0 if there is none."""
    return int(await property_of(unit, "MainPID"))


async def wait_for_removal(uid: int) -> None:
    """Wait as `user_session.wait_for_removal` does, which can take as long as its user has files, without a thread."""
    end = time.monotonic() + user_session.REMOVAL_SECONDS
    while time.monotonic() < end and await asyncio.to_thread(user_session.is_being_removed, uid):  # noqa: ASYNC110 (no event)
        await asyncio.sleep(user_session.REMOVAL_INTERVAL)


class CampusSystemdSpawner(CampusSpawner, SystemdSpawner):  # type: ignore[misc]
    """SystemdSpawner with a unit for each named server, in the slice of its user."""

    unit_extra_properties: dict[str, Any]  # of the parent
    clean_up_timeout = Float(10, config=True, help="Seconds that the remains of a server's last unit have to go.")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The parent's template knows no server names: a second server would replace the first one.
        self.unit_name = f"jupyterhub-user-{escape_unit_name(self.user.name)}"
        if self.name:
            self.unit_name += f".s-{escape_unit_name(self.name)}"
        self._submitted = 0
        # With sudo these would be taken from root.
        if self.disable_user_sudo:
            self.unit_extra_properties = {**CONFINEMENT, **self.unit_extra_properties}
        self._unit_properties = self.unit_extra_properties

    def load_state(self, state: dict[str, Any]) -> None:
        """Read what was kept. The unit of a server that has ended is of its name then: it may have been renamed."""
        unit = self.unit_name
        super().load_state(state)
        if not self.orm_spawner.server:
            self.unit_name = unit

    async def start(self) -> tuple[str, int]:
        """Start the unit and return the server's address once it listens."""
        await self.prepare()
        account = self.account
        await self.clean_up_stale_unit()
        await self.prepare_session()
        self.slice = user_session.slice_name(account.pw_uid)
        own, site = user_session.server_properties(account.pw_uid, self.tmp_directory), self._unit_properties
        # Of lists, such as BindPaths, both count.
        lists = {name: f"{own[name]} {site[name]}" for name in own.keys() & site.keys() if name != "PrivateIPC"}
        self.unit_extra_properties = {**own, **site, **lists}
        self.default_shell = account.pw_shell or "/bin/bash"
        # The parent fills in a template; a home is none.
        self.user_workingdir = self._home.replace("{", "{{").replace("}", "}}") if self._homes else None
        self._submitted = int(time.time())
        address: tuple[str, int] = await self.finish_submission(super().start())
        try:
            await self.wait_until_listening()
        except ServerEndedError as error:
            if self.remains() == [self.unit_directory]:
                # Of a unit that the service manager has refused nobody else removes what the parent has made.
                await asyncio.to_thread(shutil.rmtree, self.unit_directory, ignore_errors=True)
            raise await self.explain(error, 0) from None
        return address

    async def prepare_session(self) -> None:
        """
        Prepare the user's directories, token, home and slice. Raises ServerStartError.

        The home is probed while the service manager does what it has to do before the start anyway.
        """
        account, limits, begun = self.account, self._limits, time.monotonic()

        async def manage() -> None:
            await asyncio.to_thread(user_session.limit_slice, account.pw_uid, limits)
            await wait_for_removal(account.pw_uid)

        try:
            await asyncio.to_thread(user_session.make_directories, account, self.session_settings)
            # The probe of the home needs the token.
            await self.publish_token()
            managed = asyncio.ensure_future(manage())
            try:
                await self.resolve_home()
                await managed
            finally:
                # A start that has failed or is given up does not wait for it.
                managed.cancel()
            if time.monotonic() - begun > PREPARATION_SECONDS:
                # Another server of the user's may have ended meanwhile.
                await wait_for_removal(account.pw_uid)
        except (OSError, subprocess.SubprocessError) as error:
            self.log.error("Cannot prepare the session of %s: %s", account.pw_name, error)  # noqa: TRY400 (no bug of ours)
            raise ServerStartError(NO_SESSION) from error

    async def store_output(self) -> None:
        """Store what the unit has printed since it was submitted where the mediator reads it."""
        unit, since = f"_SYSTEMD_UNIT={self.unit_name}.service", f"--since=@{self._submitted}"
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(JOURNAL_THREADS, user_session.write_output, self.account, unit, since)

    def user_command(self, seconds: float) -> list[str]:
        """Return the words in front of a command that the service manager runs as the user, in their slice."""
        account = self.account
        outside = ["systemd-run", "--quiet", "--wait", "--pipe", "--collect"]
        outside.append(f"--slice={user_session.slice_name(account.pw_uid)}")
        outside += user_session.time_limit(seconds)
        # The mediator may leave a process behind that a mount blocks; systemd-run must not wait for its end.
        return [*outside, f"--uid={account.pw_uid}", f"--gid={account.pw_gid}", "--property=KillMode=process", "--"]

    async def probe_home(self, **request: Any) -> dict[str, Any]:
        """
        Return whether the user's home can be used; if it is unavailable, make the scratch home, if one is named.

        The process that looks is a unit, which nobody waits for after the timeout, or after its answer.
        """
        account = self.account
        seconds = user_session.OTHER_SECONDS + request["timeout"]
        properties: dict[str, str | int | list[str]] = {
            "Description": f"Look at the home of {account.pw_name}",
            "Slice": user_session.slice_name(account.pw_uid),
            "User": str(account.pw_uid),
            "Group": str(account.pw_gid),
            "Environment": [f"{name}={value}" for name, value in request["env"].items()],
            "CollectMode": "inactive-or-failed",
            "RuntimeMaxUSec": round(seconds * 1e6),
            "TimeoutStopUSec": user_session.KILL_SECONDS * 10**6,
        }
        looks = [look.__file__, request["home"], request["mount_point"]]
        # A pipe of our own, which is closed whether or not a blocked process holds its other end open.
        reading, writing = os.pipe()
        output, end, begin = asyncio.StreamReader(), os.fdopen(reading, "rb"), os.fdopen(writing, "wb")
        pipe, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(output), end)

        def start() -> None:
            name = f"jupyterhub-look-{account.pw_uid}-{time.time_ns()}.service"
            with begin:
                transient_unit.start_unit(name, looks, begin.fileno(), properties)

        async def answer() -> tuple[str, str]:
            state = (await output.readline()).decode().rstrip("\n")
            return state, "" if state == "ok" else (await output.readline()).decode().rstrip("\n")

        try:
            await asyncio.to_thread(start)
            # The timeout is that of the storage, and a busy host may take long to start a process.
            try:
                await asyncio.wait_for(output.readline(), seconds)
                state, problem = await asyncio.wait_for(answer(), request["timeout"])
            except asyncio.TimeoutError:
                state, problem = "unavailable", mediator.SILENT
        except (OSError, ValueError) as error:
            self.log.error("Cannot look at the home of %s: %s", self.user.name, error)  # noqa: TRY400 (no bug of ours)
            raise ServerStartError(NO_SESSION) from error
        finally:
            pipe.close()
        if not state:
            self.log.error("The look at the home of %s ended without an answer", self.user.name)
            raise ServerStartError(NO_SESSION)
        if state == "unavailable" and request["scratch"]:
            place = {name: request[name] for name in ("scratch", "home")}
            await self.run_mediator("create-scratch", problem=problem, **place)
        return {"home": state, "problem": problem}

    async def main_pid(self) -> int:
        """Return the PID of the unit's main process."""
        return await main_pid_of(f"{self.unit_name}.service")

    @property
    def unit_directory(self) -> Path:
        """The unit's runtime directory, which the service manager creates and removes with it."""
        return Path(systemd.RUN_ROOT, self.unit_name)

    def probably_running(self) -> bool:
        """Return whether the unit has its runtime directory."""
        return self.unit_directory.exists()

    def remains(self) -> list[Path]:
        """Return what the service manager still has of the unit."""
        return [path for path in (TRANSIENT_UNITS / f"{self.unit_name}.service", self.unit_directory) if path.exists()]

    async def clean_up_stale_unit(self) -> None:
        """
        End what is left of the unit, and wait until the service manager has forgotten it.

        The parent's start() writes a file into the runtime directory, as root. While the manager still knows a unit
        that ended or failed, it may remove that directory at any moment, with the file that the new unit needs; and a
        unit of which something refuses to end has a directory in which its user could have put a link to any file of
        the host.
        """
        if not self.remains():
            return
        for command in (["kill", "--signal=SIGKILL"], ["stop"], ["reset-failed"]):
            process = await asyncio.create_subprocess_exec(
                *("systemctl", *command, f"{self.unit_name}.service"), stderr=subprocess.DEVNULL
            )
            await process.wait()
        end = time.monotonic() + self.clean_up_timeout
        while remains := self.remains():
            if time.monotonic() > end:
                self.log.error("%s does not run, but %s is still there", self.unit_name, remains[-1])
                raise ServerStartError(
                    gettext_noop("Your last server has not quite ended. Please try again in a minute.")
                )
            await asyncio.sleep(self.listen_interval)

    async def poll(self) -> int | None:
        """Return None while the server runs."""
        # The parent's start() looks once a second, for up to a minute, for a unit that ended at once.
        # wait_until_listening() does that better.
        if self.submitting:
            return None
        try:
            asked = await asyncio.create_subprocess_exec(
                *("systemctl", "is-active", "--quiet", self.unit_name), stderr=subprocess.DEVNULL
            )
        except OSError as error:
            # A hub that restarts would forget the server.
            self.log.error("Cannot ask whether %s runs: %s", self.unit_name, error)  # noqa: TRY400 (no bug of ours)
            return None
        # It is not active, or unknown. Any other failure says nothing of it.
        return 1 if await asked.wait() in (3, 4) else None

    async def end_unit(self) -> bool:
        """Stop the unit."""
        await systemd.stop_service(self.unit_name)
        return await self.poll() is not None
