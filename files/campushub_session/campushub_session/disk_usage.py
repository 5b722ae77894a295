"""
What takes the space in a home directory, and its removal.

A program of its own, with the standard library only: storage that hangs, or millions of files, hold up nothing else.
The request is JSON on standard input, `{"home", "action", "path"}`, and the answer JSON on standard output.

Everything is reached from the home, one directory after the other, by descriptors and without following links, so that
a directory which somebody replaces by a link in the middle leads nowhere else. Other file systems are left alone.
"""

from __future__ import annotations

import contextlib
import errno
import heapq
import json
import os
import stat
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

# A search ends after so many seconds or files, with what it has found by then.
SECONDS, ENTRIES = 20.0, 1_000_000
# Deeper directories are not looked into: each takes a descriptor on the way.
DEPTH = 200
# How many files and folders are named, and from which size on.
NAMED, LEAST = 20, 1 << 20
# A folder in which one file or folder has this part of the space is not named in addition to that.
DOMINANT = 0.8
# Checkpoints that were not renewed for so many seconds are old.
OLD = 30 * 86400
CHECKPOINTS = ".ipynb_checkpoints"
# As other programs with a trash have it: https://specifications.freedesktop.org/trash-spec/
TRASH = (".local", "share", "Trash")
# What programs fetch or make again; what is in .cache is the same.
CACHES = {
    ".cache/pip": "pip",
    ".cache/uv": "uv",
    ".npm": "npm",
    ".cache/yarn": "yarn",
    ".conda/pkgs": "conda",
    "miniconda3/pkgs": "conda",
    "miniforge3/pkgs": "conda",
    "mambaforge/pkgs": "conda",
    "anaconda3/pkgs": "conda",
    ".mamba/pkgs": "mamba",
    "micromamba/pkgs": "mamba",
}
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FULL = (errno.ENOSPC, errno.EDQUOT)


class RefusedError(Exception):
    """What cannot be done; the reason is a word that the server knows."""


def _size(status: os.stat_result) -> int:
    """Return what a file takes on the disk."""
    return status.st_blocks * 512


def cache_name(path: str) -> str | None:
    """Return what a directory is a cache of, or None."""
    above, _, name = path.rpartition("/")
    return CACHES.get(path) or (name if above == ".cache" else None)


@contextlib.contextmanager
def opened(directory: int, *names: str, create: bool = False) -> Iterator[int]:
    """Open a directory below another one."""
    current = os.open(".", _DIRECTORY, dir_fd=directory)
    try:
        for name in names:
            if create:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, 0o700, dir_fd=current)
            below = os.open(name, _DIRECTORY, dir_fd=current)
            os.close(current)
            current = below
        yield current
    finally:
        os.close(current)


def parts_of(path: str) -> list[str]:
    """Return the names on the way to something in the home. Raises RefusedError."""
    names = path.split("/")
    if "\0" in path or not all(name and name not in (".", "..") for name in names):
        raise RefusedError("invalid")
    return names


