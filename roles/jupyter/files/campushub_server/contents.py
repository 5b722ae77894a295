# Managed by CampusHub
"""
Files of users in JupyterLab, also those with names that are no text, and on a full disk.

The name of a file is bytes, and need not be UTF-8: old archives and other systems bring such names. Python keeps a byte
that is no text as a lone surrogate, which no browser can put into an address. Here it is shown as a letter of the
private use area, and an address with that letter leads back to the file.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import Any

from jupyter_server.services.contents.filecheckpoints import AsyncFileCheckpoints
from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager
from tornado.web import HTTPError
from traitlets import default

# Bytes from 0x80 as Python has them, and how they are shown.
SHOWN = {0xDC00 + byte: 0xF700 + byte for byte in range(0x80, 0x100)}
RAW = {shown: raw for raw, shown in SHOWN.items()}


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
    """Jupyter's own checkpoints, which lie beside their files."""


class CampusContentsManager(Names, AsyncLargeFileManager):  # type: ignore[misc]
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

    async def save(self, model: dict[str, Any], path: str = "") -> dict[str, Any]:
        """Save a file. Of a new one that could not be saved nothing is left, and a full disk is called so."""
        place, chunk = self._get_os_path(path), model.get("chunk")
        is_new = not os.path.lexists(place) or (chunk != 1 and place in self._uploads)  # noqa: ASYNC240 (as Jupyter does)
        self._uploads.discard(place)
        try:
            saved: dict[str, Any] = await super().save(model, path)  # type: ignore[no-untyped-call]
            if is_new and chunk not in (None, -1):
                self._uploads.add(place)
        except HTTPError as error:
            if is_new:
                with contextlib.suppress(OSError):
                    os.unlink(place)
            if is_full(error):
                raise HTTPError(507, f"Not saved: the disk, or your quota of it, is full. ({path})") from error
            raise
        return saved


def is_full(error: BaseException | None) -> bool:
    """Return whether an error comes of a full disk. What is done after it may fail, too, and hides it."""
    while error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False
