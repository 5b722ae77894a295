"""
Unix accounts, looked up in a way that a dead or slow directory blocks nobody else.

Each look-up of an account may reach a directory, and wait for it. So it runs in a thread of its own, with a timeout; a
thread that is blocked is left behind, because sssd ends each of its own waits.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from .host import user_session
from .translation import gettext_noop

T = TypeVar("T")

# Installed by role `accounts` where there is a directory: reports what is wrong with its servers.
DIRECTORY_STATUS = Path("/usr/local/lib/campushub/directory_status.py")
LOOK_UP_SECONDS = 4.0
# What people read at login and at the start of a server.
SILENT = gettext_noop("The university's user directory does not answer. Please try again in a few minutes.")
PASSWORD_THREADS = 32

# Passwords are checked in other threads, so that many checks leave these free.
_look_ups = ThreadPoolExecutor(max_workers=16, thread_name_prefix="account")
_passwords = ThreadPoolExecutor(max_workers=PASSWORD_THREADS, thread_name_prefix="password")


class DirectoryTimeoutError(Exception):
    """The directory has not answered in time."""

    def __str__(self) -> str:
        return "the directory of users does not answer in time"


@dataclass(frozen=True)
class Account:
    """A Unix account as the host knows it now."""

    name: str
    uid: int
    groups: frozenset[str]
    # The account that the host takes for this one, where two have the same UID.
    twin: str = ""


def find(name: str) -> Account | None:
    """Return the account of that name, which the directory may spell otherwise; this may take long."""
    try:
        entry = pwd.getpwnam(name)
    except (KeyError, ValueError):
        return None
    return Account(entry.pw_name, entry.pw_uid, frozenset(user_session.groups_of(entry)), twin_of(entry))


def twin_of(entry: pwd.struct_passwd) -> str:
    """Return the name of another account to which the host gives the files and processes of this one, or nothing."""
    try:
        name = pwd.getpwuid(entry.pw_uid).pw_name
    except KeyError:
        return ""
    # A directory may spell a name otherwise when it is asked for the number.
    return "" if name.lower() == entry.pw_name.lower() else name


async def _within(pool: ThreadPoolExecutor, seconds: float, function: Callable[[], T]) -> T:
    future = asyncio.get_running_loop().run_in_executor(pool, function)
    try:
        return await asyncio.wait_for(asyncio.shield(future), seconds)
    except asyncio.TimeoutError:
        # A late result is ignored.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        raise DirectoryTimeoutError from None


async def look_up(function: Callable[[], T]) -> T:
    """Run something that asks for accounts or groups. Raises DirectoryTimeoutError."""
    return await _within(_look_ups, LOOK_UP_SECONDS, function)


async def check_password(function: Callable[[], T], seconds: float) -> T:
    """Run something that checks a password. Raises DirectoryTimeoutError."""
    return await _within(_passwords, seconds, function)


class Directory:
    """Knows whether the directory of users, if there is one, can be asked."""

    def __init__(self, status: Path = DIRECTORY_STATUS, seconds: float = 3.5, good_for: float = 5.0) -> None:
        """
        `good_for` is how many seconds a failure is cached, so that many logins cause one check.

        A success is cached for a fifth of that: the check costs little, and a stale success turns into "wrong password"
        when the directory has gone down since.
        """
        self.status = status
        self.seconds = seconds
        self.good_for = good_for
        self._asked = 0.0
        self._answer: asyncio.Future[str] | None = None

    def exists(self) -> bool:
        """Return whether the host has a directory of users."""
        return self.status.exists()

    async def outage(self) -> str:
        """Return what is wrong with all servers of the directory; nothing if one works, or if there is no directory."""
        if not self.exists():
            return ""
        if self._answer is None or (self._answer.done() and time.monotonic() - self._asked > self.lasts(self._answer)):
            self._asked = time.monotonic()
            self._answer = asyncio.ensure_future(self._ask())
        return await asyncio.shield(self._answer)

    def lasts(self, answer: asyncio.Future[str]) -> float:
        """Return for how many seconds an answer is cached."""
        return self.good_for if answer.result() else self.good_for / 5

    async def _ask(self) -> str:
        try:
            process = await asyncio.create_subprocess_exec(
                str(self.status), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={"PATH": os.defpath}
            )
        except OSError as error:
            return str(error)
        try:
            printed, _ = await asyncio.wait_for(process.communicate(), self.seconds)
        except asyncio.TimeoutError:
            process.kill()
            await process.wait()
            return "no answer"
        self._asked = time.monotonic()
        return "; ".join(printed.decode(errors="replace").splitlines()) if process.returncode else ""
