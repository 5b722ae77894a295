"""Secrets are made once, kept, and seen by nobody."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import result_cache

from plugins.modules import generated_secrets
from tests.unit.modules import run_module


@pytest.fixture(params=[0o022, 0o000, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """Whatever umask Ansible's user has."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def make(path: Path, *names: str, check: bool = False) -> dict[str, Any]:
    files = [{"path": str(path), "names": list(names)}]
    return run_module(generated_secrets.main, check=check, files=files)


def secrets_of(path: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in path.read_text().splitlines())


@pytest.mark.usefixtures("umask")
def test_secrets_are_made_for_their_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "etc" / "secrets" / "hub.env"
    answer = make(path, "COOKIE", "CRYPT")
    assert (answer["changed"], answer["made"]) == (True, ["COOKIE", "CRYPT"])
    found = secrets_of(path)
    assert [name for name, value in found.items() if re.fullmatch("[0-9a-f]{64}", value)] == ["COOKIE", "CRYPT"]
    assert found["COOKIE"] != found["CRYPT"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    # What lies beside the secrets is for others, too.
    assert path.parent.parent.stat().st_mode & 0o777 == 0o755


def test_a_secret_is_put_into_another_text(tmp_path: Path) -> None:
    hub, door = tmp_path / "hub.env", tmp_path / "door.conf"
    files = [{"path": str(hub), "names": ["PROOF"]}, {"path": str(door), "text": "~^/hub/login(\\?|$) {PROOF};\n"}]
    assert run_module(generated_secrets.main, check=True, files=files)["changed"]
    assert not door.exists()
    assert run_module(generated_secrets.main, files=files)["made"] == ["PROOF"]
    assert door.read_text() == f"~^/hub/login(\\?|$) {secrets_of(hub)['PROOF']};\n"
    assert door.stat().st_mode & 0o777 == 0o600
    assert not run_module(generated_secrets.main, files=files)["changed"]
    # It follows its secret.
    hub.write_text("PROOF=another\n")
    assert run_module(generated_secrets.main, files=files)["changed"]
    assert "another" in door.read_text()


def test_a_second_run_keeps_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "hub.env"
    make(path, "COOKIE")
    before = path.read_text()
    answer = make(path, "COOKIE")
    assert (answer["changed"], answer["made"]) == (False, [])
    assert path.read_text() == before


def test_a_missing_or_empty_secret_is_added_and_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "hub.env"
    path.write_text("MINE=kept=as it is\nEMPTY=\n")
    path.chmod(0o600)
    answer = make(path, "EMPTY", "NEW", "MINE")
    assert answer["made"] == ["EMPTY", "NEW"]
    found = secrets_of(path)
    assert list(found) == ["MINE", "EMPTY", "NEW"]
    assert found["MINE"] == "kept=as it is"
    assert len(found["EMPTY"]) == len(found["NEW"]) == 64


def test_a_file_that_others_can_read_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "hub.env"
    make(path, "COOKIE")
    path.chmod(0o640)
    told = make(path, "COOKIE", check=True)
    assert (told["changed"], path.stat().st_mode & 0o777) == (True, 0o640)
    answer = make(path, "COOKIE")
    assert (answer["changed"], answer["made"], path.stat().st_mode & 0o777) == (True, [], 0o600)


def test_check_mode_tells_and_makes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "secrets" / "hub.env"
    answer = make(path, "COOKIE", check=True)
    assert (answer["changed"], answer["made"]) == (True, ["COOKIE"])
    assert not path.parent.exists()


def test_no_secret_is_in_the_answer(tmp_path: Path) -> None:
    path = tmp_path / "hub.env"
    answer = json.dumps(make(path, "COOKIE"))
    assert secrets_of(path)["COOKIE"] not in answer


def test_what_a_run_that_was_cut_off_left_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "hub.env"
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / ".hub.env.new").symlink_to(elsewhere)
    make(path, "COOKIE")
    assert not elsewhere.exists()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["hub.env"]


def test_a_result_holds_while_no_file_is_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result_cache, "DIRECTORY", str(tmp_path / "store"))
    path = tmp_path / "hub.env"

    def ask() -> dict[str, Any]:
        return run_module(generated_secrets.main, files=[{"path": str(path), "names": ["COOKIE"]}], cache_key="asked")

    assert ask()["changed"]
    assert not result_cache.valid_results(), "what was changed is looked at once more"
    assert not ask()["changed"]
    assert result_cache.valid_results() == {"asked": {"made": []}}
    assert secrets_of(path)["COOKIE"] not in (tmp_path / "store" / "asked").read_text()
    path.unlink()
    assert not result_cache.valid_results()
