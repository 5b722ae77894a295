"""
The limits that a host sets to a client with a cache, as that of CVMFS or EOS.

The facts of ansible.builtin.setup are no substitute: its mounts are all those of the host, of which one on a network
file system may hang, and it does not know how many files a service may open.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: cache_limits
short_description: Return the size of the file system for a cache, and how many files a service may open
description:
  - Changes nothing. The answers are facts, so that they are asked for once in a run.
options:
  cache_directory:
    description: Directory of the cache; it need not be there yet.
    type: path
    required: true
  fact:
    description: Name of the fact with the answers.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Measure space and limits of the host
  cache_limits:
    cache_directory: /var/lib/cvmfs
    fact: cvmfs_room
"""

RETURN = r"""
ansible_facts:
  description: O(fact) with C(space_mb), the size of the file system, and C(files), the hard limit of services.
  returned: always
  type: dict
"""

# More than any client wants.
UNLIMITED = 1 << 30


def space_mb(path: str) -> int:
    """Return the size of the file system that a directory is on, or would be on."""
    while not os.path.isdir(path):
        path = os.path.dirname(path.rstrip("/")) or "/"
    found = os.statvfs(path)
    return found.f_blocks * found.f_frsize // 1_000_000


def open_files() -> int:
    """Return how many files a service may open at most if it asks for it."""
    # Where there is no systemd at all, the shell says nothing.
    command = ["sh", "-c", "systemctl show --property=DefaultLimitNOFILE --value"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    # In a container systemd may have less itself than it promises to services.
    own = re.findall(r"^Max open files +\w+ +(\w+)", Path("/proc/1/limits").read_text(), re.MULTILINE)
    return min((int(limit) for limit in [asked.stdout.strip(), *own] if limit.isdigit()), default=UNLIMITED)


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "cache_directory": {"type": "path", "required": True},
            "fact": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    facts = {"space_mb": space_mb(module.params["cache_directory"]), "files": open_files()}
    module.exit_json(changed=False, ansible_facts={f"ansible_{module.params['fact']}": facts})


if __name__ == "__main__":
    main()
