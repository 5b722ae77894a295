"""Load once what every step on every host needs."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

from ansible.plugins.callback import CallbackBase
from ansible.plugins.loader import filter_loader, test_loader

if TYPE_CHECKING:
    from ansible.playbook.task import Task

DOCUMENTATION = """
name: preload
type: aggregate
short_description: Load once what every step on every host needs
description:
  - Ansible runs a step on a host in a copy of its process, which ends with it. What the process has not loaded by then,
    each copy loads anew, and all of Ansible's filters and tests take it longer than most steps.
  - Prints nothing.
requirements:
  - C(callbacks_enabled = preload) in ansible.cfg
"""


class CallbackModule(CallbackBase):
    """Has filters and tests there before the process is copied."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "preload"
    CALLBACK_NEEDS_ENABLED = True

    def v2_playbook_on_task_start(self, task: Task, is_conditional: bool) -> None:  # noqa: ARG002 (Ansible's interface)
        """Ask for one of each, which loads all; those of a role that has just come in are among them the next time."""
        filter_loader.get("bool")
        test_loader.get("defined")
        # A copy that looks for what it can throw away touches, and so copies, all that there is.
        gc.freeze()
