"""What role jupyterhub would write for the hub to read."""

from __future__ import annotations

import asyncio
import functools
import importlib.metadata
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy
import yaml
from tests.settings.validation import PRINTING, ROOT, printed

# Fixtures that tests of storage elsewhere use as well.
from tests.unit.conftest import adoption, storage

__all__ = ["adoption", "storage"]
ROLE = ROOT / "roles" / "jupyterhub"


def merged(settings: dict[str, Any], **sections: dict[str, Any]) -> dict[str, Any]:
    """Return a settings document with other values in some of its sections."""
    return {**settings, **{name: {**settings.get(name, {}), **values} for name, values in sections.items()}}


async def give_up_start(spawner: Any) -> None:
    """Begin a start and give it up, twice, while it is submitted: it ends at once, and is not forgotten."""
    start = asyncio.ensure_future(spawner.start())
    await asyncio.sleep(0.3)
    for _ in range(2):
        start.cancel()
        await asyncio.sleep(0)
    await asyncio.wait([start], timeout=0.3)
    assert start.cancelled()
    assert await spawner.poll() is None, "the hub would forget it"


@pytest.fixture(scope="session", autouse=True)
def databases() -> Iterator[None]:
    """Databases that need not outlive a failure of power: on a busy disk tests waited for it half of their time."""

    def wait_for_no_disk(connection: sqlite3.Connection, _record: Any) -> None:
        connection.execute("PRAGMA synchronous=OFF")

    sqlalchemy.event.listen(sqlalchemy.Engine, "connect", wait_for_no_disk)
    yield
    sqlalchemy.event.remove(sqlalchemy.Engine, "connect", wait_for_no_disk)


@pytest.fixture(scope="session", autouse=True)
def installed_packages() -> Iterator[None]:
    """What is installed, looked up once: a hub that starts asks seven times, and each time takes as long as a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jupyterhub.traitlets.entry_points", functools.cache(importlib.metadata.entry_points))
        yield


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the role writes to a host with either spawner: settings.json and the sudo rule, from its own templates."""
    directory = tmp_path_factory.mktemp("rendered")
    hosts = {
        "systemd": {},
        "sudo": {
            "jupyterhub_spawner": "sudo",
            "jupyterhub_allowed_users": ["alice"],
            "jupyterhub_admin_users": ["alice", "bob"],
            "jupyterhub_admin_groups": ["domain users"],
            "jupyterhub_group_limits": [{"group": "physics", "memory": "8G"}],
            "jupyterhub_environment": {"COURSE": 'Теория "1"', "OMP_NUM_THREADS": 4},
            "jupyterhub_memory_limit": "",
            "jupyterhub_cpu_limit": "0.5",
            "jupyterhub_named_servers": 2,
            "jupyterhub_idle_timeout": 0,
            "jupyterhub_database_url": "postgresql+psycopg://hub:pa55word@db/hub",
        },
        "profiles": {
            "jupyterhub_spawner": "sudo",
            "jupyterhub_profiles": [
                {"name": "course", "title": "Курс", "memory": "1G", "cpu": 1},
                {"name": "desk", "title": "Desktop", "interface": "desktop", "hours": [8, 1.5]},
            ],
        },
        "everybody": {"jupyterhub_spawner": "sudo", "jupyterhub_allow_all": True, "jupyterhub_allowed_groups": []},
        "ldap": {
            "jupyterhub_authenticator": "ldap",
            "jupyterhub_ldap_uris": ["ldaps://ldap1.example.org", "ldap://ldap2.example.org:1389"],
            "jupyterhub_ldap_bind_templates": ["uid={username},ou=people,dc=example,dc=org"],
        },
        "oidc": {
            "jupyterhub_authenticator": "oidc",
            "jupyterhub_oidc_issuer": "http://127.0.0.1:1/realm",
            "jupyterhub_oidc_allow_insecure": True,
            "jupyterhub_oidc_client_id": "hub",
            "jupyterhub_oidc_client_secret": "s3cret",
            "jupyterhub_oidc_name_claim": "email",
            "jupyterhub_oidc_groups_claim": "realm.groups",
            "jupyterhub_allowed_groups": ["hub-users"],
            "jupyterhub_login_domains": ["example.org"],
        },
        "subdomains": {
            "jupyterhub_authenticator": "oidc",
            "jupyterhub_oidc_issuer": "https://login.example.org/realm",
            "jupyterhub_subdomain_host": "https://hub.example.org:8443",
        },
        "slurm": {"jupyterhub_spawner": "slurm", "jupyterhub_slurm_partition": "short", "jupyterhub_slurm_hours": 8},
        "mixed": {
            "jupyterhub_profiles": [
                {"name": "here", "title": "Here"},
                {"name": "there", "title": "There", "run_on": "slurm", "partition": ["main", "big"]},
            ]
        },
        "mixed-slurm": {
            "jupyterhub_spawner": "slurm",
            "jupyterhub_profiles": [
                {"name": "here", "title": "Here", "run_on": "local"},
                {"name": "there", "title": "There"},
            ],
        },
        # Of other settings, a server runs on.
        "leftover": {
            "__jupyterhub_servers": {"stdout_lines": ["local systemd jupyterhub-user-ann.service", "slurm ann 7"]}
        },
        # As from the command line: -e jupyterhub_allow_all=no
        "text": {"jupyterhub_spawner": "sudo", "jupyterhub_allow_all": "no", "jupyterhub_allow_sudo": "no"},
    }
    (directory / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts}}, allow_unicode=True))
    templates = {"settings": "settings.json", "command": "server-command.json", "sudoers": "sudoers"}
    look_up = f"lookup('ansible.builtin.template', '{ROLE}/templates/%s.j2')"
    answer = {
        name: f"{{{{ {look_up % template}{' | from_json' if template.endswith('json') else ''} }}}}"
        for name, template in templates.items()
    }
    # Variables of a host would lose against those of a play's files, so they are a file, too.
    files = [f"{ROLE}/defaults/main.yml", f"{directory}/{{{{ inventory_hostname }}}}.yml", f"{ROLE}/vars/main.yml"]
    play = {
        "hosts": "all",
        "connection": "local",
        "gather_facts": False,
        "vars": {"ansible_python_interpreter": sys.executable, "ansible_facts": {"os_family": "Debian"}},
        "vars_files": files,
        "tasks": [{"ansible.builtin.debug": {"msg": answer}}],
    }
    for host, variables in hosts.items():
        (directory / f"{host}.yml").write_text(yaml.safe_dump(variables, allow_unicode=True))
    (directory / "play.yml").write_text(yaml.safe_dump([play]))
    run = subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", "-i", directory / "hosts.yml", directory / "play.yml"],
        cwd=ROOT,
        env=PRINTING,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return printed(run.stdout)
