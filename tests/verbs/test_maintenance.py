"""What `campushub maintenance` writes, and what it refuses; the hub's half is in test_lifetime.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run_playbook(directory: Path, *options: str) -> tuple[int, str]:
    inventory = directory / "hosts.yml"
    inventory.write_text("hub: {hosts: {here: {ansible_connection: local, ansible_become: false}}}\n")
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(inventory), "--check", "--diff"]
    settings = {"TZ": "Europe/Moscow", "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    done = subprocess.run(
        [*command, str(ROOT / "playbooks/maintenance.yml"), *options],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **settings},
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ('{"maintenance_state": "maybe"}', "'maybe' is neither on nor off"),
        ('{"maintenance_state": "on", "maintenance_at": "2026-01-01 10:00"}', "is in the past, and servers would be"),
        ('{"maintenance_state": "on", "maintenance_at": "noon"}', "from: 'noon' is no time. Write it as 18:00"),
    ],
)
def test_what_is_wrong_is_named_before_anything_is_done(tmp_path: Path, values: str, problem: str) -> None:
    status, printed = run_playbook(tmp_path, "-e", values)
    assert status
    assert problem in printed
    assert "Write the maintenance" not in printed


@pytest.mark.parametrize(
    ("keep", "stop", "text"), [("false", "true", "servers are stopped then"), ("true", "false", "go on")]
)
def test_maintenance_is_written_and_announced(tmp_path: Path, keep: str, stop: str, text: str) -> None:
    values = f'{{"maintenance_state": "on", "maintenance_at": "2096-01-01 10:00", "maintenance_keep_servers": {keep}}}'
    status, printed = run_playbook(tmp_path, "-e", values)
    assert status == 0, printed
    assert f'"stop": {stop}' in printed
    assert '"from": 39' in printed
    assert '"when": "2096-01-01 10:00 MSK"' in printed
    assert "Maintenance from 2096-01-01 10:00 MSK on." in printed
    assert text in printed
    assert "Работы с 2096-01-01 10:00 MSK." in printed


def test_maintenance_off_takes_both_away(tmp_path: Path) -> None:
    for name in ("maintenance", "announcement"):
        (tmp_path / f"{name}.json").write_text(f'{{"comment": "Managed by CampusHub", "of": "the {name}"}}\n')
    off = f'{{"maintenance_state": "off", "maintenance_directory": "{tmp_path}"}}'
    status, printed = run_playbook(tmp_path, "-e", off)
    assert status == 0, printed
    for name in ("maintenance", "announcement"):
        assert f'-{{"comment": "Managed by CampusHub", "of": "the {name}"}}' in printed
    assert "\n+{" not in printed
