"""Run the module `managed_files`, or return its cached result; see cached_module.py."""

from __future__ import annotations

from typing import Any

from ansible.plugins.loader import action_loader

CachedModule: Any = action_loader.get("cached_module", class_only=True)


class ActionModule(CachedModule):
    """Looks again where there are secrets."""

    def can_be_cached(self) -> bool:
        """Whether no file has a secret; one that is to go has none."""
        return not any("secret" in file and file.get("state") != "absent" for file in self._task.args["files"])

    def known_arguments(self) -> dict[str, Any]:
        """Return the arguments without the texts of files that are to go."""
        files = [{name: file[name] for name in file if name != "secret"} for file in self._task.args["files"]]
        return {**self._task.args, "files": files}
