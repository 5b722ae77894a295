"""Whether a unit runs what lies on the disk."""

from __future__ import annotations

import glob
import os
import time
from collections.abc import Iterable

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: unit_is_current
short_description: Find out whether a unit runs what lies on the disk
description:
  - Reports a change, for a handler that restarts the unit, when the unit does not run, when its definition was not read
    since it changed, or when one of the files that it reads at its start is newer than that start.
  - A task that writes a file and notifies a handler forgets to do so when a run is cut off in between. This one looks
    at the host, so the next run makes up for it.
  - Changes nothing itself.
options:
  unit:
    description: Name of the unit.
    type: str
    required: true
  paths:
    description: Files, links and directories that the unit reads at its start, as patterns.
    type: list
    elements: path
    required: true
"""

EXAMPLES = r"""
- name: Find out whether the hub runs what is on the disk
  unit_is_current:
    unit: jupyterhub.service
    paths: [/etc/jupyterhub/settings.json]
  notify: Restart the hub
"""

RETURN = r"""
reason:
  description: Why the unit is to be restarted; empty if it is not.
  returned: always
  type: str
"""


def newest(patterns: Iterable[str]) -> tuple[float, str]:
    """Return when one of the files was last put in place (seconds of the epoch), and which one it was."""
    # The time of the change of the inode: a file that was moved into its place may have an old date of its own.
    found = [(os.lstat(path).st_ctime, path) for pattern in patterns for path in glob.glob(pattern)]
    return max(found, default=(0.0, ""))


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "unit": {"type": "str", "required": True},
            "paths": {"type": "list", "elements": "path", "required": True},
        },
        supports_check_mode=True,
    )
    names = ["ActiveState", "NeedDaemonReload", "InactiveExitTimestampMonotonic"]
    _, printed, _ = module.run_command(["systemctl", "show", f"--property={','.join(names)}", module.params["unit"]])
    shown = dict(line.partition("=")[::2] for line in printed.splitlines())
    started = time.time() - time.clock_gettime(time.CLOCK_MONOTONIC)
    started += int(shown.get("InactiveExitTimestampMonotonic") or 0) / 1e6
    changed, path = newest(module.params["paths"])
    reason = ""
    if shown.get("ActiveState") != "active":
        reason = "it does not run"
    elif shown.get("NeedDaemonReload") == "yes":
        reason = "its definition changed"
    elif changed > started:
        reason = f"{path} changed"
    module.exit_json(changed=bool(reason), reason=reason)


if __name__ == "__main__":
    main()
