"""The tag of a role reaches its tasks in site.yml. Roles are stand-ins that print their names; no host is changed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.parts[-3] for path in ROOT.glob("roles/*/meta/argument_specs.yml"))
GROUPS = ["hub", "compute", "slurm_controller", "displays", "cvmfs_clients", "eos_clients", "network_homes", "squid"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of site.yml with one host in all groups, without the checks before it."""
    directory = tmp_path_factory.mktemp("site")
    plays = [play for play in yaml.safe_load((ROOT / "site.yml").read_text()) if "hosts" in play]
    for play in plays:
        play["become"] = False
    (directory / "site.yml").write_text(yaml.safe_dump(plays, sort_keys=False))
    shutil.copytree(ROOT / "playbooks" / "tasks", directory / "playbooks" / "tasks")
    (directory / "group_vars").symlink_to(ROOT / "playbooks" / "group_vars")
    host = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "jupyterhub_spawner": "slurm"}
    inventory = {"all": {"hosts": {"server": host}, "children": {name: {"hosts": {"server": None}} for name in GROUPS}}}
    (directory / "hosts.yml").write_text(yaml.safe_dump(inventory))
    for role in ROLES:
        tasks = directory / "roles" / role / "tasks"
        tasks.mkdir(parents=True)
        for file in ("deploy", "check"):
            # As roles have parts that are included while they run.
            steps = [{"ansible.builtin.debug": {"msg": f"reached {role} {file}"}}]
            (tasks / f"{file}.yml").write_text(
                yaml.safe_dump([*steps, {"ansible.builtin.include_tasks": f"{file}_part.yml"}])
            )
            (tasks / f"{file}_part.yml").write_text(
                yaml.safe_dump([{"ansible.builtin.debug": {"msg": f"reached {role} part"}}])
            )
    return directory


@pytest.mark.parametrize("role", ROLES)
def test_the_tag_of_a_role_reaches_its_tasks_alone(site: Path, role: str) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", "-i", "hosts.yml", "site.yml", "--tags", role],
        cwd=site,
        env={**os.environ, "ANSIBLE_CONFIG": "", "ANSIBLE_LIBRARY": str(ROOT / "plugins" / "modules")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    reached = set(re.findall(r"reached (\w+) (\w+)", run.stdout))
    assert {name for name, _ in reached} == {role}, run.stdout
    assert {"deploy", "part"} <= {part for _, part in reached}
