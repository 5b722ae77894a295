"""Documentation of the action plugin `preflight_report`, which does its work on the controller."""

DOCUMENTATION = r"""
module: preflight_report
short_description: Show everything that stands in the way as one list, and stop the run
description:
  - Collects what M(check_settings) and M(check_host) found on every host of the play while C(preflight_collect)
    was true, and looks at the groups of the inventory itself.
  - Prints one readable list, equal messages of several hosts only once, and fails if the list is not empty.
  - Changes nothing and does not connect to a host. Use it with C(run_once).
options:
  groups:
    description: Groups that mean something, each with the sentence that says what it is for.
    type: dict
    required: true
  required_groups:
    description: Groups that need at least one host.
    type: list
    elements: str
    default: []
  single_groups:
    description: Groups that may have one host only, each with the reason.
    type: dict
    default: {}
  warnings:
    description: What is pointed out in addition, and stops nothing.
    type: list
    elements: str
    default: []
  leftovers:
    description:
      - What groups switch on, each with C(groups), the C(paths) by which it is known, and the C(setting) that
        removes it.
      - Who has such a path, as M(check_host) found it, and is in none of the groups, is pointed out.
    type: list
    elements: dict
    default: []
  renamed_groups:
    description: Former names of groups, each with the name it has now; the administrator is told to rename them.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Show what must be put right first
  preflight_report:
    groups:
      hub: the host that people log in to
    required_groups: [hub]
  run_once: true
"""

RETURN = r"""
errors:
  description: Nothing; a list that is not empty is printed and the task fails.
  returned: success
  type: list
  elements: str
"""
