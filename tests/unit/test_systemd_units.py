"""Units that run, and which of them are outdated: by what the service manager says and by what lies on the disk."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import result_cache

from plugins.modules import systemd_units
from tests.unit.modules import run_module


class Manager:
    """A stand-in for systemctl(1): it prints what the test says the service manager knows of the unit hub.service."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.program = directory / "bin" / "systemctl"
        self.program.parent.mkdir()
        self.orders_file = directory / "orders"
        monkeypatch.setenv("PATH", f"{self.program.parent}:{os.environ['PATH']}")
        self.says()

    def says(
        self,
        state: str = "active",
        reload: str = "no",
        started: float | None = None,
        enabled: str = "enabled",
        drop_ins: str = "",
    ) -> None:
        """Set the unit's state, and since when it runs (in seconds since the machine started)."""
        moment = time.clock_gettime(time.CLOCK_MONOTONIC) if started is None else started
        printed = f"ActiveState={state}\nNeedDaemonReload={reload}\nInactiveExitTimestampMonotonic={int(moment * 1e6)}"
        self.program.write_text(f"""#!/bin/sh
if [ "$1" != show ]; then
  echo "$*" >>{self.orders_file}
  [ "$*" != "start broken.service" ] || {{ echo Job failed. >&2; exit 1; }}
  exit
fi
shift
for unit; do
  case $unit in --*) continue ;; esac
  cat <<END
{printed}
UnitFileState={enabled}
DropInPaths={drop_ins}

END
done
""")
        self.program.chmod(0o755)

    def orders(self) -> list[str]:
        """Return what it was told to do."""
        return self.orders_file.read_text().splitlines() if self.orders_file.exists() else []


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manager:
    monkeypatch.setattr(systemd_units, "RECORDS", str(tmp_path / "records"))
    return Manager(tmp_path, monkeypatch)


def apply(
    *reads: Path | str, check: bool = False, wait: bool = True, names: tuple[str, ...] = ("hub.service",)
) -> dict[str, Any]:
    units = [{"name": name, "reads": [str(path) for path in reads]} for name in names]
    return run_module(systemd_units.main, check=check, units=units, wait=wait)


def reason(*reads: Path | str, check: bool = False) -> str | None:
    """Why the unit is to be restarted, which is a change; None if it is not."""
    answer = apply(*reads, check=check)
    assert answer["changed"] == bool(answer["outdated"])
    outdated: dict[str, str] = answer["outdated"]
    return outdated.get("hub.service")


def write(path: Path, text: str = "x") -> Path:
    path.write_text(text)
    # The file system's clock ticks in steps of a few milliseconds.
    time.sleep(0.03)
    return path


def test_a_unit_that_started_after_its_files_is_current(tmp_path: Path, manager: Manager) -> None:
    settings = write(tmp_path / "settings.json")
    manager.says()
    assert reason(settings, tmp_path / "absent") is None
    assert manager.orders() == []


def test_a_file_that_changed_after_the_start_is_named(tmp_path: Path, manager: Manager) -> None:
    write(tmp_path / "old.py")
    manager.says()
    time.sleep(0.03)
    new = write(tmp_path / "new.py")
    for check in (False, True):
        assert reason(tmp_path / "*.py", check=check) == f"{new} changed"
    assert manager.orders() == []


def test_a_moved_file_with_an_old_date_counts(tmp_path: Path, manager: Manager) -> None:
    prepared = write(tmp_path / "prepared")
    os.utime(prepared, (1, 1))
    manager.says()
    time.sleep(0.03)
    prepared.rename(tmp_path / "settings.json")
    assert reason(tmp_path / "settings.json") == f"{tmp_path}/settings.json changed"


def test_a_switched_link_with_an_old_target_counts(tmp_path: Path, manager: Manager) -> None:
    old = tmp_path / "hub-1"
    old.mkdir()
    time.sleep(0.03)
    manager.says()
    time.sleep(0.03)
    (tmp_path / "hub").symlink_to(old)
    assert reason(tmp_path / "hub") == f"{tmp_path}/hub changed"


def test_a_file_that_went_away_counts_by_its_directory(tmp_path: Path, manager: Manager) -> None:
    directory = tmp_path / "config.d"
    directory.mkdir()
    write(directory / "site.py")
    manager.says()
    time.sleep(0.03)
    (directory / "site.py").unlink()
    assert reason(directory, directory / "*.py") == f"{directory} changed"


def test_a_file_that_went_away_alone_is_named(tmp_path: Path, manager: Manager) -> None:
    url, settings = write(tmp_path / "database_url"), write(tmp_path / "settings.json")
    manager.says()
    assert reason(url, settings) is None
    url.unlink()
    time.sleep(0.03)
    # Also where the run that has found it was cut off before the restart.
    for check in (True, False, False):
        assert reason(url, settings, check=check) == f"{url} was removed"
    time.sleep(0.03)
    manager.says()
    assert reason(url, settings) is None


def test_a_file_that_is_no_longer_asked_about_is_not_missed(tmp_path: Path, manager: Manager) -> None:
    old, new = write(tmp_path / "old"), write(tmp_path / "new")
    manager.says()
    assert reason(old, new) is None
    assert reason(new) is None
    old.unlink()
    # As the handlers, which only wait for the unit.
    assert reason() is None
    assert reason(new) is None


