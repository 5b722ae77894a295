"""Runs the project's playbooks against a test host of Molecule, as an administrator would."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from testinfra.host import Host

ROOT = Path(__file__).resolve().parents[1]
# Molecule asks for colours, which would be in the middle of the messages.
PLAIN = {"ANSIBLE_FORCE_COLOR": "false", "ANSIBLE_NOCOLOR": "true"}


def instance(host: Host) -> dict[str, Any]:
    """Address, user and key of a test host."""
    config = yaml.safe_load(Path(os.environ["MOLECULE_INSTANCE_CONFIG"]).read_text())
    found: dict[str, Any] = next(item for item in config if item["address"] in str(host.backend.get_pytest_id()))
    return found


def run_playbook(host: Host, scratch: Path, playbook: str, *options: str, **settings: Any) -> tuple[int, str, float]:
    """Run a playbook with the host as hub; return its exit status, what it printed as one line, and its seconds."""
    where = instance(host)
    variables = {
        "ansible_host": where["address"],
        "ansible_user": where["user"],
        "ansible_ssh_private_key_file": where["identity_file"],
        "ansible_ssh_common_args": "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR",
        # The test hosts trust whom this machine's administrator trusts.
        "base_ca_certificates": sorted(str(path) for path in Path("/usr/local/share/ca-certificates").glob("*.crt")),
        **settings,
    }
    inventory = scratch / "hosts.yml"
    inventory.write_text(yaml.safe_dump({"hub": {"hosts": {"server": variables}}}))
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", "-i", inventory, playbook, *options],
        cwd=ROOT,
        env={**os.environ, **PLAIN, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, " ".join((done.stdout + done.stderr).split()), time.monotonic() - started