class Walk:
    """A walk over the home, which counts, or removes old checkpoints."""

    def __init__(self, home: int, remove_checkpoints: bool = False) -> None:
        self._home, self._remove = home, remove_checkpoints
        self._device = os.fstat(home).st_dev
        self._end = time.monotonic() + SECONDS
        self._old = time.time() - OLD
        self._links: set[int] = set()
        self._largest: dict[str, list[tuple[int, str]]] = {"file": [], "folder": []}
        self.caches: dict[tuple[str, str], int] = {}
        self.trash = self.checkpoints = self.entries = 0
        self.complete = True

    def run(self) -> None:
        """Look at everything."""
        with opened(self._home) as directory:
            self._directory(directory, "", 0, listed=True)

    def items(self) -> list[dict[str, Any]]:
        """Return what was found, the largest first."""
        found = [
            {"kind": kind, "path": path, "name": path, "size": size}
            for kind, heap in self._largest.items()
            for size, path in heap
        ]
        found += [
            {"kind": "cache", "path": path, "name": name, "size": size} for (path, name), size in self.caches.items()
        ]
        for kind, size in (("trash", self.trash), ("checkpoints", self.checkpoints)):
            found.append({"kind": kind, "path": "", "name": "", "size": size})
        return sorted((item for item in found if item["size"]), key=lambda item: -int(str(item["size"])))

    def _name(self, kind: str, path: str, size: int) -> None:
        """Keep one of the largest."""
        if size >= LEAST:
            heap = self._largest[kind]
            heapq.heappush(heap, (size, path))
            if len(heap) > NAMED:
                heapq.heappop(heap)

    def _directory(self, directory: int, path: str, depth: int, listed: bool) -> int:
        """Return what a directory takes; what is in caches, trash and checkpoints is not listed by itself."""
        total = largest = 0
        in_checkpoints = path.rpartition("/")[2] == CHECKPOINTS
        with os.scandir(directory) as entries:
            for entry in entries:
                self.entries += 1
                if self.entries > ENTRIES or time.monotonic() > self._end:
                    self.complete = False
                    break
                try:
                    status = entry.stat(follow_symlinks=False)
                except OSError:
                    continue
                below = f"{path}/{entry.name}" if path else entry.name
                if stat.S_ISDIR(status.st_mode):
                    size = self._below(directory, below, status, depth, listed)
                else:
                    size = self._file(status, below, listed)
                    if in_checkpoints and status.st_mtime < self._old:
                        self.checkpoints += size
                        if self._remove and stat.S_ISREG(status.st_mode):
                            with contextlib.suppress(OSError):
                                os.unlink(entry.name, dir_fd=directory)
                total, largest = total + size, max(largest, size)
        if listed and path not in ("", ".cache") and largest < total * DOMINANT:
            self._name("folder", path, total)
        return total

    def _file(self, status: os.stat_result, path: str, listed: bool) -> int:
        size = _size(status)
        if status.st_nlink > 1:
            if status.st_ino in self._links:
                return 0
            self._links.add(status.st_ino)
        if listed:
            self._name("file", path, size)
        return size

    def _below(self, directory: int, path: str, status: os.stat_result, depth: int, listed: bool) -> int:
        if status.st_dev != self._device:
            return 0
        name = path.rpartition("/")[2]
        cache, is_trash = cache_name(path) if listed else None, path == "/".join(TRASH)
        if depth >= DEPTH:
            self.complete = False
            return 0
        try:
            with opened(directory, name) as below:
                # What was mounted, or put in its place, since.
                if os.fstat(below).st_dev != self._device:
                    return 0
                listed = listed and not cache and not is_trash and name != CHECKPOINTS
                size = _size(status) + self._directory(below, path, depth + 1, listed)
        except OSError:
            return 0
        if cache:
            self.caches[path, cache] = size
        elif is_trash:
            self.trash = size
        return size


def remove(directory: int, name: str, device: int) -> tuple[int, int]:
    """Remove a file or a tree; return what it took, and how much could not be removed. Raises OSError."""
    status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    if not stat.S_ISDIR(status.st_mode):
        os.unlink(name, dir_fd=directory)
        return _size(status) if status.st_nlink == 1 else 0, 0
    freed = left = 0
    with opened(directory, name) as below:
        if os.fstat(below).st_dev != device:
            raise RefusedError("mounted")
        with contextlib.suppress(OSError):
            # Caches of packages have directories that nobody may write.
            os.fchmod(below, 0o700)
        for inside in os.listdir(below):  # noqa: PTH208 (by descriptor)
            try:
                more, others = remove(below, inside, device)
            except (OSError, RefusedError):
                more, others = 0, 1
            freed, left = freed + more, left + others
    if not left:
        os.rmdir(name, dir_fd=directory)
        freed += _size(status)
    return freed, left


def delete(home: int, path: str) -> dict[str, Any]:
    """Remove something for good."""
    *above, name = parts_of(path)
    with opened(home, *above) as directory:
        freed, left = remove(directory, name, os.fstat(home).st_dev)
    return {"freed": freed, "left": left}


def trash(home: int, path: str, root: str) -> dict[str, Any]:
    """Move something into the trash; return the name that it has there."""
    *above, name = parts_of(path)
    if (*above, name) == TRASH[: len(above) + 1] or tuple(above[: len(TRASH)]) == TRASH:
        raise RefusedError("no_trash")
    with (
        opened(home, *above) as directory,
        opened(home, *TRASH, "files", create=True) as files,
        opened(home, *TRASH, "info", create=True) as notes,
    ):
        os.stat(name, dir_fd=directory, follow_symlinks=False)
        text = "[Trash Info]\nPath={}\nDeletionDate={}\n".format(
            urllib.parse.quote(os.fsencode(f"{root}/{path}")), time.strftime("%Y-%m-%dT%H:%M:%S")
        )
        kept = _note(notes, files, name, text)
        try:
            os.rename(name, kept, src_dir_fd=directory, dst_dir_fd=files)
        except OSError:
            os.unlink(f"{kept}.trashinfo", dir_fd=notes)
            raise
    return {"name": kept}


