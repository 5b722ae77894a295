"""When a unit is to be restarted: by what the service manager says and by what lies on the disk."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from plugins.modules import unit_is_current
from tests.unit.modules import run_module


class Manager:
    """A stand-in for systemctl(1): it prints what the test says the service manager knows of the unit."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.program = directory / "bin" / "systemctl"
        self.program.parent.mkdir()
        monkeypatch.setenv("PATH", f"{self.program.parent}:{os.environ['PATH']}")
        self.says()

    def says(self, state: str = "active", reload: str = "no", started: float | None = None) -> None:
        """Set the unit's state, and since when it runs (in seconds since the machine started)."""
        moment = time.clock_gettime(time.CLOCK_MONOTONIC) if started is None else started
        printed = f"ActiveState={state}\nNeedDaemonReload={reload}\nInactiveExitTimestampMonotonic={int(moment * 1e6)}"
        self.program.write_text(f'#!/bin/sh\n[ "$1 $3" = "show hub.service" ] || exit 1\ncat <<END\n{printed}\nEND\n')
        self.program.chmod(0o755)


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manager:
    return Manager(tmp_path, monkeypatch)


def ask(*paths: Path | str, check: bool = False) -> dict[str, Any]:
    return run_module(unit_is_current.main, check=check, unit="hub.service", paths=[str(path) for path in paths])


def write(path: Path, text: str = "x") -> Path:
    path.write_text(text)
    # The file system's clock ticks in steps of a few milliseconds.
    time.sleep(0.03)
    return path


def test_a_unit_that_started_after_its_files_is_current(tmp_path: Path, manager: Manager) -> None:
    settings = write(tmp_path / "settings.json")
    manager.says()
    answer = ask(settings, tmp_path / "absent")
    assert (answer["changed"], answer["reason"]) == (False, "")


def test_a_file_that_changed_after_the_start_is_named(tmp_path: Path, manager: Manager) -> None:
    write(tmp_path / "old.py")
    manager.says()
    time.sleep(0.03)
    new = write(tmp_path / "new.py")
    for check in (False, True):
        answer = ask(tmp_path / "*.py", check=check)
        assert (answer["changed"], answer["reason"]) == (True, f"{new} changed")


def test_a_file_with_an_old_date_that_was_moved_into_place_counts(tmp_path: Path, manager: Manager) -> None:
    prepared = write(tmp_path / "prepared")
    os.utime(prepared, (1, 1))
    manager.says()
    time.sleep(0.03)
    prepared.rename(tmp_path / "settings.json")
    assert ask(tmp_path / "settings.json")["reason"] == f"{tmp_path}/settings.json changed"


def test_a_link_that_was_switched_counts_though_its_target_is_old(tmp_path: Path, manager: Manager) -> None:
    old = tmp_path / "hub-1"
    old.mkdir()
    time.sleep(0.03)
    manager.says()
    time.sleep(0.03)
    (tmp_path / "hub").symlink_to(old)
    assert ask(tmp_path / "hub")["reason"] == f"{tmp_path}/hub changed"


def test_a_file_that_went_away_counts_by_its_directory(tmp_path: Path, manager: Manager) -> None:
    directory = tmp_path / "config.d"
    directory.mkdir()
    write(directory / "site.py")
    manager.says()
    time.sleep(0.03)
    (directory / "site.py").unlink()
    assert ask(directory, directory / "*.py")["reason"] == f"{directory} changed"


@pytest.mark.parametrize(
    ("state", "reload", "reason"),
    [
        ("inactive", "no", "it does not run"),
        ("failed", "yes", "it does not run"),
        ("", "no", "it does not run"),
        ("active", "yes", "its definition changed"),
    ],
)
def test_what_the_service_manager_knows(tmp_path: Path, manager: Manager, state: str, reload: str, reason: str) -> None:
    settings = write(tmp_path / "settings.json")
    manager.says(state, reload)
    answer = ask(settings)
    assert (answer["changed"], answer["reason"]) == (True, reason)


def test_a_unit_that_is_not_there_does_not_run(manager: Manager) -> None:
    manager.program.write_text("#!/bin/sh\nexit 1\n")
    assert ask()["reason"] == "it does not run"
