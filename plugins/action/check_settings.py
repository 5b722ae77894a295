"""Find every mistake in a role's settings at once; see plugins/modules/check_settings.py."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible.vars.reserved import get_reserved_names

display = Display()

SPECIFICATION_KEYS = (
    "type",
    "elements",
    "required",
    "default",
    "choices",
    "options",
    "required_if",
    "required_one_of",
    "required_together",
    "mutually_exclusive",
    "no_log",
)


def argument_spec(options: Mapping[str, Any]) -> dict[str, Any]:
    """Reduce a role's documented options to what Ansible's validator accepts."""
    spec: dict[str, Any] = {}
    for name, option in options.items():
        spec[name] = {key: option[key] for key in SPECIFICATION_KEYS if key in option}
        if "options" in option:
            spec[name]["options"] = argument_spec(option["options"])
    return spec


def shown(value: Any) -> str:
    """A value as the administrator wrote it, short enough for a message."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 120 else text[:117] + "..."


def unknown_names(
    role: str, names: Iterable[str], known: Iterable[str], known_elsewhere: Iterable[str]
) -> list[tuple[str, str | None]]:
    """
    Return settings that no role has, each with the nearest name that exists.

    A name that begins with the role's name is a setting of the role or a mistake. Any other name may be
    the site's own variable, so it counts only when it nearly is the name of a setting.
    """
    known = set(known)
    found = []
    for name in sorted(set(names) - known - set(known_elsewhere)):
        if name.startswith(f"{role}_"):
            nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        elif "_" in name and not name.startswith(("_", "ansible_", "molecule_")):
            nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.87)
            if not nearest:
                continue
        else:
            continue
        found.append((name, nearest[0] if nearest else None))
    return found


class ActionModule(ActionBase):
    """Check settings on the controller: no connection is made and no host is changed."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the mistakes; fail with them unless they are being collected."""
        result = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        arguments = self._task.args
        role = arguments.get("role")
        if not role:
            raise AnsibleActionFail("check_settings needs the name of a role")
        roles = self._roles_directory()
        specs = {path.parts[-3]: self._options(path) for path in roles.glob("*/meta/argument_specs.yml")}
        if role not in specs:
            raise AnsibleActionFail(f"role {role} has no meta/argument_specs.yml in {roles}")

        errors: list[str] = []
        options = specs[role]
        elsewhere = {name for other, spec in specs.items() if other != role for name in spec}
        written = self._inventory_names(task_vars)
        for name, nearest in unknown_names(role, written, options, elsewhere):
            hint = f"Did you mean {nearest}?" if nearest else f"Its settings are listed in roles/{role}/README.md."
            errors.append(f"{name} is no setting of role {role}. {hint}")

        values = {}
        for name in options:
            if name in task_vars:
                values[name] = self._templar.template(task_vars[name])
        checked = ArgumentSpecValidator(argument_spec(options)).validate(values)
        for message in checked.error_messages:
            errors.append(f"{message}. See roles/{role}/README.md.")
        # A rule about a value of the wrong type would only repeat the complaint in other words.
        mistyped = {name for name in options for message in checked.error_messages if name in message}
        for rule in arguments.get("rules") or []:
            if re.split(r"[.\[ ]", rule["variable"])[0] not in mistyped:
                errors.extend(self._broken(rule))

        for rule in arguments.get("warnings") or []:
            for message in self._broken(rule):
                result.setdefault("warnings", []).append(message)

        host = task_vars.get("inventory_hostname", "?")
        errors = [f"{host}: {message}" for message in errors]
        result.update(changed=False, errors=errors)
        if boolean(self._templar.template(task_vars.get("preflight_collect", False)), strict=False):
            collected = list(task_vars.get("ansible_facts", {}).get("preflight_errors", []))
            result["ansible_facts"] = {"preflight_errors": collected + [e for e in errors if e not in collected]}
        elif errors:
            result.update(failed=True, msg="\n".join(errors))
        return result

    def _roles_directory(self) -> Path:
        return Path(__file__).resolve().parents[2] / "roles"

    def _options(self, path: Path) -> dict[str, Any]:
        document = self._loader.load_from_file(str(path), unsafe=True)
        options: dict[str, Any] = document["argument_specs"]["main"].get("options", {})
        return options

    def _inventory_names(self, task_vars: dict[str, Any]) -> set[str]:
        """Names an administrator wrote: inventory, group_vars, host_vars and extra variables."""
        inventory = self._task.get_variable_manager()._inventory
        host = inventory.get_host(task_vars["inventory_hostname"])
        names = set(host.get_vars())
        for group in host.get_groups():
            names |= set(group.get_vars())
        names |= set(self._task.get_variable_manager().extra_vars)
        names |= {
            name for name in task_vars.get("hostvars", {}).get(host.name, {}) if not name.startswith(("_", "ansible_"))
        }
        return names - set(get_reserved_names())

    def _broken(self, rule: Mapping[str, Any]) -> list[str]:
        """Return the message of a rule that does not hold."""
        try:
            if self._templar.evaluate_conditional(rule["that"]):
                return []
        except AnsibleError as error:
            # The value is so wrong that the rule cannot even be asked; the cause belongs to the message.
            display.vvv(f"check_settings: {rule['that']}: {error}")
        value = ""
        if not rule.get("secret", False):
            try:
                value = f" = {shown(self._templar.evaluate_expression(rule.get('value', rule['variable'])))}"
            except AnsibleError:
                value = " (undefined)"
        return [f"{rule['variable']}{value} {rule['problem']}. {rule['remedy']}"]
