"""The last lines of a run name the hosts that are not finished."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PLAYBOOK = """
- hosts: all
  gather_facts: false
  any_errors_fatal: {fatal}
  tasks:
    - name: Change something
      ansible.builtin.debug:
      changed_when: {changed}
    - name: Install the thing
      ansible.builtin.fail:
      when: inventory_hostname in {failing}
    - name: Fail and be forgiven
      ansible.builtin.fail:
      ignore_errors: true
"""
# A module of a role that has changed something, or may have, before it failed.
PARTLY = """
- hosts: all
  gather_facts: false
  tasks:
    - name: Do half of it
      ansible.builtin.command: "false"
      changed_when: {changed}
"""


@pytest.mark.parametrize(
    ("failing", "fatal", "changed", "expected"),
    [
        ([], False, True, None),
        (
            ["b"],
            False,
            True,
            (
                "NOT FINISHED: b: stopped at: Install the thing FINISHED: a, c What was done stays. Put right the "
                "cause shown above and run the same command again: it goes on there."
            ),
        ),
        (
            ["b"],
            True,
            False,
            "NOT FINISHED: b: stopped at: Install the thing STOPPED WITH THEM: a, c Nothing was changed.",
        ),
        (
            ["a", "b", "c"],
            False,
            False,
            (
                "NOT FINISHED: a: stopped at: Install the thing b: stopped at: Install the thing c: stopped at: "
                "Install the thing Nothing was changed."
            ),
        ),
    ],
)
def test_summary(tmp_path: Path, failing: list[str], fatal: bool, changed: bool, expected: str | None) -> None:
    returncode, output = play(tmp_path, PLAYBOOK.format(failing=failing, fatal=fatal, changed=changed))
    if expected is None:
        assert returncode == 0
        assert "NOT FINISHED" not in output
    else:
        assert returncode != 0
        assert output.endswith(expected)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (True, "What was done stays. Put right"),
        (False, "Nothing was changed before; the step itself may have done a part of its work. Put right"),
    ],
)
def test_what_a_step_that_failed_has_changed_is_told(tmp_path: Path, changed: bool, words: str) -> None:
    returncode, output = play(tmp_path, PARTLY.format(changed=changed))
    assert returncode != 0
    assert words in output
    assert not output.endswith("Nothing was changed.")


def play(directory: Path, text: str) -> tuple[int, str]:
    """Run a playbook and return how it ended, and what it printed, as one line."""
    playbook = directory / "play.yml"
    playbook.write_text(text)
    run = subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", "-i", "a,b,c", "-c", "local", playbook],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    return run.returncode, " ".join(run.stdout.split())
