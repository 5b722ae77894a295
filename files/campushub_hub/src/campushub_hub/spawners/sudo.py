"""SudoSpawner with a mediator of our own and a stop that leaves no process behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sudospawner import SudoSpawner
from traitlets import Float, Unicode

from campushub_hub.host import user_session

from .base import CampusSpawner, ServerEndedError


class HomeError(Exception):
    """A home that the unit of a new server has found no use for, with what it said."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__()
        self.answer = answer


class CampusSudoSpawner(CampusSpawner, SudoSpawner):  # type: ignore[misc]
    """SudoSpawner with our mediator, see `campushub_hub.host.mediator`, and a stop that leaves nothing running."""

    stop_patience = Float(10, config=True, help="Seconds that a server has to end after SIGTERM.")
    # The path in the sudo rule.
    mediator_path = Unicode(
        "/opt/campushub/hub/bin/campushub-mediator", config=True, help="Path of the program that acts as the user."
    )

    def get_state(self) -> dict[str, Any]:
        """Remember the process with its start time, which tells it from a later one with the same PID."""
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
    # What the unit of the server that is starting is to probe.
    _probe: dict[str, Any] | None = None

    def _start_time(self) -> str | None:
        """Return the kernel's start time of the server's process, or None if there is no such process."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            return None
        # PIDs are used again, after a reboot within minutes; a PID with its start time is unique.
        return None if fields[0] == "Z" else fields[19]

    def user_command(self) -> list[str]:
        """Return the words in front of a command that the hub's sudo rule lets it run as the user."""
        return ["sudo", "-u", self.user.name, *self.sudo_args]

    async def do(self, action: str, **kwargs: Any) -> dict[str, Any]:
        """Run the mediator; SudoSpawner calls it by this name."""
        if self.choice:
            kwargs["interface"] = self.choice.profile.interface
        if action != "spawn" or not self._probe:
            return await self.run_mediator(action, **kwargs)
        # Each session takes longer than a look, so the unit that is to become the server looks.
        answer = await self.run_mediator(action, home=self._probe, **kwargs)
        if "pid" not in answer:
            raise HomeError(answer)
        return answer

    def session_variables(self, action: str) -> dict[str, str]:
        """Return the limits of a server that has less than its user."""
        if action != "spawn" or not self.choice:
            return {}
        return {user_session.SERVER_LIMITS: f"{self.mem_limit or 0:.0f} {round(100 * float(self.cpu_limit or 0))}"}

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
                address: tuple[str, int] = await super().start()
            except HomeError as found:
                await self.accept_home(probe, found.answer)
                self._probe = None
                address = await super().start()
            pid = self.pid
            self._pid_started = self._start_time()
            await self.wait_until_listening()
        except ServerEndedError as error:
            raise await self.explain(error, pid) from None
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
            self.note_stop()
            await self.run_mediator("stop", pid=self.pid, patience=0 if now else self.stop_patience)
        self.clear_state()
