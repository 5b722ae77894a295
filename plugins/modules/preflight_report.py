"""Documentation of the action plugin `preflight_report`, which does its work on the controller."""

DOCUMENTATION = r"""
module: preflight_report
short_description: Show everything that stands in the way as one list, and stop the run
description:
  - Collects what the checks before it found on every host of the play, that is the fact C(preflight_errors) of
    M(check_settings), the problems of M(check_host) and the hosts that did not answer, and looks at the groups
    of the inventory itself.
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
  facts:
    description: Name of the variable that holds the registered result of the first task that connected to the host.
    type: str
    required: true
  checked:
    description: Name of the variable that holds the registered result of M(check_host).
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show what must be put right first
  preflight_report:
    groups:
      hub: the host that people log in to
    required_groups: [hub]
    facts: preflight_facts
    checked: preflight_host
  run_once: true
"""

RETURN = r"""
errors:
  description: What was printed, one message an element.
  returned: always
  type: list
  elements: str
"""
