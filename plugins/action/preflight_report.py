"""Show everything that stands in the way as one list; see plugins/modules/preflight_report.py."""

from __future__ import annotations

import difflib
import textwrap
from typing import TYPE_CHECKING, Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

display = Display()

BUILTIN_GROUPS = ("all", "ungrouped")


def group_errors(
    members: Mapping[str, Iterable[str]],
    groups: Mapping[str, str],
    required: Iterable[str],
    renamed: Mapping[str, str],
    single: Mapping[str, str] | None = None,
) -> list[str]:
    """Return what is wrong with the groups of an inventory; `members` gives the hosts of each."""
    errors = []
    named = set()
    for name in members:
        if name in groups or name in renamed or name in BUILTIN_GROUPS:
            continue
        # Other groups are the site's own business, as long as every host is in one that does something
        # and the name is not nearly that of one that does.
        nearest = difflib.get_close_matches(name, groups, n=1, cutoff=0.7)
        if nearest:
            errors.append(f"inventory: the group {name} does nothing. Did you mean {nearest[0]}?")
            named |= set(members[name])
    placed = {host for group in groups for host in members.get(group, ())} | named
    errors += [
        f"inventory: host {host} is in no group that does something. Put it in one of: {', '.join(groups)}."
        for host in members.get("all", ())
        if host not in placed
    ]
    errors += [
        f"inventory: the group {name} has no host. Put {groups[name]} in it."
        for name in required
        if not members.get(name)
    ]
    errors += [
        f"inventory: the group {name} has {len(list(members[name]))} hosts ({', '.join(members[name])}), and {reason}. "
        "Keep one of them there."
        for name, reason in (single or {}).items()
        if len(list(members.get(name, ()))) > 1
    ]
    return errors


def leftover_warnings(
    members: Mapping[str, Iterable[str]], leftovers: Iterable[Mapping[str, Any]], there: Mapping[str, Iterable[str]]
) -> list[str]:
    """Return what goes on where a host has left the group that switches it on; `there` gives each host's files."""
    warnings = []
    for entry in leftovers:
        inside = {host for group in entry["groups"] for host in members.get(group, ())}
        left = [host for host, paths in there.items() if host not in inside and set(entry["paths"]) & set(paths)]
        if left:
            remedy = f"install with {entry['setting']}: absent for it" if "setting" in entry else ""
            remedy = remedy or f"./campushub remove -e confirm=yes --limit {','.join(left)}"
            warnings.append(
                f"{', '.join(left)}: what the group {' or '.join(entry['groups'])} has switched on goes on outside of"
                f" it. Put each host back there, run {remedy}, and take it out then."
            )
    return warnings


def merged(errors: Iterable[str], hosts: Iterable[str]) -> list[str]:
    """Join messages that differ only in the host they start with, in the order they came."""
    hosts = set(hosts)
    places: dict[str, list[str]] = {}
    for error in errors:
        host, separator, text = error.partition(": ")
        if not separator or host not in hosts:
            host, text = "", error
        where = places.setdefault(text, [])
        if host and host not in where:
            where.append(host)
    return [f"{', '.join(where)}: {text}" if where else text for text, where in places.items()]


class ActionModule(ActionBase):
    """Collect on the controller what the checks found; no connection is made and no host is changed."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Print the list; fail if there is anything on it."""
        super().run(tmp, task_vars)
        task_vars = task_vars or {}
        arguments = self._task.args
        hosts = list(task_vars["ansible_play_hosts_all"])
        members, renamed = dict(task_vars["groups"]), arguments.get("renamed_groups") or {}
        required, single = arguments.get("required_groups") or [], arguments.get("single_groups")
        errors = group_errors(members, arguments["groups"], required, renamed, single)
        warnings = list(arguments.get("warnings") or [])
        warnings += [
            f"The group {former} is called {name} now. Rename it in the inventory."
            for former, name in renamed.items()
            if members.get(former)
        ]
        facts = {host: task_vars["hostvars"][host].get("ansible_facts", {}).get("campushub", {}) for host in hosts}
        there = {host: found.get("markers", []) for host, found in facts.items()}
        warnings += leftover_warnings(members, arguments.get("leftovers") or [], there)
        for host in hosts:
            errors += task_vars["hostvars"][host].get("ansible_facts", {}).get("preflight_errors", [])
        errors = merged(errors, hosts)
        if not errors:
            return {"changed": False, "errors": [], "warnings": warnings}
        width = max(60, min(display.columns, 120))
        listed = [
            textwrap.fill(
                error,
                width,
                initial_indent="  - ",
                subsequent_indent="    ",
                break_long_words=False,
                break_on_hyphens=False,
            )
            for error in errors
        ]
        count = "1 mistake" if len(errors) == 1 else f"{len(errors)} mistakes"
        display.display(
            f"\n{count} to put right before anything is changed:\n\n" + "\n".join(listed) + "\n", color="red"
        )
        message = f"{count}, see the list above; nothing was changed."
        return {"changed": False, "failed": True, "msg": message, "warnings": warnings}
