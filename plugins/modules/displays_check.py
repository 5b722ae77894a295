"""Whether Xpra works on a host, found out once for each version by using it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.files import write

DOCUMENTATION = r"""
module: displays_check
short_description: Check that Xpra works, and let TigerVNC make the displays where it does not
description:
  - Starts one display with Xpra, opens its stream and ends it, by C(python -m jupyter_displays.check), as a user who
    exists as long as that takes.
  - What comes out is kept in C(displays-check.json), for C(campushub status) and so that a version of Xpra and of the
    users' environment is checked once.
  - Where it fails the file C(xpra-failed) is left, and the engine in O(settings) becomes C(tigervnc). Once another
    version passes, it becomes C(xpra) again.
options:
  python:
    description: Python of the environment that has jupyter_displays. Where it is missing, nothing is checked.
    type: path
    default: /opt/campushub/user/bin/python
  settings:
    description: Settings of jupyter_displays.
    type: path
    default: /etc/jupyter/jupyter_displays_config.json
  directory:
    description: Where what was found is kept.
    type: path
    default: /var/lib/campushub
attributes:
  check_mode:
    support: full
"""

EXAMPLES = r"""
- name: Check that Xpra works here
  displays_check:
"""

RETURN = r"""
found:
  description: What was found, now or before - C(ok), C(reason), C(version), and whether that version is C(tested).
  returned: if there was something to check
  type: dict
said:
  description: A sentence for people, if the version was not tested or does not work.
  returned: always
  type: str
"""

LIMIT_SECONDS = 150
# It can do what an ordinary user can, and leaves nothing. A display needs more than the rest of this.
CONFINEMENT = {
    "DynamicUser": "yes",
    "PrivateTmp": "yes",
    "ProtectHome": "yes",
    "CapabilityBoundingSet": "",
    "MemoryMax": "1G",
    "TasksMax": "300",
    "RuntimeMaxSec": str(LIMIT_SECONDS),
}


def installed_version() -> str:
    """Return the version of the package, or nothing."""
    command = ["dpkg-query", "--show", "--showformat", "${db:Status-Status} ${Version}\n", "xpra-server", "xpra"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    versions = [line.split()[1] for line in listed.splitlines() if line.startswith("installed ")]
    return versions[0] if versions else ""


def check(python: str) -> dict[str, Any]:
    """Use Xpra once and return what was found."""
    properties = [f"--property={name}={value}" for name, value in CONFINEMENT.items()]
    command = ["systemd-run", "--quiet", "--wait", "--pipe", "--collect", "--unit=campushub-displays-check"]
    command += [*properties, python, "-I", "-m", "jupyter_displays.check", "--engine", "xpra"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    try:
        found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        last = (done.stderr.strip() or f"it ended with {done.returncode}").splitlines()[-1]
        found = {"version": "", "tested": False, "ok": False, "reason": f"the check itself failed: {last}"}
    return found


def sentence(found: dict[str, Any]) -> str:
    """Say what people should know."""
    if not found["ok"]:
        reason = found["reason"].rstrip(".")
        return f"Xpra {found['version']} does not work on this host: {reason}. TigerVNC makes the displays."
    if not found["tested"]:
        return f"CampusHub was not tested with Xpra {found['version']}. A display was started with it, and works."
    return ""


def replace(path: Path, text: str) -> None:
    """Write a file of root's that everybody may read."""
    write(str(path), text, 0o644, (os.geteuid(), os.getegid()))


class Memory:
    """What was found before."""

    def __init__(self, directory: Path) -> None:
        """Say where it is kept."""
        self.file = directory / "displays-check.json"
        self.failed = directory / "xpra-failed"

    def found(self, key: list[str]) -> dict[str, Any] | None:
        """Return what was found for these versions, if it was looked for."""
        try:
            kept: dict[str, Any] = json.loads(self.file.read_text())
        except (OSError, ValueError):
            return None
        return kept if kept.get("key") == key and self.failed.exists() != kept["ok"] else None

    def keep(self, key: list[str], found: dict[str, Any]) -> None:
        """Keep it."""
        self.file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        if found["ok"]:
            self.failed.unlink(missing_ok=True)
        else:
            self.failed.touch()
        replace(self.file, json.dumps({**found, "key": key}, indent=4) + "\n")


def use_engine(settings: Path, engine: str) -> bool:
    """Have displays made by an engine, in the form in which Ansible writes the settings; return whether that is new."""
    text = settings.read_text()
    content = json.loads(text)
    content["DisplayManager"]["engine"] = engine
    new = json.dumps(content, indent=4, sort_keys=True, separators=(",", ": ")) + "\n"
    if new != text:
        replace(settings, new)
    return new != text


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "python": {"type": "path", "default": "/opt/campushub/user/bin/python"},
            "settings": {"type": "path", "default": "/etc/jupyter/jupyter_displays_config.json"},
            "directory": {"type": "path", "default": "/var/lib/campushub"},
        },
        supports_check_mode=True,
    )
    python, settings = module.params["python"], Path(module.params["settings"])
    version = installed_version()
    if not (version and os.path.exists(python) and settings.exists()):
        module.exit_json(changed=False, said="")
    memory = Memory(Path(module.params["directory"]))
    # Another version of either may do what this one does not.
    key = [version, os.path.realpath(Path(python).parents[1])]
    found = memory.found(key)
    if found is None and module.check_mode:
        module.exit_json(changed=True, said="")
    changed = found is None
    if found is None:
        found = check(python)
        memory.keep(key, found)
    if not module.check_mode:
        changed |= use_engine(settings, "xpra" if found["ok"] else "tigervnc")
    module.exit_json(changed=changed, found=found, said=sentence(found))


if __name__ == "__main__":
    main()
