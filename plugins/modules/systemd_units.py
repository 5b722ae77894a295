"""Units that run, from the start of the host on, and what they run."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import time
from collections.abc import Iterable, Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.files import write
from ansible.module_utils.result_cache import CacheEntry

DOCUMENTATION = r"""
module: systemd_units
short_description: Have units run, and find out which run something older than what lies on the disk
extends_documentation_fragment: [result_cache]
description:
  - Enables and starts what is not. Units of one list start side by side, as far as their own order lets them.
  - Reports a change, for handlers that restart units, also when the definition of a running unit was not read since it
    changed, or when one of the files that it reads at its start is newer than that start, or was removed after it.
    RV(outdated) names these. What a unit has read is listed in C(/var/lib/campushub/units), for a file that is gone
    tells nothing.
  - A task that writes a file and notifies a handler forgets to do so when a run is cut off in between. This one looks
    at the host, so the next run makes up for it.
options:
  units:
    description: The units.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the unit, with its suffix.
        type: str
        required: true
      reads:
        description: Files, links and directories that the unit reads at its start, as patterns.
        type: list
        elements: path
        default: []
  wait:
    description:
      - Whether to wait until what is started runs, and fail if it does not.
      - Without, whoever needs it asks again later, waiting.
    type: bool
    default: true
attributes:
  check_mode:
    support: full
"""

EXAMPLES = r"""
- name: Run the hub from the start of the host on
  systemd_units:
    units:
      - name: jupyterhub.service
        reads: [/etc/jupyterhub/settings.json]
  register: __jupyterhub_units
  notify: Restart the hub
"""

RETURN = r"""
started:
  description: Names of units that were started.
  returned: always
  type: list
  elements: str
outdated:
  description: Names of units that are to be restarted, each with the reason.
  returned: always
  type: dict
"""

PROPERTIES = ("ActiveState", "NeedDaemonReload", "DropInPaths", "InactiveExitTimestampMonotonic", "UnitFileState")
UNITS = "/etc/systemd/system"
DEFINITIONS = (UNITS, "/run/systemd/system", "/lib/systemd/system", "/usr/lib/systemd/system")
GROUPS = "/proc/1/cgroup"
# Of version 2, and of version 1.
CONTROL_GROUPS = {"": "/sys/fs/cgroup", "name=systemd": "/sys/fs/cgroup/systemd"}
RECORDS = "/var/lib/campushub/units"


def newest(patterns: Iterable[str]) -> tuple[float, str]:
    """Return when one of the files was last put in place (seconds of the epoch), and which one it was."""
    # The time of the change of the inode: a file that was moved into its place may have an old date of its own.
    found = [(os.lstat(path).st_ctime, path) for pattern in patterns for path in glob.glob(pattern)]
    return max(found, default=(0.0, ""))


def removed(name: str, patterns: list[str], check: bool) -> tuple[float, str]:
    """Return when one of the files was last found to be gone, and which one it was; keep a record of them."""
    if not patterns:
        return 0.0, ""
    path = record_path(name)
    known = read_record(path)
    found = sorted({file for pattern in patterns for file in glob.glob(pattern)})
    gone = [file for file in known["found"] if not os.path.lexists(file)]
    record = {"found": found, "removed": [time.time(), gone[0]] if gone else known["removed"]}
    if record != known and not check:
        # Names of files in closed directories are in it. Without it, as on a full disk, a file that goes is not missed.
        with contextlib.suppress(OSError):
            write(path, json.dumps(record, indent=1) + "\n", 0o600, (os.geteuid(), os.getegid()))
    moment, file = record["removed"]
    return float(moment), str(file)


def record_path(name: str) -> str:
    """Return where it is kept what a unit has read."""
    return f"{RECORDS}/{name}.json"


def read_record(path: str) -> dict[str, Any]:
    """Return what the record of a unit has; nothing where there is none."""
    try:
        with open(path, encoding="utf-8") as file:
            record: dict[str, Any] = json.load(file)
    except (FileNotFoundError, ValueError):
        return {"found": [], "removed": [0.0, ""]}
    return record


def unread(name: str, shown: Mapping[str, str]) -> bool:
    """Whether a unit's definition is not the one that was read."""
    # Of a drop-in in a directory that is new systemd 252 does not say so.
    there = {path for path in glob.glob(f"{UNITS}/{name}.d/*.conf") if os.path.isfile(path)}
    return shown["NeedDaemonReload"] == "yes" or not there <= set(shown.get("DropInPaths", "").split())


