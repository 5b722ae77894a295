"""Run the module `systemd_units`, or return its cached result; see cached_module.py."""

from __future__ import annotations

from typing import Any

from ansible.plugins.loader import action_loader

CachedModule: Any = action_loader.get("cached_module", class_only=True)


class ActionModule(CachedModule):
    """Looks again as soon as the run has changed something, which may be what a service reads."""

    holds_after_changes = False
