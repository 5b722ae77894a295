"""Spare a host this module, too, when its answer is known; see managed_files.py."""

from __future__ import annotations

from typing import Any

from ansible.plugins.loader import action_loader

ManagedFiles: Any = action_loader.get("managed_files", class_only=True)


class ActionModule(ManagedFiles):
    """Run the module of the same name, unless its answer is known."""
