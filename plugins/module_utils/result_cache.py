"""
Results of modules, kept on a host for as long as nothing that they depend on has changed.

To run a module on a host takes many times as long as to see that files were not touched. So a module that found nothing
to change stores its result with the fingerprints of the paths that it read. The check that every run begins with (see
check_host) returns the results that are still valid, and the action plugins of these modules return them without
running the module. Any change to one of the paths makes its result invalid, also a restore from a backup: the time of
a file's last change cannot be set.

The cache is the directory /var/lib/campushub/results, which can be removed at any time. base_result_cache=false turns
it off.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import stat
import time
from collections.abc import Iterable
from typing import Any

DIRECTORY = "/var/lib/campushub/results"


def fingerprint(path: str) -> list[int] | None:
    """
    Return what is different after each change of a file or link, and None where nothing is.

    Of a directory that is owner and permissions; it changes with each file in it, which belong to others.
    """
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    same = [found.st_ino, found.st_mode, found.st_uid, found.st_gid]
    return same if stat.S_ISDIR(found.st_mode) else [*same, found.st_size, found.st_ctime_ns]


class CacheEntry:
    """The result of a module, and the paths that it depends on."""

    def __init__(self, key: str | None, paths: Iterable[str], patterns: Iterable[str] = ()) -> None:
        """
        Take the fingerprints of paths before the module reads them, and of the paths that match patterns.

        The key stands for the module and all its arguments; with None nothing is stored.
        """
        self.key = key
        self.seen: dict[str, Any] = {}
        if key:
            matches = {pattern: sorted(glob.glob(pattern)) for pattern in patterns}
            every = {*paths, *(path for found in matches.values() for path in found)}
            self.seen = {"paths": {path: fingerprint(path) for path in every}, "patterns": matches}

    def store(self, result: dict[str, Any], until: float | None = None) -> None:
        """Store the result for as long as all stays as it was before the module read it, and not after a time."""
        if not self.key:
            return
        # A full disk makes the next run slower, and this one no failure.
        with contextlib.suppress(OSError):
            os.makedirs(DIRECTORY, mode=0o700, exist_ok=True)
            for key in set(os.listdir(DIRECTORY)) - set(valid_results()):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(DIRECTORY, key))
            with open(os.path.join(DIRECTORY, self.key), "w", encoding="utf-8") as file:
                json.dump({**self.seen, "until": until, "result": result}, file)


def valid_results() -> dict[str, dict[str, Any]]:
    """Return the results that are still valid, by their keys."""
    found = {}
    for key in os.listdir(DIRECTORY) if os.path.isdir(DIRECTORY) else []:
        try:
            with open(os.path.join(DIRECTORY, key), encoding="utf-8") as file:
                entry = json.load(file)
            if (
                (entry["until"] is None or time.time() < entry["until"])
                and all(fingerprint(path) == before for path, before in entry["paths"].items())
                and all(sorted(glob.glob(pattern)) == before for pattern, before in entry["patterns"].items())
            ):
                found[key] = entry["result"]
        except (OSError, ValueError, LookupError):
            continue  # A file that is half written or was removed meanwhile says nothing.
    return found
