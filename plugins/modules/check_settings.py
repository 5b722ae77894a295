"""Documentation of the action plugin `check_settings`, which does its work on the controller."""

DOCUMENTATION = r"""
module: check_settings
short_description: Check the settings of a role before anything is changed
description:
  - Finds every mistake in the settings of one role on one host, not only the first.
  - Names no setting of the role has (a misspelling is shown with the nearest right name), wrong types and
    values outside the choices come from the role's own C(meta/argument_specs.yml), to any depth. What a type cannot
    say is given as O(rules).
  - A distribution that is not among the C(platforms) of the role's C(meta/main.yml) is a mistake, too.
  - Values are taken as the role will see them, so a text with commas is no list.
  - Values of options with C(no_log) do not appear in messages. One that stands in plain text in a file of the inventory
    is a warning.
  - Changes nothing and does not connect to the host.
  - Fails with one message for each mistake. While the variable C(preflight_collect) is true, as in
    C(playbooks/preflight.yml), it adds the messages to the fact C(preflight_errors) instead.
options:
  role:
    description: Name of the role whose settings are checked. Its public variables start with this name.
    type: str
    required: true
  rules:
    description:
      - What must hold beyond the types. By default it is read from the role's C(meta/rules.yml), where V(always) is a
        list of rules, and V(present) one of those that do not hold for a role with the state V(absent). An entry of
        these lists is a rule, or a group that has C(rules) and an expression C(when), which says where they hold.
    type: list
    elements: dict
    suboptions:
      variable:
        description: Name of the setting, with the path into it where it is a list or dictionary.
        type: str
        required: true
      that:
        description: What must be true, as an expression without braces, like C(that) of M(ansible.builtin.assert).
        type: str
        required: true
      value:
        description: An expression for the value in the message, where it is not simply O(rules[].variable).
        type: str
      each:
        description:
          - An expression for a list or dictionary, each entry of which must fulfil the rule.
          - C([]) in O(rules[].variable) stands for the place of the entry, which the expressions know as C(item) and
            C(index).
        type: str
      secret:
        description: Whether the value must stay out of the message.
        type: bool
        default: false
      problem:
        description:
          - What is wrong with it, as the end of a sentence that starts with the variable and its value. It may be a
            template.
        type: str
        required: true
      remedy:
        description: What to write instead, as a sentence. It may be a template.
        type: str
        required: true
      warning:
        description: Whether a value that breaks the rule is a warning only.
        type: bool
        default: false
  warnings:
    description: Like O(rules), but a rule that does not hold is a warning.
    type: list
    elements: dict
    default: []
"""

EXAMPLES = r"""
- name: Check the settings
  check_settings:
    role: web
    rules:
      - variable: web_server_name
        that: web_server_name is match('^[a-z0-9.-]+$')
        problem: is not a host name
        remedy: Give the name people type into the browser, such as jupyter.example.org.

- name: Check the settings of entries
  check_settings:
    role: accounts
    rules:
      - variable: accounts_users[].uid
        each: accounts_users
        that: item.uid is not defined or item.uid | int >= 1000
        problem: belongs to the system
        remedy: Give a number from 1000 on.
"""

RETURN = r"""
errors:
  description: One message for each mistake.
  returned: always
  type: list
  elements: str
"""
