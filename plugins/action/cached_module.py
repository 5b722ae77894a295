"""Return the valid result of a module, or run the module; see plugins/module_utils/result_cache.py."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from ansible.plugins.action.normal import ActionModule as NormalAction
from ansible.plugins.loader import module_loader

SHARED = Path(__file__).parents[1] / "module_utils"


class ActionModule(NormalAction):
    """
    Run the module of the same name unless the host has a valid result of it.

    The action plugins of modules with an option `cache_key` inherit this.
    """

    # Whether this run has changed something, on any host; unknown without the callback plugin `run_changes`.
    run_has_changed: bool | None = None
    # Whether what was found at the beginning of a run holds once that run has changed other things.
    holds_after_changes = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the result."""
        task_vars = task_vars or {}
        # Without the preflight checks, or with base_result_cache=false, there are none.
        results = task_vars.get("ansible_facts", {}).get("campushub", {}).get("cached_results")
        # The key is made of the arguments, and must say nothing of a secret.
        if results is not None and self.can_be_cached():
            key = self._key()
            if key in results and (self.holds_after_changes or self.run_has_changed is False):
                return {**super(NormalAction, self).run(tmp, task_vars), **results[key], "changed": False}
            # A run with --check stores nothing; a step with check_mode: true in another run does.
            if not task_vars["ansible_check_mode"]:
                self._task.args = {**self._task.args, "cache_key": key}
        result: dict[str, Any] = super().run(tmp, task_vars)
        return result

    def can_be_cached(self) -> bool:
        """Whether the arguments, of which the key is made, say nothing secret."""
        return True

    def _key(self) -> str:
        """Return a hash of the module, of what it imports and of its arguments."""
        module = Path(module_loader.find_plugin(self._task.action, mod_type=".py"))
        programs = [path.read_text() for path in (module, *sorted(SHARED.glob("*.py")))]
        asked = json.dumps([programs, self.known_arguments()], sort_keys=True)
        return hashlib.sha256(asked.encode()).hexdigest()

    def known_arguments(self) -> dict[str, Any]:
        """Return the arguments of which the key is made."""
        return dict(self._task.args)
