"""What handlers of the API, of pages and of streams have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..manager import DisplayManager


class HasManager:
    """What every handler of displays has."""

    settings: dict[str, Any]

    @property
    def manager(self) -> DisplayManager:
        """The displays of this server."""
        manager: DisplayManager = self.settings["display_manager"]
        return manager
