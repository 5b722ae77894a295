# Managed by CampusHub
"""
Files of users in JupyterLab, also those with names that are no text, and on a full disk.

A save writes a new file and puts it in the place of the old one, which is whole until then. Jupyter writes over the old
one, and with small files notices a full disk only when the copy that it has made is not put back any more.

The name of a file is bytes, and need not be UTF-8: old archives and other systems bring such names. Python keeps a byte
that is no text as a lone surrogate, which no browser can put into an address. Here it is shown as a letter of the
private use area, and an address with that letter leads back to the file.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import errno
import hashlib
import os
import secrets
import shutil
import sqlite3
import stat
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

from jupyter_server.services.contents.filecheckpoints import AsyncFileCheckpoints
from jupyter_server.services.contents.fileio import AsyncFileManagerMixin, FileManagerMixin
from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager
from tornado.web import HTTPError
from traitlets import default

# Seconds after which a save that has not ended was cut off.
LEFTOVER_SECONDS = 3600
# Bytes from 0x80 as Python has them, and how they are shown.
SHOWN = {0xDC00 + byte: 0xF700 + byte for byte in range(0x80, 0x100)}
RAW = {shown: raw for raw, shown in SHOWN.items()}


def is_replaceable(path: str) -> bool:
    """Return whether another file can take the place of a file, or of none, without a change of more than content."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return True
    return (
        stat.S_ISREG(found.st_mode)
        and found.st_nlink == 1
        and found.st_uid == os.geteuid()
        and found.st_gid in (os.getegid(), *os.getgroups())
        and os.access(path, os.W_OK)
        and os.access(os.path.dirname(path), os.W_OK)
    )


def copy_attributes(source: str, target: str) -> None:
    """Give a file the group, mode and extended attributes, such as access lists, of another, where that can be."""
    found = os.stat(source)
    for copy in (
        partial(os.chown, target, -1, found.st_gid),
        partial(shutil.copystat, source, target),
        # An attribute that cannot be copied ends the copy of the rest; and the times are those of the old content.
        partial(os.chmod, target, stat.S_IMODE(found.st_mode)),
        partial(os.utime, target),
    ):
        try:
            copy()
        except OSError as error:
            if is_full(error):
                raise


def remove_leftover(path: str) -> None:
    """Remove what a save has left that was cut off, such as by the end of its server; one under way is not so old."""
    with contextlib.suppress(OSError):
        found = os.lstat(path)
        if found.st_uid == os.geteuid() and time.time() - found.st_ctime > LEFTOVER_SECONDS:
            os.unlink(path)


def open_new(path: str) -> tuple[str, int]:
    """
    Open a new file beside another, and return its path as well.

    Its name is that of what an earlier save of that file has left, which is found without a look at the directory.
    Another page, or another server of the user, may save the same file at the moment: then it has a name of its own.
    """
    directory, name = os.path.split(path)
    new = os.path.join(directory, f".~{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}")
    # In a directory of a group others may put a link there.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        return new, os.open(new, flags, 0o666)
    except FileExistsError:
        remove_leftover(new)
    new = os.path.join(directory, f".~{secrets.token_hex(8)}")
    return new, os.open(new, flags, 0o666)