def reason(name: str, shown: Mapping[str, str], reads: Iterable[str], gone: tuple[float, str]) -> str:
    """Return why a unit that runs is to be restarted; nothing if it is not."""
    if unread(name, shown):
        return "its definition changed"
    started = time.time() - time.clock_gettime(time.CLOCK_MONOTONIC)
    started += int(shown["InactiveExitTimestampMonotonic"] or 0) / 1e6
    changed, path = newest(reads)
    if changed > started:
        return f"{path} changed"
    return f"{gone[1]} was removed" if gone[0] > started else ""


def control_groups(name: str) -> list[str]:
    """Return where the control group of a service may be: beside that of the service manager itself."""
    found = []
    with open(GROUPS, encoding="utf-8") as file:
        for line in file:
            _, kind, path = line.rstrip("\n").split(":", 2)
            if kind in CONTROL_GROUPS:
                # In a container it may be that of the whole host.
                found.append(f"{CONTROL_GROUPS[kind]}{path.removesuffix('/init.scope')}/system.slice/{name}")
    return found


def cache_entry(key: str | None, reads: Mapping[str, Iterable[str]]) -> CacheEntry:
    """Prepare to store that all units run what lies on the disk, by everything that would be different otherwise."""
    # The directory is a new one after each start.
    groups = {name: control_groups(name) for name in reads}
    running = all(any(map(os.path.isdir, places)) for places in groups.values())
    patterns = [f"{UNITS}/*.wants/{name}" for name in reads]
    patterns += [f"{place}/{name}{more}" for place in DEFINITIONS for name in reads for more in ("", ".d/*.conf")]
    for pattern in (pattern for several in reads.values() for pattern in several):
        patterns += [pattern, f"{pattern}/*"]
    paths = [place for places in groups.values() for place in places]
    paths += [record_path(name) for name in reads if reads[name]]
    return CacheEntry(key if running else None, paths, patterns)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "units": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "reads": {"type": "list", "elements": "path", "default": []},
                },
            },
            "wait": {"type": "bool", "default": True},
            "cache_key": {"type": "str"},
        },
        supports_check_mode=True,
    )
    # Directories that are made on the way are for everybody, whatever root's own mask is.
    os.umask(0o022)
    reads = {unit["name"]: unit["reads"] for unit in module.params["units"]}
    entry = cache_entry(module.params["cache_key"], reads)

    def systemctl(*arguments: str, units: Iterable[str]) -> str:
        """Run systemctl; end with what it says if it fails."""
        units = list(units)
        code, printed, said = module.run_command(["systemctl", *arguments, *units])
        if code != 0:
            logs = " ".join(f"-u {name}" for name in units)
            module.fail_json(msg=f"systemctl {arguments[0]} {' '.join(units)}: {said.strip()} See: journalctl {logs}")
        return str(printed)

    printed = systemctl("show", f"--property={','.join(PROPERTIES)}", units=reads)
    shown = {}
    # One paragraph a unit, in the order in which they were asked for.
    for name, paragraph in zip(reads, printed.strip().split("\n\n"), strict=True):
        shown[name] = dict(line.partition("=")[::2] for line in paragraph.splitlines())
    disabled = [name for name in reads if shown[name]["UnitFileState"] != "enabled"]
    stopped = [name for name in reads if shown[name]["ActiveState"] not in ("active", "reloading")]
    gone = {name: removed(name, reads[name], module.check_mode) for name in reads}
    reasons = {name: reason(name, shown[name], reads[name], gone[name]) for name in reads if name not in stopped}
    outdated = {name: why for name, why in reasons.items() if why}
    if not module.check_mode:
        if any(unread(name, shown[name]) for name in reads):
            systemctl("daemon-reload", units=[])
        if disabled:
            systemctl("enable", "--quiet", units=disabled)
        if stopped:
            systemctl("start", *([] if module.params["wait"] else ["--no-block"]), units=stopped)
    changed = bool(disabled or stopped or outdated)
    if not changed:
        entry.store({"started": [], "outdated": {}})
    module.exit_json(changed=changed, started=stopped, outdated=outdated)


if __name__ == "__main__":
    main()
