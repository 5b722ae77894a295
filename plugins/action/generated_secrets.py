"""Run the module `generated_secrets`, or return its cached result; see cached_module.py."""

from __future__ import annotations

from typing import Any

from ansible.plugins.loader import action_loader

CachedModule: Any = action_loader.get("cached_module", class_only=True)


class ActionModule(CachedModule):
    """Inherits all."""
