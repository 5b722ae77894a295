"""SudoSpawner with a mediator of our own, and a stop by root that the server's user cannot prevent."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import Any

from sudospawner import SudoSpawner
from traitlets import Float, Unicode

from campushub_hub import accounts
from campushub_hub.host import stop, user_session

from . import systemd
from .answers import ask
from .base import NO_SESSION, CampusSpawner, ServerEndedError, ServerStartError

# The path in the sudo rule, and the seconds that it may take; it gives up sooner by itself.
STOP, STOP_TIMEOUT = "/opt/campushub/hub/bin/campushub-stop", 2 * stop.SECONDS + 30.0
# Seconds that the main process of a unit has to end after its last words.
EXIT_SECONDS = 2.0
# Scopes of 0.5.0 have a second number where the service manager is older than systemd 253, as on Debian 12.
FORMER_UNIT = r"/jupyterhub-(?P<uid>\d+)\.slice/(?P<unit>jupyterhub-user-(?P=uid)-\d+(-0)?\.(service|scope))$"


class HomeError(Exception):
    """A home that the unit of a new server has found no use for, with what it said."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__()
        self.answer = answer


class CampusSudoSpawner(CampusSpawner, SudoSpawner):  # type: ignore[misc]
    """SudoSpawner with our mediator and our stop, see `campushub_hub.host.mediator` and `campushub_hub.host.stop`."""

    stop_patience = Float(
        user_session.STOP_SECONDS,
        config=True,
        help="Seconds, at least 1, that a server that starts has to end after SIGTERM later.",
    )
    # The path in the sudo rule.
    mediator_path = Unicode(
        "/opt/campushub/hub/bin/campushub-mediator", config=True, help="Path of the program that acts as the user."
    )

    # The unit of the server, from before its start on. It has a name of the hub's: nothing that its user does to the
    # mediator, or has the mediator say, makes the hub forget it.
    unit = ""
    # As the service manager says it; 0 is none.
    pid: int
    _pid_started: str | None = None
    # What the unit of the server that is starting is to probe.
    _probe: dict[str, Any] | None = None

    def get_state(self) -> dict[str, Any]:
        """Remember the unit, and its process with the start time, which tells it from a later one with the same PID."""
        state: dict[str, Any] = super().get_state()
        if self.unit:
            state["unit"] = self.unit
        if self.pid:
            state["pid_started"] = self._pid_started
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """Read what `get_state` wrote."""
        super().load_state(state)
        self.unit = state.get("unit", "")
        self._pid_started = state.get("pid_started")

    def clear_state(self) -> None:
        """Forget the unit."""
        super().clear_state()
        self.unit, self._pid_started = "", None

    def _start_time(self) -> str | None:
        """Return the kernel's start time of the server's process, or None if there is no such process."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            return None
        # PIDs are used again, after a reboot within minutes; a PID with its start time is unique.
        return None if fields[0] == "Z" else fields[19]

    def user_command(self, seconds: float) -> list[str]:  # noqa: ARG002 (the session of sudo sees to it)
        """Return the words in front of a command that the hub's sudo rule lets it run as the user."""
        return ["sudo", "-u", self.user.name, *self.sudo_args]

    async def do(self, action: str, **kwargs: Any) -> dict[str, Any]:
        """Run the mediator; SudoSpawner calls it by this name."""
        if self.choice:
            kwargs["interface"] = self.choice.profile.interface
        if action == "spawn" and self._probe:
            # Each session takes longer than a look, so the unit that is to become the server looks.
            kwargs["home"] = self._probe
        answer = await self.run_mediator(action, **kwargs)
        if action == "spawn" and "pid" not in answer:
            # Its user may have it say something of a home that nobody has asked for.
            raise HomeError(answer) if self._probe else ServerStartError(NO_SESSION)
        return answer

    def session_variables(self, action: str) -> dict[str, str]:
        """Return the name of a server's unit, and the limits of one that has less than its user."""
        if action != "spawn":
            return {}
        number = self.unit.rpartition("-")[2].partition(".")[0]
        # To the service manager 0 is without end.
        variables = {user_session.SERVER_UNIT: f"{number} {max(1, self.stop_patience):.0f}"}
        if self.choice:
            limits = f"{self.mem_limit or 0:.0f} {round(100 * float(self.cpu_limit or 0))}"
            variables[user_session.SERVER_LIMITS] = limits
        return variables

    async def create_network_home(self, homes: user_session.Homes, **request: Any) -> dict[str, Any]:  # noqa: ARG002 (the session reads them)
        """Have the session of this action create the user's home on the storage, and probe it again."""
        return await self.run_mediator("create-home", **request)

    async def main_pid(self) -> int:
        """Return the PID of the server."""
        return int(self.pid)

    def probably_running(self) -> bool:
        """Return whether the process that was started is there."""
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
        # The probe of the home needs the token.
        await self.publish_token()
        probe = self._probe = self.choose_home()
        pid = -1
        try:
            try:
                address, pid = await self._submit()
            except HomeError as found:
                # Its user may have had a say in what became of that unit.
                if not await self.ends_by_itself() and not await self.end_unit():
                    raise ServerStartError(NO_SESSION) from None
                self.unit = ""
                await self.accept_home(probe, found.answer)
                self._probe = None
                address, pid = await self._submit()
            await self.wait_until_listening()
        except ServerEndedError as error:
            raise await self.explain(error, pid) from None
        return address

    async def _submit(self) -> tuple[tuple[str, int], int]:
        """Have the server started, in a unit whose name the hub chooses; return its address, and what PID was said."""
        self.unit = user_session.unit_name(self.account.pw_uid, time.time_ns())
        # A hub that is killed meanwhile ends it when it starts.
        self.keep_state()
        start = super().start()

        async def steps() -> tuple[tuple[str, int], int]:
            address = await start
            # What the mediator says, its user may have a say in.
            said, self.pid = self.pid, await systemd.main_pid_of(self.unit)
            self._pid_started = self._start_time()
            return address, said

        return await self.finish_submission(steps())

    async def poll(self) -> int | None:
        """Return None while the server runs, or starts."""
        if self.submitting:
            return None
        if not self.pid:
            return None if self.unit and (systemd.TRANSIENT_UNITS / self.unit).exists() else 0
        started = self._start_time()
        if started is None or (self._pid_started is not None and started != self._pid_started):
            self.clear_state()
            return 0
        return None

    async def stop(self, now: bool = False) -> None:
        """Stop the server and whatever it left behind."""
        await super().stop(now)
        self.clear_state()

    async def ends_by_itself(self) -> bool:
        """
        Return whether the unit ends already, which nothing prevents, as one does that has found no use for a home.

        What a home that hangs blocks in it may take long to end; nobody waits for that.
        """
        end = time.monotonic() + EXIT_SECONDS
        while await systemd.property_of(self.unit, "ActiveState") not in ("deactivating", "inactive", "failed"):
            if time.monotonic() > end:
                return False
            await asyncio.sleep(self.listen_interval)
        return True

    async def end_unit(self) -> bool:
        """
        Have root stop the unit, and return whether it has ended.

        Not as its user, who may be allowed no session any more, or have no account, or be in the way.
        """
        if not self.unit and not self.probably_running():
            return True
        unit = self.unit or await self._former_unit()
        if not unit:
            return False
        try:
            status, _ = await ask("sudo", "-n", "-u", "root", STOP, unit, seconds=STOP_TIMEOUT)
        except asyncio.TimeoutError:
            return False
        return status == 0

    async def _former_unit(self) -> str:
        """Return the unit of a server that a former release has started, if its process is in one of its user's."""
        groups = Path(f"/proc/{self.pid}/cgroup").read_text()  # noqa: ASYNC240 (the kernel has it in memory)
        found = re.search(FORMER_UNIT, groups, re.MULTILINE)
        try:
            # A mediator of the user's has said which process it is.
            await accounts.look_up(lambda: self.account)
            uid = str(self.account.pw_uid)
        except accounts.DirectoryTimeoutError:
            return ""
        except ServerStartError:
            # The account is gone.
            uid = found["uid"] if found else ""
        return found["unit"] if found and found["uid"] == uid else ""
