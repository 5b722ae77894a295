"""Which local groups are the system's: those that neither an administrator nor CampusHub made for people."""

from __future__ import annotations

import re
from collections.abc import Iterator
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
    return {
        name
        for name, _, number, *_ in table(etc / "group", 4)
        if number.isdigit() and (int(number) < first or int(number) in NOBODY)
    }


def table(path: str | Path, columns: int) -> Iterator[list[str]]:
    """Yield the rows of a file of accounts."""
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            row = line.rstrip("\n").split(":")
            if len(row) >= columns and not line.startswith(("#", "+", "-")):
                yield row
