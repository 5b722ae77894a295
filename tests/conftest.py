"""What tests of all kinds need in order to import what they test."""

from __future__ import annotations

from pathlib import Path

import ansible.module_utils

# Modules import what they share as Ansible gives it to them.
ansible.module_utils.__path__.append(str(Path(__file__).parents[1] / "plugins" / "module_utils"))
