"""The hub's own code as it lies in role jupyterhub, and what the role would write for it to read."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.settings.answers import PRINTING, ROOT, printed

PR_SET_CHILD_SUBREAPER = 36
ROLE = ROOT / "roles" / "jupyterhub"
sys.path.insert(0, str(ROLE / "files"))


@pytest.fixture(scope="module")
def adoption() -> Iterator[None]:
    """Orphans become children of the tests, which then bury them, as the host's init would."""
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    yield
    libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


class Storage:
    """A network file system's directory of the user who runs the tests; see tests/hanging_files.py, a stand-in."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        self.mount()

    def mount(self) -> None:
        """Mount it with a server that answers."""
        command = [sys.executable, str(ROOT / "tests" / "hanging_files.py"), str(self.directory), str(os.getuid())]
        self.server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert self.server.stdout
        assert self.server.stdout.readline() == "mounted\n"

    def hang(self) -> None:
        """Let the server take requests and answer none."""
        self.server.send_signal(signal.SIGUSR1)

    def go_on(self) -> None:
        """Let it answer them, and all others."""
        self.server.send_signal(signal.SIGUSR2)

    def die(self) -> None:
        """End the server; the mount stays."""
        self.server.kill()
        self.server.communicate()

    def unmount(self) -> None:
        """Take the mount away."""
        subprocess.run(["umount", "--lazy", self.directory], check=True)


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    """A directory whose server can hang and die."""
    if os.getuid() != 0 or not os.access("/dev/fuse", os.W_OK):
        pytest.skip("only root can mount the stand-in for a network file system, and only where there is /dev/fuse")
    made = Storage(tmp_path / "storage")
    yield made
    made.die()
    made.unmount()


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
            "jupyterhub_database_url": "postgresql+psycopg://hub:secret@db/hub",
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
        # As from the command line: -e jupyterhub_allow_all=no
        "text": {"jupyterhub_spawner": "sudo", "jupyterhub_allow_all": "no", "jupyterhub_allow_sudo": "no"},
    }
    (directory / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts}}, allow_unicode=True))
    answer = {
        "settings": "{{ __jupyterhub_settings }}",
        "command": "{{ __jupyterhub_server_command }}",
        "sudoers": f"{{{{ lookup('ansible.builtin.template', '{ROLE}/templates/sudoers.j2') }}}}",
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
