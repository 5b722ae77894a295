"""What is said about who may log in, at the end of an installation: the playbooks' own tasks, on this machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.settings.validation import PRINTING, ROOT, printed

HOSTS: dict[str, dict[str, Any]] = {
    "nobody": {"jupyterhub_allowed_groups": ["no-such-group"]},
    "group": {"jupyterhub_allowed_groups": ["no-such-group"], "accounts_users": [{"name": "ada"}]},
    "gone": {
        "jupyterhub_allowed_groups": ["no-such-group"],
        "accounts_users": [{"name": "eve", "state": "absent"}, {"name": "bot", "access": False}],
    },
    "all": {"jupyterhub_allow_all": True},
    "password": {
        "accounts_users": [{"name": "zzyzx-bert"}, {"name": "root"}, {"name": "ada", "password_hash": "$6$x"}],
        "web_tls_mode": "own",
        "web_server_name": "2001:db8::1",
        "web_public_port": 8443,
    },
    "directory": {"accounts_directory": "ldap", "accounts_allowed_groups": ["Staff"]},
}
NOBODY = "NOBODY MAY LOG IN YET. To let somebody in, add people to accounts_users in the inventory and run"


def test_who_may_log_in_is_said_at_the_end(tmp_path: Path) -> None:
    (last,) = yaml.safe_load((ROOT / "site.yml").read_text())[-1]["tasks"]
    last["ansible.builtin.include_tasks"] = str(ROOT / "playbooks/tasks/say_access.yml")
    page = str(ROOT / "playbooks/group_vars/all.yml")
    play = {"hosts": "all", "connection": "local", "gather_facts": False, "vars_files": [page], "tasks": [last]}
    play["vars"] = {"ansible_python_interpreter": sys.executable}
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]))
    (tmp_path / "hosts.yml").write_text(
        yaml.safe_dump({"all": {"hosts": {f"{name}-host": v for name, v in HOSTS.items()}}})
    )
    # A stand-in for passwd(1), on a host that has the account root alone.
    passwd = tmp_path / "passwd"
    passwd.write_text('#!/bin/sh\n[ "$1 $2" = "--status root" ] && echo "root P 2026-11-30 0 99999 7 -1"\n')
    passwd.chmod(0o755)
    environment = {**PRINTING, "PATH": f"{tmp_path}:{PRINTING['PATH']}"}
    command = [sys.executable, "-m", "ansible", "playbook", "-i", f"{tmp_path}/hosts.yml", f"{tmp_path}/play.yml"]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    said = printed(run.stdout)
    assert {lines[-1] for lines in said.values()} == {f"Next: ./campushub status -i {tmp_path}/hosts.yml"}
    assert said["nobody-host"][0] == (
        "CampusHub answers at https://nobody-host/ (browsers warn of its self-signed certificate)"
    )
    assert said["nobody-host"][1].startswith(NOBODY)
    assert said["nobody-host"][1].endswith(": usermod -aG no-such-group NAME")
    assert said["gone-host"][1].startswith(NOBODY)
    assert said["group-host"][1].startswith("Who may log in: group no-such-group, ada. To let in others, add people to")
    assert said["group-host"][2].startswith("Without a password yet: ada. Give each a password_hash in accounts_users")
    assert said["all-host"][1] == "Who may log in: everybody with an account."
    assert said["password-host"][0] == "CampusHub answers at https://[2001:db8::1]:8443/"
    assert "Without a password yet: zzyzx-bert. Give" in said["password-host"][2]
    assert said["directory-host"][1] == (
        "Who may log in: group jupyter-users, group staff. To let in others, name groups of the directory in "
        "accounts_allowed_groups"
    )
    assert [len(said[f"{name}-host"]) for name in ("nobody", "gone", "all", "directory")] == [3, 3, 3, 3]