@contextlib.contextmanager
def replacement(path: str) -> Iterator[int]:
    """Open a new file, which takes the place of another at the end. Of one that fails nothing stays; it is hidden."""
    new, handle = open_new(path)
    try:
        try:
            if os.path.exists(path):
                copy_attributes(path, f"/proc/self/fd/{handle}")
            yield handle
            os.fsync(handle)
        finally:
            os.close(handle)
        os.replace(new, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(new)
        raise


class Names:
    """Finds files of all names; for Jupyter's classes that know where files are."""

    root_dir: Any

    def _get_os_path(self, path: str) -> str:
        """Return the path of a file, or of one that is to be made."""
        known = ""
        for part in path.split("/"):
            raw = part.translate(RAW)
            places = [os.path.join(self.root_dir, known.lstrip("/"), name) for name in (part, raw)]
            # A name can have such a letter itself.
            known += "/" + (
                raw if raw != part and not os.path.lexists(places[0]) and os.path.lexists(places[1]) else part
            )
        return str(super()._get_os_path(known))  # type: ignore[misc]


class CampusCheckpoints(Names, AsyncFileCheckpoints):
    """Jupyter's own checkpoints, which lie beside their files; the old one stays until the new one is there."""

    async def list_checkpoints(self, path: str) -> list[dict[str, Any]]:
        """List the checkpoints of a file. Jupyter makes a directory for them first, also before it deletes a file."""
        try:
            found: list[dict[str, Any]] = await super().list_checkpoints(path)  # type: ignore[no-untyped-call]
        except OSError as error:
            if not is_full(error):
                raise
            return []
        return found

    async def _copy(self, src: str, dest: str) -> None:
        """Copy a file to its checkpoint, or back."""
        dest = os.path.realpath(dest)  # noqa: ASYNC240 (as Jupyter does)
        if is_replaceable(dest):
            await asyncio.to_thread(self._replace, src, dest)
        else:
            await super()._copy(src, dest)  # type: ignore[no-untyped-call]

    def _replace(self, source: str, target: str) -> None:
        with (
            self.perm_to_403(target),
            open(source, "rb") as old,
            replacement(target) as handle,
            open(handle, "wb", closefd=False) as new,
        ):
            shutil.copyfileobj(old, new)
            new.flush()
            # With its time, as Jupyter does: a checkpoint is as old as what it has.
            with contextlib.suppress(OSError):
                shutil.copystat(source, f"/proc/self/fd/{handle}")


class WritesInThread(AsyncFileManagerMixin):
    """
    Writes files in a thread, with all that is done before and after: on remote storage an fsync takes seconds.

    Jupyter's classes look for these methods behind themselves.
    """

    async def _save_notebook(self, *args: Any, **options: Any) -> None:
        await asyncio.to_thread(FileManagerMixin._save_notebook, self, *args, **options)  # noqa: SLF001

    async def _save_file(self, *args: Any) -> None:
        await asyncio.to_thread(FileManagerMixin._save_file, self, *args)  # noqa: SLF001


class CampusContentsManager(Names, AsyncLargeFileManager, WritesInThread):  # type: ignore[misc]
    """Jupyter's own manager of files, for all names."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take Jupyter's settings."""
        super().__init__(*args, **kwargs)
        # New files of which a part has come.
        self._uploads: set[str] = set()

    @default("checkpoints_class")
    def _checkpoints_class(self) -> type[CampusCheckpoints]:
        return CampusCheckpoints

    async def get(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return a file, or a directory whose list comes through here as well."""
        model: dict[str, Any] = await super().get(path.translate(SHOWN), *args, **kwargs)  # type: ignore[no-untyped-call]
        return model

    @contextlib.contextmanager
    def atomic_writing(self, os_path: str, text: bool = True, encoding: str = "utf-8", **options: Any) -> Iterator[Any]:
        """Open a file for new content, which takes the place of the old one at the end."""
        path = os.path.realpath(os_path)
        if not self.use_atomic_writing or not is_replaceable(path):
            with super().atomic_writing(os_path, text=text, encoding=encoding, **options) as file:
                yield file
                # Here Jupyter puts the old content back if this fails.
                file.flush()
                os.fsync(file.fileno())
            return
        mode, encoded = ("w", {"encoding": encoding, "newline": "\n"}) if text else ("wb", {})
        with (
            self.perm_to_403(os_path),
            replacement(path) as handle,
            open(handle, mode, closefd=False, **encoded) as file,  # type: ignore[call-overload]
        ):
            yield file

    async def save(self, model: dict[str, Any], path: str = "") -> dict[str, Any]:
        """Save a file. Of a new one whose upload fails nothing is left, and a full disk is called so."""
        place, chunk = self._get_os_path(path), model.get("chunk")
        begins = chunk == 1 and not os.path.lexists(place)  # noqa: ASYNC240 (as Jupyter does)
        goes_on = chunk not in (None, 1) and place in self._uploads
        self._uploads.discard(place)
        try:
            saved: dict[str, Any] = await super().save(model, path)  # type: ignore[no-untyped-call]
            if begins or (goes_on and chunk != -1):
                self._uploads.add(place)
        except HTTPError as error:
            # A piece that is replaced leaves nothing by itself, and another page may have saved a file of this name.
            if goes_on:
                with contextlib.suppress(OSError):
                    os.unlink(place)
            if is_full(error):
                raise HTTPError(507, f"Not saved: the disk, or your quota of it, is full. ({path})") from error
            raise
        return saved

    async def create_checkpoint(self, path: str) -> dict[str, Any]:
        """Make a checkpoint of a file, or do without: JupyterLab opens no file for which there is none."""
        try:
            made: dict[str, Any] = await super().create_checkpoint(path)  # type: ignore[no-untyped-call]
        except OSError as error:
            if not is_full(error):
                raise
            self.log.warning("There is no room for a checkpoint of %s", path)
            return {"id": "checkpoint", "last_modified": dt.datetime.now(dt.timezone.utc)}
        return made

    def check_and_sign(self, nb: Any, path: str = "", **options: Any) -> None:
        """Note that a notebook is trusted, or do without: it is asked about once more."""
        try:
            super().check_and_sign(nb, path, **options)  # type: ignore[no-untyped-call]
        except sqlite3.OperationalError as error:
            self.log.warning("It is not noted that %s is trusted: %s", path, error)


def is_full(error: BaseException | None) -> bool:
    """Return whether an error comes of a full disk. What is done after it may fail, too, and hides it."""
    while error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False
