"""Asks a role what it thinks of settings: its `tasks/validate.yml` runs for fake hosts, and nothing is connected to."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]

FAMILIES = {"Debian": "Debian", "Ubuntu": "Debian", "Rocky": "RedHat", "AlmaLinux": "RedHat", "Fedora": "RedHat"}


#: The environment in which Ansible prints what `printed` reads.
PRINTING = {
    **os.environ,
    "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
    "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
    "ANSIBLE_LOCALHOST_WARNING": "false",
}


def printed(output: str) -> dict[str, Any]:
    """Return what a task `debug` printed for each host. To have modules write it takes longer than to work it out."""
    results = re.findall(r"^ok: \[([^]]+)\] => (\{\n.*?^\})$", output, flags=re.MULTILINE | re.DOTALL)
    return {host: json.loads(result)["msg"] for host, result in results}


def facts(
    distribution: str = "Debian", version: str = "12", release: str = "bookworm", **others: Any
) -> dict[str, Any]:
    """What Ansible would find out about a host, as far as roles ask for it."""
    family = FAMILIES.get(distribution, distribution)
    return {
        "ansible_distribution": distribution,
        "ansible_distribution_version": version,
        "ansible_distribution_major_version": version.partition(".")[0],
        "ansible_distribution_release": release,
        "ansible_os_family": family,
        "ansible_pkg_mgr": "apt" if family == "Debian" else "dnf",
        "ansible_service_mgr": "systemd",
        "ansible_python_version": "3.11.2",
        "ansible_python": {"version": {"major": 3, "minor": 11, "micro": 2}, "executable": "/usr/bin/python3"},
        "ansible_architecture": "x86_64",
        **{f"ansible_{name}": value for name, value in others.items()},
    }


def messages(
    role: str, hosts: dict[str, dict[str, Any]], groups: dict[str, list[str]] | None = None
) -> dict[str, list[str]]:
    """
    Return every mistake that `role` finds in the settings of each host.

    `hosts` maps the name of a fake host to its variables; the variable `facts` (see the function `facts`) replaces
    what is assumed about the host, Debian 12. A message starts with its host's name, which is left out here. All
    hosts are asked in one run, so a test module calls this once.
    """
    answers = run_for(role, hosts, groups or {})
    return {host: [text.removeprefix(f"{host}: ") for text in answers[host]] for host in hosts}


def rendered(role: str, hosts: dict[str, dict[str, Any]], expression: str) -> dict[str, dict[str, str]]:
    """Return the text of each file by its path, for each fake host, of an expression that role `role` has files in."""
    answers = run_for(role, hosts, {}, expression)
    return {host: {file["path"]: file["content"] for file in answers[host]} for host in hosts}


def run_for(
    role: str, hosts: dict[str, dict[str, Any]], groups: dict[str, list[str]], expression: str = ""
) -> dict[str, Any]:
    """Return what an expression is for each host after its settings were checked, or without one what is wrong."""
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        inventory: dict[str, Any] = {
            "all": {
                "hosts": {
                    host: {name: value for name, value in variables.items() if name != "facts"}
                    for host, variables in hosts.items()
                },
                # Nothing listens there: a role that connects while it validates fails at once.
                "vars": {"ansible_host": "127.0.0.1", "ansible_port": 1},
                "children": {group: {"hosts": dict.fromkeys(members)} for group, members in groups.items()},
            }
        }
        (scratch / "hosts.yml").write_text(yaml.safe_dump(inventory, allow_unicode=True))
        # Facts as an earlier run would have left them, in the form of the cache `jsonfile` of ansible-core. To set
        # them in a task takes as long as all the rest.
        (scratch / "facts").mkdir()
        for host, variables in hosts.items():
            remembered = {"__payload__": json.dumps(variables.get("facts", facts()))}
            (scratch / "facts" / f"s1_{host}").write_text(json.dumps(remembered))
        if expression:
            for kind in ("templates", "files"):
                (scratch / kind).symlink_to(ROOT / "roles" / role / kind)
        tasks: list[dict[str, Any]] = [
            {"ansible.builtin.include_role": {"name": role, "tasks_from": "validate", "public": True}},
            {
                # All answers of one host are quicker to have than an answer of each.
                "ansible.builtin.debug": {"msg": f"{{{{ {expression or 'dict(groups.all | zip(collected))'} }}}}"},
                "vars": {
                    "role_path": str(ROOT / "roles" / role),
                    "collected": "{{ groups.all | map('extract', hostvars, ['ansible_facts', 'preflight_errors']) }}",
                },
                "run_once": not expression,
            },
        ]
        collect = {} if expression else {"preflight_collect": True}
        playbook = [{"hosts": "all", "gather_facts": False, "vars": collect, "tasks": tasks}]
        (scratch / "validate.yml").write_text(yaml.safe_dump(playbook))
        run = subprocess.run(
            [sys.executable, "-m", "ansible", "playbook", "-i", scratch / "hosts.yml", scratch / "validate.yml"],
            cwd=ROOT,
            env={
                **PRINTING,
                "ANSIBLE_CACHE_PLUGIN": "jsonfile",
                "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(scratch / "facts"),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stdout + run.stderr
        answers = printed(run.stdout)
        return answers if expression else next(iter(answers.values()))


def answered_otherwise(
    role: str, cases: dict[str, tuple[dict[str, Any], list[str]]]
) -> dict[str, tuple[list[str], list[str]]]:
    """
    Return the cases that a role answers with other messages than expected: what it said, and what was expected.

    A case is the settings of a fake host and the messages that they are to get.
    """
    said = messages(role, {host: settings for host, (settings, _) in cases.items()})
    return {host: (said[host], texts) for host, (_, texts) in cases.items() if said[host] != texts}


def defaults(role: str) -> dict[str, Any]:
    """Return the defaults of a role that is applied by itself, without what the playbooks know of others."""
    wired = re.compile(r"{{ \w+_wiring\.\w+ \| default\((.*)\) }}")
    found: dict[str, Any] = yaml.safe_load((ROOT / f"roles/{role}/defaults/main.yml").read_text()) or {}
    matches = {name: wired.fullmatch(value) for name, value in found.items() if isinstance(value, str)}
    return found | {name: yaml.safe_load(match[1]) for name, match in matches.items() if match}


def wired(scratch: Path, inventory: dict[str, Any], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return what settings of these names are on each host in a playbook of the project."""
    (scratch / "hosts.yml").write_text(yaml.safe_dump(inventory))
    # As the playbooks have it beside them.
    (scratch / "group_vars").symlink_to(ROOT / "playbooks" / "group_vars")
    # A role that is imported has its defaults in the play; with this tag its tasks are left out.
    owners = {name.partition("_")[0] for name in names}
    roles = sorted(owner for owner in owners if (ROOT / "roles" / owner).exists())
    imported = [
        {"ansible.builtin.import_role": {"name": role, "tasks_from": "validate"}, "tags": ["never"]} for role in roles
    ]
    message = "{{ {" + ", ".join(f"'{name}': {name}" for name in names) + "} }}"
    play = {"hosts": "all", "gather_facts": False, "tasks": [*imported, {"ansible.builtin.debug": {"msg": message}}]}
    (scratch / "play.yml").write_text(yaml.safe_dump([play]))
    run = subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", "-i", scratch / "hosts.yml", scratch / "play.yml"],
        cwd=ROOT,
        env=PRINTING,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return {host: {name: said[name] for name in names} for host, said in printed(run.stdout).items()}


def preflight(scratch: Path, inventory: dict[str, Any], *options: str) -> tuple[int, str]:
    """Run the checks that come before any change; return their exit status and what they print, in one line."""
    (scratch / "hosts.yml").write_text(yaml.safe_dump(inventory, sort_keys=False))
    run = subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", "-i", scratch / "hosts.yml", "playbooks/preflight.yml", *options],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_LOCALHOST_WARNING": "false"},
        capture_output=True,
        text=True,
        check=False,
    )
    return run.returncode, " ".join((run.stdout + run.stderr).split())
