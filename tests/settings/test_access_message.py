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
    "directory": {"accounts_directory": "ldap", "accounts_allowed_groups": ["Staff"]},
}
NOBODY = "NOBODY MAY LOG IN YET. To let somebody in, add people to accounts_users in the inventory and run"


def test_who_may_log_in_is_said_at_the_end(tmp_path: Path) -> None:
    tasks = yaml.safe_load((ROOT / "playbooks/tasks/deploy_hub.yml").read_text())
    last = tasks[-1]
    last["ansible.builtin.include_tasks"] = str(ROOT / "playbooks/tasks/say_access.yml")
    page = str(ROOT / "playbooks/group_vars/all.yml")
    play = {"hosts": "all", "connection": "local", "gather_facts": False, "vars_files": [page], "tasks": [last]}
    play["vars"] = {"ansible_python_interpreter": sys.executable}
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]))
    (tmp_path / "hosts.yml").write_text(
        yaml.safe_dump({"all": {"hosts": {f"{name}-host": v for name, v in HOSTS.items()}}})
    )
    command = [sys.executable, "-m", "ansible", "playbook", "-i", f"{tmp_path}/hosts.yml", f"{tmp_path}/play.yml"]
    run = subprocess.run(command, cwd=ROOT, env=PRINTING, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    said = printed(run.stdout)
    assert said["nobody-host"].startswith(NOBODY)
    assert said["nobody-host"].endswith(": usermod -aG no-such-group NAME")
    assert said["gone-host"].startswith(NOBODY)
    assert said["group-host"].startswith("Who may log in: group no-such-group, ada. To let in others, add people to")
    assert said["all-host"] == "Who may log in: everybody with an account."
    assert said["directory-host"] == (
        "Who may log in: group jupyter-users, group staff. To let in others, name groups of the directory in "
        "accounts_allowed_groups"
    )
