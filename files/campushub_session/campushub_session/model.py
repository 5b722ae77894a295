"""What pages are told, as the schemas of events describe it."""

from __future__ import annotations

from typing import TypedDict


class Amount(TypedDict):
    """How much is used of a limit; None is no limit."""

    used: float
    limit: float | None


class Usage(TypedDict):
    """What a user uses of their limits; None is unknown."""

    memory: Amount | None
    cpu: Amount | None
    home: Amount | None
    home_files: Amount | None
    seconds_left: float | None


Announcement = TypedDict(
    "Announcement", {"id": str, "texts": dict[str, str], "from": "float | None", "until": "float | None"}
)


class End(TypedDict):
    """The end of the server: soon, now (no seconds left), or none (no reason)."""

    reason: str | None
    message: str
    seconds_left: float
    stays: bool


class Program(TypedDict):
    """Something that a user runs. A DELETE request to its address, below the server's, shuts it down."""

    kind: str
    name: str
    memory: int
    cpu: float
    address: str
