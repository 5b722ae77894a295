"""The program that ends servers as root; systemctl(1) is a stand-in."""

from __future__ import annotations

from pathlib import Path

import pytest

from campushub_hub.host import stop

UNIT = "jupyterhub-user-2001-1764471600123456789.service"


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What systemctl was told; it says what a file has of the unit."""
    program, told = tmp_path / "systemctl", tmp_path / "told"
    program.write_text(f'#!/bin/sh\necho "$*" >>{told}\n[ $1 = stop ] || cat {tmp_path}/state\n')
    program.chmod(0o755)
    (tmp_path / "state").write_text("inactive\n")
    monkeypatch.setattr(stop, "SYSTEMCTL", str(program))
    return told


@pytest.mark.parametrize(
    ("state", "ended"), [("inactive", True), ("failed", True), ("active", False), ("deactivating", False), ("", False)]
)
def test_an_end_is_what_the_service_manager_says(told: Path, state: str, ended: bool) -> None:
    told.with_name("state").write_text(f"{state}\n")
    assert stop.main([UNIT]) == int(not ended)
    assert told.read_text().splitlines()[0] == f"stop --quiet -- {UNIT}"


@pytest.mark.parametrize("name", ["jupyterhub-user-2001-17.scope", "jupyterhub-user-2001-17-0.scope"])
def test_a_scope_of_a_former_release_is_stopped(told: Path, name: str) -> None:
    assert stop.main([name]) == 0
    assert told.read_text().splitlines()[0] == f"stop --quiet -- {name}"


def test_a_service_manager_that_hangs_is_not_waited_for(told: Path) -> None:
    told.with_name("systemctl").write_text("#!/bin/sh\nexec sleep 60\n")
    assert not stop.stop(UNIT, 0.2)


@pytest.mark.attack
@pytest.mark.parametrize(
    "arguments",
    [
        *([], [UNIT, UNIT], [""], ["--all"], ["jupyterhub.service"], ["jupyterhub-user-ann.service"]),
        *(["jupyterhub-user-2001-*.service"], [f"{UNIT} sshd.service"], [f"{UNIT}\n"], ["jupyterhub-2001.slice"]),
        *(["jupyterhub-tmp@2001.service"], [f"../{UNIT}"], ["jupyterhub-user-2001-1"], ["jupyterhub-user-٢-1.service"]),
    ],
)
def test_nothing_but_a_server_is_stopped(told: Path, arguments: list[str]) -> None:
    assert stop.main(arguments) == 2
    assert not told.exists()
