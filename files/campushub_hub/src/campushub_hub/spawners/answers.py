"""What programs say that run as users, who may have a say in it, and may stop them."""

from __future__ import annotations

import asyncio
import json
import subprocess
from contextlib import suppress
from typing import Any

# The most bytes of an answer of the mediator.
ANSWER_SIZE = 10**6
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


async def ask(
    *command: str, seconds: float, given: bytes = b"", environment: dict[str, str] | None = None
) -> tuple[int | None, bytes]:
    """
    Return how a program has ended and what it has printed, which is nothing if it is too much.

    Raises TimeoutError if it goes on for too long.
    """
    process = await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )

    async def exchange() -> bytes:
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

    try:
        printed = await asyncio.wait_for(exchange(), seconds)
    finally:
        # Also when it has ended: a user may have handed its pipes on. That of sudo is root's, and ends by itself.
        with suppress(PermissionError):
            process._transport.close()  # type: ignore[attr-defined] # noqa: SLF001 (Python has no other way)
    return process.returncode, printed
