"""
Spare a host the module when it has said that all is as the module left it; see plugins/module_utils/settled.py.

Links to this file have the names of the other modules for which that holds.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from ansible.plugins.action.normal import ActionModule as NormalAction
from ansible.plugins.loader import module_loader

SHARED = Path(__file__).parents[1] / "module_utils"


class ActionModule(NormalAction):
    """Run the module of the same name, unless its answer is known."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return what the module says, or said."""
        task_vars = task_vars or {}
        # A secret is in no name either.
        if "preflight_host" in task_vars and not any("secret" in file for file in self._task.args.get("files", [])):
            name = self._name()
            known = task_vars["preflight_host"].get("settled", {}).get(name)
            if known is not None:
                return {**super(NormalAction, self).run(tmp, task_vars), **known, "changed": False}
            # A run with --check writes nothing down; a step that looks and changes nothing in every run does.
            if not task_vars["ansible_check_mode"]:
                self._task.args = {**self._task.args, "settled_as": name}
        result: dict[str, Any] = super().run(tmp, task_vars)
        return result

    def _name(self) -> str:
        """Name what is asked for, and the program that is asked, with what it shares with others."""
        module = Path(module_loader.find_plugin(self._task.action, mod_type=".py"))
        programs = [path.read_text() for path in (module, *sorted(SHARED.glob("*.py")))]
        asked = json.dumps([programs, self._task.args], sort_keys=True)
        return hashlib.sha256(asked.encode()).hexdigest()
