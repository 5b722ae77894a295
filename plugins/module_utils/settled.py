"""
How a host knows that what a module found to be right is still as it was.

To run a module on a host takes many times as long as to see that files were not touched. So a module that found nothing
to change writes down its answer and what it looked at, and the check that every run begins with (see check_host) says
which of these answers still hold. Whatever touches one of the files, as what restores them from a backup, makes the
module look again: the time of a file's last change cannot be set.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import stat
from collections.abc import Iterable
from typing import Any

STORE = "/var/lib/campushub/settled"


def stamp(path: str) -> list[int] | None:
    """
    Return what is different after each change of a file or link, and None where nothing is.

    Of a directory that is who owns it and may do what; it changes with each file in it, which are others' affair.
    """
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    same = [found.st_ino, found.st_mode, found.st_uid, found.st_gid]
    return same if stat.S_ISDIR(found.st_mode) else [*same, found.st_size, found.st_ctime_ns]


class Look:
    """What a module is about to look at."""

    def __init__(self, name: str | None, paths: Iterable[str], patterns: Iterable[str] = ()) -> None:
        """
        See how paths are before they are looked at, and which paths match patterns.

        The name stands for all that the module was asked for; with None nothing is remembered.
        """
        self.name = name
        self.seen: dict[str, Any] = {}
        if name:
            matches = {pattern: sorted(glob.glob(pattern)) for pattern in patterns}
            every = {*paths, *(path for found in matches.values() for path in found)}
            self.seen = {"paths": {path: stamp(path) for path in every}, "patterns": matches}

    def remember(self, answer: dict[str, Any]) -> None:
        """Write down that this is the answer for as long as all stays as it was before the look."""
        if not self.name:
            return
        os.makedirs(STORE, mode=0o700, exist_ok=True)
        for name in set(os.listdir(STORE)) - set(answers()):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(STORE, name))
        with open(os.path.join(STORE, self.name), "w", encoding="utf-8") as file:
            json.dump({**self.seen, "answer": answer}, file)


def answers() -> dict[str, dict[str, Any]]:
    """Return the answers that still hold, by the names that they were remembered by."""
    found = {}
    for name in os.listdir(STORE) if os.path.isdir(STORE) else []:
        try:
            with open(os.path.join(STORE, name), encoding="utf-8") as file:
                noted = json.load(file)
            if all(stamp(path) == before for path, before in noted["paths"].items()) and all(
                sorted(glob.glob(pattern)) == before for pattern, before in noted["patterns"].items()
            ):
                found[name] = noted["answer"]
        except (OSError, ValueError, LookupError):
            continue  # A file that is half written, or that was removed meanwhile, says nothing.
    return found