def _note(notes: int, files: int, name: str, text: str) -> str:
    """Note where something was, under a name that is free."""
    for number in range(1, 10_000):
        # As long as names may be, with what is added here.
        kept = os.fsdecode(os.fsencode(name)[:200]) + (f".{number}" if number > 1 else "")
        try:
            note = os.open(f"{kept}.trashinfo", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=notes)
        except FileExistsError:
            continue
        try:
            with os.fdopen(note, "w") as file:
                file.write(text)
                file.flush()
                os.fsync(note)
            os.stat(kept, dir_fd=files, follow_symlinks=False)
        except FileNotFoundError:
            return kept
        except OSError:
            os.unlink(f"{kept}.trashinfo", dir_fd=notes)
            raise
        # Somebody's file without a note.
        os.unlink(f"{kept}.trashinfo", dir_fd=notes)
    raise RefusedError("no_trash")


def restore(home: int, name: str, root: str) -> dict[str, Any]:
    """Move something out of the trash, back to where it was."""
    (name,) = parts_of(name)
    with opened(home, *TRASH, "files") as files, opened(home, *TRASH, "info") as notes:
        note = f"{name}.trashinfo"
        with os.fdopen(os.open(note, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=notes), "rb") as file:
            lines = file.read(100_000).splitlines()
        places = [line[5:] for line in lines if line.startswith(b"Path=")]
        place = os.fsdecode(urllib.parse.unquote_to_bytes(places[0])) if places else ""
        if not place.startswith(f"{root}/"):
            raise RefusedError("invalid")
        *above, target = parts_of(place[len(root) + 1 :])
        with opened(home, *above) as directory:
            try:
                os.stat(target, dir_fd=directory, follow_symlinks=False)
            except FileNotFoundError:
                os.rename(name, target, src_dir_fd=files, dst_dir_fd=directory)
            else:
                raise RefusedError("exists")
        os.unlink(note, dir_fd=notes)
    return {}


def empty(home: int) -> dict[str, Any]:
    """Remove for good what is in the trash."""
    freed = left = 0
    with opened(home, *TRASH) as directory:
        for part in ("files", "info", "expunged"):
            with contextlib.suppress(FileNotFoundError), opened(directory, part) as below:
                for name in os.listdir(below):  # noqa: PTH208
                    more, others = remove(below, name, os.fstat(home).st_dev)
                    freed, left = freed + more, left + others
    return {"freed": freed, "left": left}


def scan(home: int) -> dict[str, Any]:
    """Return what takes the space."""
    walk = Walk(home)
    walk.run()
    return {"complete": walk.complete, "items": walk.items(), "home": amounts(home)}


def amounts(home: int | os.PathLike[str]) -> dict[str, Any]:
    """Return what is used of the file system, in bytes and in files."""
    status = os.statvfs(home)
    used = (status.f_blocks - status.f_bfree) * status.f_frsize
    files = status.f_files - status.f_ffree
    return {
        # Without what is kept for root.
        "bytes": {"used": used, "limit": used + status.f_bavail * status.f_frsize},
        # Some file systems make as many as they need.
        "files": {"used": files, "limit": files + status.f_favail} if status.f_files else None,
    }


def clear_checkpoints(home: int) -> dict[str, Any]:
    """Remove old checkpoints."""
    walk = Walk(home, remove_checkpoints=True)
    walk.run()
    return {"freed": walk.checkpoints, "left": 0}


def act(root: str, action: str, path: str) -> dict[str, Any]:
    """Do what is asked. A reason why it cannot be done is a word."""
    actions: dict[str, Callable[[int], dict[str, Any]]] = {
        "scan": scan,
        "delete": lambda home: delete(home, path),
        "trash": lambda home: trash(home, path, root),
        "restore": lambda home: restore(home, path, root),
        "empty": empty,
        "checkpoints": clear_checkpoints,
    }
    try:
        home = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return actions[action](home)
        finally:
            os.close(home)
    except RefusedError as error:
        return {"error": str(error)}
    except OSError as error:
        words = dict.fromkeys(_FULL, "no_room") | {errno.ENOENT: "gone", errno.EXDEV: "no_trash"}
        # A link where a directory was, or a file.
        words |= {errno.ELOOP: "gone", errno.ENOTDIR: "gone"}
        return {"error": words.get(error.errno or 0, "denied")}


if __name__ == "__main__":
    os.nice(10)
    # A tree may be deeper than programs are; its end is then that of the descriptors, which is an error like others.
    sys.setrecursionlimit(20_000)
    request = json.load(sys.stdin)
    json.dump(act(request["home"], request["action"], request["path"]), sys.stdout)
