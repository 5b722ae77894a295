"""What `campushub announce` writes, and what it refuses."""

from __future__ import annotations

import datetime as dt
import json
import os
import runpy
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible.errors import AnsibleFilterError

ROOT = Path(__file__).resolve().parents[2]
announcement = runpy.run_path(str(ROOT / "plugins/filter/announcement.py"))["announcement"]


def clock(**later: float) -> str:
    return f"{dt.datetime.now().astimezone() + dt.timedelta(**later):%Y-%m-%d %H:%M}"


def test_an_announcement_has_its_texts_and_times() -> None:
    document = json.loads(announcement("Slow", {"ru": "Медленно"}, clock(hours=1), clock(hours=2)))
    assert document["texts"] == {"": "Slow", "ru": "Медленно"}
    assert document["until"] - document["from"] == 3600
    assert abs(document["from"] - time.time() - 3600) < 61
    assert json.loads(announcement("Slow"))["until"] is None


def test_another_announcement_is_shown_to_who_closed_the_last() -> None:
    documents = [announcement("Slow"), announcement("Slow", {"ru": "Медленно"}), announcement("Fast")]
    assert len({json.loads(document)["id"] for document in documents}) == 3
    assert announcement("Slow") == documents[0]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("",), "it is empty. Write 1 to 500"),
        (("x" * 501,), "has 501 characters"),
        (("a\x1b[0m",), "printable"),
        (("Slow", {"russian": "x"}), "'russian' is no code of a language"),
        (("Slow", {"ru": " "}), "it is empty"),
        (("Slow", {}, "", "soon"), "until: 'soon' is no time. Write it as 18:00"),
        (("Slow", {}, "25:00"), "from: '25:00' is no time"),
        (("Slow", {}, "", "2026-01-01 10:00"), "until: '2026-01-01 10:00' is in the past, it is 2"),
        (("Slow", {}, clock(hours=2), clock(hours=1)), "is not after from"),
    ],
)
def test_what_is_wrong_is_named(arguments: tuple[str, ...], problem: str) -> None:
    with pytest.raises(AnsibleFilterError) as raised:
        announcement(*arguments)
    assert problem in str(raised.value)


def run_playbook(inventory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(inventory), "--check", *options]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    return subprocess.run(
        [*command, str(ROOT / "playbooks/announce.yml")], capture_output=True, text=True, check=False, env=environment
    )


def test_the_playbook_names_a_time_in_the_past(tmp_path: Path) -> None:
    """Before it touches anything."""
    inventory = tmp_path / "hosts.yml"
    inventory.write_text("hub: {hosts: {here: {ansible_connection: local, ansible_become: false}}}\n")
    wrong = run_playbook(inventory, "-e", '{"announce_text": "Slow", "announce_until": "2026-01-01 10:00"}')
    assert wrong.returncode
    assert "until: '2026-01-01 10:00' is in the past" in wrong.stdout + wrong.stderr
    right = run_playbook(inventory, "-e", '{"announce_text": "Slow: {x}"}', "--diff")
    assert right.returncode == 0, right.stdout + right.stderr
    assert '"": "Slow: {x}"' in right.stdout
