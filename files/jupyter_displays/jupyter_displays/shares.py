"""Links by which somebody else looks at a display, or uses it, until its owner takes them back."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Share:
    """A link. Who has the token has what the mode says, and needs nothing else."""

    id: str
    display: str
    mode: str
    token: str
    created: str


class Shares:
    """The links of all displays of a server."""

    def __init__(self) -> None:
        """Begin without links."""
        self._by_token: dict[str, Share] = {}

    def create(self, display: str, mode: str, created: str) -> Share:
        """Make a link."""
        share = Share(secrets.token_hex(4), display, mode, secrets.token_urlsafe(32), created)
        self._by_token[share.token] = share
        return share

    def of(self, display: str) -> list[Share]:
        """Return the links of a display."""
        return [share for share in self._by_token.values() if share.display == display]

    def by_token(self, token: str) -> Share | None:
        """Return the link of a token. It has 256 bits, so that nothing is learned from how long this takes."""
        return self._by_token.get(token)

    def remove(self, display: str, share_id: str) -> Share | None:
        """Take a link back and return what it was."""
        for share in self.of(display):
            if share.id == share_id:
                return self._by_token.pop(share.token)
        return None

    def forget(self, display: str) -> None:
        """Take all links of a display back."""
        for share in self.of(display):
            del self._by_token[share.token]

    def save(self, display: str, directory: Path) -> None:
        """Keep the links of a display for the next server, where nobody else can read them."""
        path = directory / "shares.json"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump([asdict(share) for share in self.of(display)], file)

    def load(self, directory: Path) -> None:
        """Take over the links that an earlier server made for a display."""
        path = directory / "shares.json"
        if path.is_file():
            for facts in json.loads(path.read_text(encoding="utf-8")):
                share = Share(**facts)
                self._by_token[share.token] = share
