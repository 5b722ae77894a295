"""Tell actions whether the run has changed something."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible.plugins.callback import CallbackBase
from ansible.plugins.loader import action_loader

if TYPE_CHECKING:
    from ansible.executor.task_result import CallbackTaskResult

DOCUMENTATION = """
name: run_changes
type: aggregate
short_description: Tell actions whether the run has changed something
description:
  - What the check at the beginning of a run has seen of services holds until the run changes something. Ansible tells
    an action nothing of the tasks before it, but it runs in a copy of the process that has this plugin.
  - A task that failed may have changed something, on any host. Prints nothing.
requirements:
  - C(callbacks_enabled = run_changes) in ansible.cfg
"""


class CallbackModule(CallbackBase):
    """Keeps it where the actions look."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "run_changes"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Begin with a run that has changed nothing."""
        super().__init__(*args, **kwargs)
        self._actions = action_loader.get("cached_module", class_only=True)
        self._actions.run_has_changed = False

    def v2_runner_on_ok(self, result: CallbackTaskResult) -> None:
        """Look whether a task has changed something."""
        self._actions.run_has_changed |= bool(result.result.get("changed"))

    def v2_runner_on_failed(self, result: CallbackTaskResult, ignore_errors: bool = False) -> None:  # noqa: ARG002
        """Take it that a task that failed has."""
        self._actions.run_has_changed = True

    def v2_runner_on_unreachable(self, result: CallbackTaskResult) -> None:  # noqa: ARG002
        """Take it that a task that was cut off has."""
        self._actions.run_has_changed = True
