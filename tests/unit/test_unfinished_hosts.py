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
    playbook = tmp_path / "play.yml"
    playbook.write_text(PLAYBOOK.format(failing=failing, fatal=fatal, changed=changed))
    run = subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", "-i", "a,b,c", "-c", "local", playbook],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    output = " ".join(run.stdout.split())
    if expected is None:
        assert run.returncode == 0
        assert "NOT FINISHED" not in output
    else:
        assert run.returncode != 0
        assert output.endswith(expected)
