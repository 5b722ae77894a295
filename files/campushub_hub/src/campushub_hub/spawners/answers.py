"""What programs say that run as users, who may have a say in it, and may stop them."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from tornado.log import app_log

# The most bytes of an answer of the mediator.
ANSWER_SIZE = 10**6
# The most bytes, and lines, of what such a program complains of that reach the journal.
ERROR_SIZE, ERROR_LINES = 10_000, 20
# What there is in an answer of the mediator that has done what it was asked: all of one of these, by action.
HOME: dict[str, type] = {"home": str, "problem": str}
FIELDS: dict[str, list[dict[str, type]]] = {
    "spawn": [{"pid": int}, HOME],
    "probe": [HOME],
    "create-home": [HOME],
    "explain": [{**HOME, "line": str, "file": str, "number": int}],
    "submit": [{"job": int, "problem": str}],
    "cancel": [{"problem": str}],
    "associate": [{"problem": str}],
}


def read_answer(action: str, printed: bytes) -> dict[str, Any]:
    """Return what the mediator has printed. Raises ValueError if that is no answer to the action."""
    try:
        answer: dict[str, Any] = json.loads(printed)
        kinds = FIELDS.get(action, [{}]) if answer["ok"] else [{}]
        if any(all(type(answer.get(name)) is kind for name, kind in fields.items()) for fields in kinds):
            return answer
    except (LookupError, RecursionError, TypeError):
        pass
    raise ValueError("no answer")


def printable(words: Any) -> str:
    """Return text of the mediator for a page or a journal: it ran as the user, who may have had a say in it."""
    return "".join(letter for letter in str(words)[:500] if letter.isprintable())


def log_errors(words: Sequence[str], pipe: int) -> None:
    """Write what a program has complained of into the journal as lines of the hub's, however much it is."""
    with suppress(BlockingIOError):
        lines = [line for line in os.read(pipe, ERROR_SIZE).decode(errors="replace").splitlines() if line.strip()]
        for line in lines[:ERROR_LINES]:
            app_log.warning("%s has said: %s", printable(" ".join(words)), printable(line))


async def ask(
    *command: str, seconds: float, given: bytes = b"", environment: dict[str, str] | None = None
) -> tuple[int | None, bytes]:
    """
    Return how a program has ended and what it has printed, which is nothing if it is too much.

    It gets no descriptor of the hub's: with that of the journal its user could write there in the hub's name, or end
    that connection. What it says beside its answer is read when it has ended, so one that says more than a pipe holds
    waits until its time is over. Raises TimeoutError if it goes on for too long.
    """
    # Of our own, because whoever has the other end may keep it; nobody waits for the end of this one.
    errors, for_errors = os.pipe()
    os.set_blocking(errors, False)
    try:
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=for_errors, env=environment
            )
        finally:
            os.close(for_errors)
        try:
            printed = await asyncio.wait_for(exchange(process, given), seconds)
        finally:
            # Also when it has ended: a user may have handed its pipes on. That of sudo is root's, and ends by itself.
            with suppress(PermissionError):
                process._transport.close()  # type: ignore[attr-defined] # noqa: SLF001 (Python has no other way)
            log_errors(command, errors)
    finally:
        os.close(errors)
    return process.returncode, printed


async def exchange(process: asyncio.subprocess.Process, given: bytes) -> bytes:
    """Give a program what it is to read, and return what it prints until it has ended."""
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("it has no pipes")
    with suppress(ConnectionError):
        process.stdin.write(given)
        await process.stdin.drain()
    process.stdin.close()
    try:
        await process.stdout.readexactly(ANSWER_SIZE)
    except asyncio.IncompleteReadError as whole:
        await process.wait()
        return whole.partial
    return b""


async def ask_mediator(
    user: str, command: Sequence[str], request: dict[str, Any], seconds: float, environment: dict[str, str]
) -> dict[str, Any]:
    """
    Have the mediator act as a user, and return its answer, be it that it has failed. Raises OSError if there is none.

    The action is the last word of the command, where the sudo rule and the session see it.
    """
    try:
        status, printed = await ask(
            *command, seconds=seconds, given=json.dumps(request).encode(), environment=environment
        )
    except asyncio.TimeoutError:
        raise OSError(f"the mediator of {user} has not answered within {seconds:g} s") from None
    if status:
        raise OSError(f"the mediator of {user} has ended with {status}")
    try:
        return read_answer(command[-1], printed)
    except ValueError:
        # It ran as the user, who may have had a say in it.
        raise OSError(f"the mediator of {user} has not answered") from None
