"""Which local groups are the system's: those that neither an administrator nor CampusHub made for people."""

from __future__ import annotations

import re
from pathlib import Path

# The distributions' default; and those whose numbers stand for nobody.
FIRST_GID = 1000
NOBODY = (65534, 65535)


def system_groups(etc: Path = Path("/etc")) -> set[str]:
    """Return the groups with numbers that `groupadd` gives to those of the system only."""
    try:
        definitions = (etc / "login.defs").read_text(errors="surrogateescape")
    except OSError:
        definitions = ""
    given = re.search(r"^GID_MIN\s+(\d+)", definitions, re.MULTILINE)
    first = int(given[1]) if given else FIRST_GID
    found = set()
    for line in (etc / "group").read_text(errors="surrogateescape").splitlines():
        name, _, number = line.split(":")[:3] if line.count(":") >= 3 else ("", "", "")
        if number.isdigit() and (int(number) < first or int(number) in NOBODY):
            found.add(name)
    return found
