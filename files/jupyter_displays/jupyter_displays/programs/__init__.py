"""Programs of which a user can have one at a time: in each display there is one.

`list` names them, each with the name of its settings, the option that takes a directory for them, and where they are by
default, below ~/.config, if something is to be cleared up there. `start` starts one.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_LIST = Path(__file__).with_name("list")
_START = Path(__file__).with_name("start")
_DATA = "/usr/local/share:/usr/share"
_EXEC = re.compile(r"^(Exec=\"?)/[^\s\"]*/([^/\s\"]+)(?=[\s\"]|$)", re.MULTILINE)


def provide(directory: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Have the programs that are installed started by `start` in a display, and return the variables that do it.

    Links are what a shell finds. Entries of menus that name a program by its path get a copy that names the link.
    """
    path = environment.get("PATH", os.defpath)
    names = [line.split()[0] for line in _LIST.read_text(encoding="ascii").splitlines()]
    installed = [name for name in names if shutil.which(name, path=path)]
    if not installed or not os.access(_START, os.X_OK):
        return {}
    links = directory / "bin"
    links.mkdir(mode=0o700)
    for name in installed:
        (links / name).symlink_to(_START)
    data = environment.get("XDG_DATA_DIRS") or _DATA
    _copy_entries(directory / "share" / "applications", data.split(":"), links)
    return {"PATH": f"{links}:{path}", "XDG_DATA_DIRS": f"{directory / 'share'}:{data}"}


def _copy_entries(target: Path, data: list[str], links: Path) -> None:
    """Copy those entries of menus that start one of the programs by its path."""
    target.mkdir(mode=0o700, parents=True)

    def linked(found: re.Match[str]) -> str:
        link = links / found[2]
        return f"{found[1]}{link}" if link.is_symlink() else found[0]

    seen = set()
    for path in (path for base in data for path in Path(base, "applications").glob("*.desktop")):
        if path.name not in seen:
            seen.add(path.name)
            entry = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
            if (changed := _EXEC.sub(linked, entry)) != entry:
                (target / path.name).write_text(changed, encoding="utf-8")
