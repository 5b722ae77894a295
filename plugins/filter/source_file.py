"""
The one place that reads what is private to ansible-core: the origin that it keeps with each value.

Written for ansible-core 2.19 to 2.21; tests/settings/test_source_file.py fails where a later one keeps it otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible._internal._datatag._tags import Origin

if TYPE_CHECKING:
    from collections.abc import Callable

DOCUMENTATION = """
name: source_file
short_description: The file that a value was read from
description:
  - Returns the path of the inventory, variables or playbook file that a value was written in.
  - Returns an empty string for a value that is from no file, such as an extra variable or the result of a template.
options:
  _input:
    description: The value.
    type: raw
    required: true
"""

EXAMPLES = """
- name: Show where the password is kept
  ansible.builtin.debug:
    msg: "{{ accounts_ldap_bind_password | source_file }}"
"""

RETURN = """
_value:
  description: Path of the file, or an empty string.
  type: str
"""


def source_file(value: Any) -> str:
    """Return the path of the file that a value was read from, or nothing."""
    origin = Origin.get_tag(value)
    return (origin.path if origin else None) or ""


class FilterModule:
    """Gives Ansible the filter."""

    def filters(self) -> dict[str, Callable[[Any], str]]:
        """Return the filter by its name."""
        return {"source_file": source_file}
