"""Load once what every step on every host needs."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

from ansible.plugins.callback import CallbackBase
from ansible.plugins.loader import filter_loader, test_loader

if TYPE_CHECKING:
    from ansible.playbook.play import Play
    from ansible.playbook.task import Task

DOCUMENTATION = """
name: plugin_preload
type: aggregate
short_description: Load once what every step on every host needs
description:
  - Ansible runs a step on a host in a copy of its process, which ends with it. What the process has not loaded by then,
    each copy loads again, and all of Ansible's filters and tests take it longer than most steps.
  - A copy that looks among all that there is for what it can throw away touches it, and so has it copied, too. What is
    there when a play begins is left out of that.
  - Prints nothing.
requirements:
  - C(callbacks_enabled = plugin_preload) in ansible.cfg
"""


class CallbackModule(CallbackBase):
    """Has filters and tests there before the process is copied."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "plugin_preload"
    CALLBACK_NEEDS_ENABLED = True

    def v2_playbook_on_play_start(self, play: Play) -> None:  # noqa: ARG002 (Ansible's interface)
        """Have what is there by now left alone by those who look for what can be thrown away, once a play."""
        self._load()
        gc.freeze()

    def v2_playbook_on_task_start(self, task: Task, is_conditional: bool) -> None:  # noqa: ARG002
        """Load what a role has that has just come in."""
        self._load()

    @staticmethod
    def _load() -> None:
        """Ask for one filter and one test, which loads all."""
        filter_loader.get("bool")
        test_loader.get("defined")
