# Managed by CampusHub
"""
What a server and its kernels do without when the home directory is full, so that they start and work.

Jupyter and IPython make files in the home when a server or kernel starts. Without room for them a start fails, or
leaves an empty file, which counts as the real one from then on. JupyterLab's settings and layout become empty files.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import tempfile
from pathlib import Path
from typing import Any

from jupyter_core.paths import jupyter_data_dir, jupyter_runtime_dir

# What the databases and keys need that a start makes.
ROOM = 256 * 1024
# What IPython makes in a profile, and fails without.
PROFILE = ("security", "log", "pid", "startup")


def has_room(directory: Path, size: int = ROOM) -> bool:
    """Return whether a new file of so many bytes can be made in a directory, which is made as well."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory) as file:
            os.posix_fallocate(file.fileno(), 0, size)
    except OSError:
        return False
    return True


def do_without(c: Any) -> None:
    """Put in another place, or leave out, what the home has no room for."""
    ipython = Path(os.environ.get("IPYTHONDIR") or Path.home() / ".ipython")
    try:
        for name in PROFILE:
            (ipython / "profile_default" / name).mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        # Kernels get it from the server.
        os.environ["IPYTHONDIR"] = f"{jupyter_runtime_dir()}/ipython"
    keys = Path(jupyter_data_dir())
    with contextlib.suppress(OSError):
        if (keys / "notebook_secret").stat().st_size == 0:
            # Left by a start without room. Everybody knows such a key.
            (keys / "notebook_secret").unlink()
    if not has_room(keys):
        # Notebooks that were trusted are asked about again until there is room.
        c.NotebookNotary.db_file = ":memory:"
        c.NotebookNotary.secret = os.urandom(1024)


@functools.cache
def keep_settings() -> None:
    """Leave JupyterLab's settings and layout as they are where there is no room for new ones."""
    # Once: each extension of the server reads the file that calls this.
    try:
        from jupyterlab_server import settings_handler, workspaces_handler
    except ImportError:
        return
    save_settings = settings_handler.save_settings  # type: ignore[attr-defined]
    save_workspace = workspaces_handler.WorkspacesManager.save

    def save_settings_whole(schemas: str, directory: str, name: str, text: str, *others: Any, **options: Any) -> None:
        require_room(Path(directory), len(text))
        save_settings(schemas, directory, name, text, *others, **options)

    def save_workspace_whole(self: Any, name: str, text: str) -> Path:
        require_room(self.workspaces_dir, len(text))
        return save_workspace(self, name, text)

    settings_handler.save_settings = save_settings_whole  # type: ignore[attr-defined,assignment]
    workspaces_handler.WorkspacesManager.save = save_workspace_whole  # type: ignore[method-assign,assignment]


def require_room(directory: Path, length: int) -> None:
    """Raise OSError if there is no room for a text: it is written over the old one, which would be lost."""
    if not has_room(directory, 4 * length + ROOM):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
