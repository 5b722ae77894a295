"""Say at the end of a run which hosts are not finished, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible import constants
from ansible.plugins.callback import CallbackBase

if TYPE_CHECKING:
    from ansible.executor.stats import AggregateStats
    from ansible.executor.task_result import CallbackTaskResult
    from ansible.playbook.play import Play

DOCUMENTATION = """
name: unfinished_hosts
type: aggregate
short_description: Say which hosts are not finished, and what to do
description:
  - A host on which a task fails takes no part in what follows, while the others go on. Among many lines that is
    easily missed, so the last lines of the output name the hosts, where each stopped, and what to do.
  - Prints nothing when all went well, nor when the preflight checks have just printed their list.
requirements:
  - C(callbacks_enabled = unfinished_hosts) in ansible.cfg
"""


# Whatever stops there has changed nothing.
CHECKS = {"ansible.builtin.assert", "ansible.builtin.fail", "check_host", "check_settings", "preflight_report"}


class CallbackModule(CallbackBase):
    """Remembers where each host stopped."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "unfinished_hosts"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Start with no host having stopped."""
        super().__init__(*args, **kwargs)
        self._stopped: dict[str, str] = {}
        self._together = False
        self._explained = False
        # What a task that failed has changed is not among the statistics.
        self._changed = self._perhaps_changed = False
        self._play: Play | None = None

    def v2_playbook_on_play_start(self, play: Play) -> None:
        """Keep the play: it knows whether one host stops all."""
        self._play = play

    def v2_runner_on_failed(self, result: CallbackTaskResult, ignore_errors: bool = False) -> None:
        """Keep where a host failed."""
        if ignore_errors:
            return
        self._stopped[result.host.get_name()] = f"stopped at: {result.task.get_name()}"
        self._explained |= result.task.action == "preflight_report"
        self._changed |= bool(result.result.get("changed"))
        self._perhaps_changed |= result.task.resolved_action not in CHECKS
        self._together |= bool(self._play and self._play.any_errors_fatal)

    def v2_runner_on_unreachable(self, result: CallbackTaskResult) -> None:
        """Keep that a host went away."""
        self._stopped[result.host.get_name()] = f"went away at: {result.task.get_name()}"
        self._together |= bool(self._play and self._play.any_errors_fatal)

    def v2_playbook_on_stats(self, stats: AggregateStats) -> None:
        """Print the list."""
        stopped, finished = [], []
        # What stops on the controller says itself what is wrong, and no host was touched.
        for host in sorted(set(stats.processed) - {"localhost"}):
            counts = stats.summarize(host)
            if counts["failures"] or counts["unreachable"]:
                stopped.append(f"  {host}: {self._stopped.get(host, 'stopped')}")
            else:
                finished.append(host)
        if not stopped or self._explained:
            return
        lines = ["", "NOT FINISHED:", *stopped]
        if finished:
            lines.append(f"{'STOPPED WITH THEM' if self._together else 'FINISHED'}: {', '.join(finished)}")
        on = "Put right the cause shown above and run the same command again: it goes on there."
        if self._changed or any(stats.changed.values()):
            lines.append(f"What was done stays. {on}")
        elif self._perhaps_changed:
            lines.append(f"Nothing was changed before; the step itself may have done a part of its work. {on}")
        else:
            lines.append("Nothing was changed.")
        self._display.display("\n".join(lines), color=constants.COLOR_ERROR)
