"""
Run the module `python_environment`, or return its cached result; see cached_module.py.

Packages of our own are built here, from their sources in the checkout, and handed to the module as wheels.
"""

from __future__ import annotations

import base64
import fcntl
import getpass
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.loader import action_loader

CachedModule: Any = action_loader.get("cached_module", class_only=True)

# What a wheel has nothing of.
APART = {"dist", "node_modules", "tests", "__pycache__"}
BUILD = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]


def digest_of(project: Path) -> str:
    """Return a hash of the sources of a project."""
    digest = hashlib.sha256()
    for folder, folders, names in os.walk(project):
        # Those with a dot are tools' own.
        folders[:] = sorted(name for name in folders if name not in APART and not name.startswith("."))
        for path in (Path(folder) / name for name in sorted(names)):
            digest.update(f"{path.relative_to(project)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()[:16]


def built(project: Path) -> Path:
    """Return the wheel of a project, which is built if its sources have changed. Raises AnsibleActionFail."""
    place = project / "dist" / digest_of(project)
    try:
        # What is there can be used by those who may not write here, too.
        if not place.is_dir():
            build(project, place)
        return next(place.glob("*.whl"))
    except PermissionError as error:
        raise AnsibleActionFail(
            f"{getpass.getuser()} cannot make the package of {project} in it ({error}). Run this once as who owns this"
            " checkout, or clone the project for yourself."
        ) from error


def build(project: Path, place: Path) -> None:
    """Build the wheel of a project in its place, and remove those of former sources. Raises AnsibleActionFail."""
    dist = place.parent
    dist.mkdir(exist_ok=True)
    # Several hosts may need it at once.
    with (dist / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if place.is_dir():
            return
        for entry in filter(Path.is_dir, dist.iterdir()):
            shutil.rmtree(entry)
        # The controller may have other users, who could put something into a directory that all may write to.
        with tempfile.TemporaryDirectory(dir=dist) as work:
            # A directory of its own below, because that one must be there at the end.
            command = [*BUILD, "--directory", f"{work}/new"]
            environment = {**os.environ, "TMPDIR": work}
            done = subprocess.run(command, check=False, cwd=project, env=environment, capture_output=True, text=True)
            if done.returncode:
                raise AnsibleActionFail(f"{project} cannot be built into a package:\n{done.stderr or done.stdout}")
            Path(work, "new").rename(place)


class ActionModule(CachedModule):
    """Also builds packages of our own."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the result."""
        arguments = dict(self._task.args)
        projects = arguments.pop("projects", None)
        if projects:
            wheels = [built(Path(project).resolve()) for project in projects]
            encoded = {wheel.name: base64.b64encode(wheel.read_bytes()).decode() for wheel in wheels}
            self._task.args = {**arguments, "wheels": encoded}
        # Where there is none at all the host need not be asked whether it is the right one.
        known = (task_vars or {}).get("ansible_facts", {}).get("campushub", {}).get("environments")
        wanted = self._task.args.get("state", "present") == "present"
        if wanted and self._task.check_mode and known is not None and self._task.args["path"] not in known:
            return {"changed": True}
        result: dict[str, Any] = super().run(tmp, task_vars)
        return result