def test_a_file_that_went_while_the_unit_stood_is_no_matter(tmp_path: Path, manager: Manager) -> None:
    url = write(tmp_path / "database_url")
    manager.says()
    assert reason(url) is None
    url.unlink()
    manager.says("inactive")
    assert apply(url)["outdated"] == {}
    time.sleep(0.03)
    manager.says()
    assert reason(url) is None


@pytest.mark.parametrize("text", ["", "{", '{"found": []'])
def test_a_record_that_was_cut_off_restarts_nothing(tmp_path: Path, manager: Manager, text: str) -> None:
    settings = write(tmp_path / "settings.json")
    (tmp_path / "records").mkdir()
    write(tmp_path / "records" / "hub.service.json", text)
    manager.says()
    assert reason(settings) is None


def test_a_changed_definition_is_read_and_the_unit_outdated(manager: Manager) -> None:
    manager.says(reload="yes")
    assert reason(check=True) == "its definition changed"
    assert manager.orders() == []
    assert reason() == "its definition changed"
    assert manager.orders() == ["daemon-reload"]


def test_a_drop_in_that_was_not_read_is_found(
    tmp_path: Path, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systemd_units, "UNITS", str(tmp_path))
    (tmp_path / "hub.service.d").mkdir()
    drop_in = write(tmp_path / "hub.service.d" / "site.conf")
    manager.says()
    assert reason() == "its definition changed"
    assert manager.orders() == ["daemon-reload"]
    manager.says(drop_ins=f"/run/other.conf {drop_in}")
    assert reason() is None


@pytest.mark.parametrize("state", ["inactive", "failed", ""])
def test_stopped_units_are_started_together_and_are_current(manager: Manager, state: str) -> None:
    manager.says(state, enabled="disabled")
    both = ("hub.service", "proxy.service")
    answer = apply("/etc/passwd", check=True, names=both)
    assert (answer["changed"], answer["started"], answer["outdated"], manager.orders()) == (True, list(both), {}, [])
    answer = apply("/etc/passwd", names=both)
    assert (answer["changed"], answer["started"], answer["outdated"]) == (True, list(both), {})
    assert manager.orders() == ["enable --quiet hub.service proxy.service", "start hub.service proxy.service"]


def test_nobody_need_wait_for_what_is_started(manager: Manager) -> None:
    manager.says(state="inactive")
    assert apply(wait=False)["started"] == ["hub.service"]
    assert manager.orders() == ["start --no-block hub.service"]


def test_a_unit_that_does_not_start_names_its_log(manager: Manager) -> None:
    manager.says("failed")
    answer = apply(names=("broken.service",))
    assert answer["failed"]
    assert answer["msg"] == "systemctl start broken.service: Job failed. See: journalctl -u broken.service"


def test_a_result_is_valid_while_the_service_runs_what_it_read(
    manager: Manager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result_cache, "DIRECTORY", str(tmp_path / "store"))
    (tmp_path / "of-init").write_text("3:cpu:/\n1:name=systemd:/container/init.scope\n")
    monkeypatch.setattr(systemd_units, "GROUPS", str(tmp_path / "of-init"))
    monkeypatch.setattr(systemd_units, "CONTROL_GROUPS", {"name=systemd": str(tmp_path / "groups")})
    monkeypatch.setattr(systemd_units, "UNITS", str(tmp_path / "units"))
    monkeypatch.setattr(systemd_units, "DEFINITIONS", (str(tmp_path / "units"),))
    group, settings, unit = (
        tmp_path / "groups/container/system.slice/hub.service",
        tmp_path / "settings",
        tmp_path / "units/hub.service",
    )
    wanted = tmp_path / "units/multi-user.target.wants/hub.service"
    for path in (settings / "one", unit, wanted):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")

    def is_cached() -> bool:
        manager.says()
        arguments: dict[str, Any] = {"units": [{"name": "hub.service", "reads": [str(settings)]}], "cache_key": "asked"}
        assert not run_module(systemd_units.main, **arguments)["changed"]
        return "asked" in result_cache.valid_results()

    assert not is_cached(), "nothing is known of a service without a control group"
    group.mkdir(parents=True)
    assert is_cached()
    # The service manager makes a new one at each start.
    group.rename(tmp_path / "of-the-last-start")
    group.mkdir()
    assert not result_cache.valid_results()
    assert is_cached()
    # By which a file that is gone is found; it is made again.
    (tmp_path / "records/hub.service.json").unlink()
    assert not result_cache.valid_results()
    assert not is_cached()
    for change in (
        group.rmdir,
        lambda: unit.write_text("[Service]"),
        wanted.unlink,
        lambda: (settings / "two").write_text(""),
        lambda: (settings / "one").write_text("changed"),
        lambda: (tmp_path / "units/hub.service.d/more.conf").write_text(""),
    ):
        group.mkdir(exist_ok=True)
        (tmp_path / "units/hub.service.d").mkdir(exist_ok=True)
        assert is_cached()
        change()
        assert not result_cache.valid_results()
