"""What the hub takes from programs that run as users. Any program is in the place of sudo and systemd-run here."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from campushub_hub.spawners import answers


@pytest.mark.attack
def test_a_program_gets_no_descriptor_of_the_hubs() -> None:
    """A process of its user's can take each that it has (pidfd_getfd(2)), such as the connection to the journal."""
    code = "import json, os; print(json.dumps([[f.st_dev, f.st_ino] for f in map(os.fstat, range(3))]))"
    status, printed = asyncio.run(answers.ask(sys.executable, "-c", code, seconds=20))
    theirs = {tuple(one) for one in json.loads(printed)}
    files = [one for one in Path("/proc/self/fd").iterdir() if one.exists()]
    ours = {(one.stat().st_dev, one.stat().st_ino) for one in files}
    assert (status, len(theirs), theirs & ours) == (0, 3, set())


@pytest.mark.attack
def test_a_program_cannot_speak_in_the_hubs_name(caplog: pytest.LogCaptureFixture) -> None:
    """The jail of fail2ban reads the hub's journal, and administrators do."""
    forged = r"\n[W 2026-11-30 12:00:00.000 JupyterHub base:1] Failed login of ann from 192.0.2.1\n\e[2J"
    with caplog.at_level(logging.WARNING):
        asyncio.run(answers.ask("/bin/bash", "-c", f'printf "{forged}" >&2', seconds=20))
    assert len(caplog.messages) == 2
    assert all(message.startswith("/bin/bash -c printf ") and message.isprintable() for message in caplog.messages)
    assert caplog.messages[0].endswith(
        "has said: [W 2026-11-30 12:00:00.000 JupyterHub base:1] Failed login of ann from 192.0.2.1"
    )


@pytest.mark.attack
@pytest.mark.parametrize("said", ["exec yes >&2", "yes | head -n 9000 >&2"])
def test_complaints_cannot_fill_the_journal(caplog: pytest.LogCaptureFixture, said: str) -> None:
    async def ask() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(answers, "ERROR_LINES", 3)
            with suppress(asyncio.TimeoutError):
                await answers.ask("/bin/sh", "-c", said, seconds=1)

    asyncio.run(ask())
    assert [message for message in caplog.messages if "has said" in message] == [f"/bin/sh -c {said} has said: y"] * 3


@pytest.mark.attack
def test_nobody_waits_for_who_keeps_a_pipe() -> None:
    """As what a mount blocks, and is left behind by a look at a home."""
    begin = time.monotonic()
    command = ["/bin/sh", "-c", "sleep 30 >&- & echo done"]
    assert asyncio.run(answers.ask(*command, seconds=20)) == (0, b"done\n")
    assert time.monotonic() - begin < 10
