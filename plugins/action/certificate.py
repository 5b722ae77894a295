"""Run the module `certificate`, or return its cached result; see cached_module.py."""

from __future__ import annotations

from typing import Any

from ansible.plugins.loader import action_loader

CachedModule: Any = action_loader.get("cached_module", class_only=True)


class ActionModule(CachedModule):
    """Looks again where a pair is not made but only looked at: it may be given with its key, and dates pass."""

    def can_be_cached(self) -> bool:
        """Whether the pair lies on the host, and is to be made if it is missing."""
        return "self_signed" in self._task.args
