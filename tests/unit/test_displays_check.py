"""Xpra is checked once for each version, and its place is taken where it fails; systemd-run and dpkg are stand-ins."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from plugins.modules import displays_check
from tests.unit.modules import run_module

WORKS = {"engine": "xpra", "version": "6.5.5", "tested": True, "ok": True, "reason": "", "seconds": 2.1}
FAILS = {**WORKS, "version": "6.6", "tested": False, "ok": False, "reason": "no picture came within 20 s."}


class Machine:
    """Where programs of the host are looked up, with stand-ins for those that are asked."""

    def __init__(self, directory: Path) -> None:
        self.bin = directory / "bin"
        self.settings = directory / "settings.json"
        self.state = directory / "state"
        self.python = directory / "user/bin/python"
        self.checks = directory / "checks"
        self.python.parent.mkdir(parents=True)
        self.python.touch()
        self.bin.mkdir()
        self.package("installed 6.5.5-0campushub.12345678")
        self.settings.write_text(
            '{\n    "DisplayManager": {\n        "engine": "xpra",\n        "limit": 4\n    }\n}\n'
        )

    def program(self, name: str, text: str) -> None:
        file = self.bin / name
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(0o755)

    def package(self, listed: str) -> None:
        self.program("dpkg-query", f"echo '{listed}'")

    def answer(self, found: dict[str, Any] | str) -> None:
        text = found if isinstance(found, str) else json.dumps(found)
        self.program("systemd-run", f"echo \"$*\" >>'{self.checks}'\nprintf '%s\\n' 'some log' '{text}'")

    def check(self, check: bool = False) -> dict[str, Any]:
        places = {"python": str(self.python), "settings": str(self.settings), "directory": str(self.state)}
        return run_module(displays_check.main, check=check, **places)

    def engine(self) -> str:
        return str(json.loads(self.settings.read_text())["DisplayManager"]["engine"])


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine(tmp_path)
    monkeypatch.setenv("PATH", f"{machine.bin}:{os.environ['PATH']}")
    machine.answer(WORKS)
    return machine


def test_a_version_is_checked_once_as_a_passing_user(machine: Machine) -> None:
    before = machine.settings.read_text()
    first = machine.check()
    assert (first["changed"], first["found"]["version"], first["said"]) == (True, "6.5.5", "")
    second = machine.check()
    assert (second["changed"], second["found"]["ok"]) == (False, True)
    checks = machine.checks.read_text().splitlines()
    assert len(checks) == 1
    assert "--property=DynamicUser=yes" in checks[0]
    assert machine.settings.read_text() == before
    assert (machine.state / "displays-check.json").stat().st_mode & 0o777 == 0o644


def test_another_version_of_either_is_checked_anew(machine: Machine, tmp_path: Path) -> None:
    machine.check()
    machine.package("installed 6.6.0-1")
    assert machine.check()["changed"]
    (tmp_path / "user").rename(tmp_path / "user-2")
    (tmp_path / "user").symlink_to("user-2")
    assert machine.check()["changed"]
    assert not machine.check()["changed"]
    assert len(machine.checks.read_text().splitlines()) == 3


def test_where_it_fails_tigervnc_takes_its_place_until_it_works(machine: Machine) -> None:
    before = machine.settings.read_text()
    machine.answer(FAILS)
    sentence = "Xpra 6.6 does not work on this host: no picture came within 20 s. TigerVNC makes the displays."
    assert machine.check()["said"] == sentence
    assert machine.engine() == "tigervnc"
    assert (machine.state / "xpra-failed").exists()
    again = machine.check()
    assert (again["changed"], again["said"]) == (False, sentence)
    machine.answer(WORKS)
    machine.package("installed 6.6.1-1")
    assert machine.check()["said"] == ""
    assert machine.settings.read_text() == before
    assert not (machine.state / "xpra-failed").exists()


def test_a_version_that_was_not_tested_is_said(machine: Machine) -> None:
    machine.answer({**WORKS, "version": "6.6", "tested": False})
    for _ in range(2):
        said = machine.check()["said"]
        assert said == "CampusHub was not tested with Xpra 6.6. A display was started with it, and works."


def test_a_check_that_breaks_is_no_success(machine: Machine) -> None:
    machine.program("systemd-run", "echo 'Failed to start transient service unit' >&2; exit 1")
    assert "the check itself failed: Failed to start transient service unit" in machine.check()["said"]
    assert machine.engine() == "tigervnc"


def test_check_mode_and_missing_parts_change_nothing(machine: Machine) -> None:
    assert machine.check(check=True)["changed"]
    assert not machine.state.exists()
    machine.package("config-files 6.5.5-1")
    assert not machine.check()["changed"]
    machine.package("installed 6.5.5-1")
    machine.python.unlink()
    assert not machine.check()["changed"]
    assert not machine.checks.exists()
