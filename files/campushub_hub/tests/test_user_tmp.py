"""The program that makes and removes the temporary directories of a user, on real files."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from campushub_hub.host import user_tmp


def test_directories_are_made_anew_for_the_first_server(tmp_path: Path) -> None:
    place, link = tmp_path / "tmp" / "2001", tmp_path / "places" / "2001"
    user_tmp.make(place, link)
    (place / "tmp" / "left").touch()
    # As after a host that went down.
    user_tmp.make(place, link)
    assert link.resolve() == place
    assert sorted(path.name for path in place.iterdir()) == ["tmp", "var-tmp"]
    assert {path.stat().st_mode & 0o7777 for path in place.iterdir()} == {0o1777}
    assert place.stat().st_mode & 0o777 == place.parent.stat().st_mode & 0o777 == 0o700
    assert list((place / "tmp").iterdir()) == []
    is_alone(place)


def is_alone(place: Path) -> None:
    """What is deleted beside it goes by itself."""
    end = time.monotonic() + 20
    while list(place.parent.iterdir()) not in ([], [place]):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_all_that_a_user_has_left_goes_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, runtime, other = tmp_path / "tmp" / "2001", tmp_path / "run" / "2001", tmp_path / "other"
    link = tmp_path / "places" / "2001"
    user_tmp.make(place, link)
    other.mkdir()
    (other / "file").touch()
    (place / "tmp" / "link").symlink_to(other)
    (place / "tmp" / "closed").mkdir(mode=0)
    # Deeper than Python can recurse, and than a path can be long.
    monkeypatch.chdir(place / "var-tmp")
    for _ in range(3000):
        Path("d" * 20).mkdir()
        os.chdir("d" * 20)
    os.chdir(tmp_path)
    (runtime / "displays").mkdir(parents=True)
    (runtime / "kernel.json").touch()
    (runtime / user_tmp.TOKEN).touch()
    (runtime / "link").symlink_to(other)
    user_tmp.remove(link, runtime)
    assert not place.exists()
    assert not link.is_symlink()
    is_alone(place)
    assert [path.name for path in runtime.iterdir()] == [user_tmp.TOKEN]
    assert (other / "file").exists()


@pytest.mark.attack
def test_names_that_fit_on_no_command_line_are_removed(tmp_path: Path) -> None:
    runtime = tmp_path / "run" / "2001"
    runtime.mkdir(parents=True)
    for number in range(12_000):
        (runtime / f"-rf {number:0240}").touch()
    (runtime / user_tmp.TOKEN).touch()
    user_tmp.remove(tmp_path / "places" / "2001", runtime)
    assert [path.name for path in runtime.iterdir()] == [user_tmp.TOKEN]


def test_tmp_goes_whatever_comes_of_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, link = tmp_path / "tmp" / "2001", tmp_path / "places" / "2001"
    user_tmp.make(place, link)
    (tmp_path / "run" / "2001").mkdir(parents=True)

    def fail(_uid: str) -> bool:
        raise OSError("no room")

    monkeypatch.setattr(user_tmp, "runs_former_server", fail)
    with pytest.raises(OSError, match="no room"):
        user_tmp.remove(link, tmp_path / "run" / "2001")
    assert not place.exists()
    assert not link.is_symlink()


@pytest.mark.parametrize(
    ("slice_of", "state", "runs"), [(2001, "active", True), (2001, "deactivating", False), (2002, "active", False)]
)
def test_a_server_without_these_directories_keeps_its_files(
    monkeypatch: pytest.MonkeyPatch, slice_of: int, state: str, runs: bool
) -> None:
    """What systemctl shows of two scopes, one of which has ended."""
    ended = "Slice=jupyterhub-2001.slice\nActiveState=inactive\n"
    shown = f"{ended}\nSlice=jupyterhub-{slice_of}.slice\nActiveState={state}\n"
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(stdout=shown))
    assert user_tmp.runs_former_server("2001") == runs


def test_nothing_is_mounted_over_files_of_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What systemctl and mount would do is written down; where there are no quotas the mount goes without."""
    running = ["jupyterhub-user-2001-1.service loaded active running", ""]
    asked: list[list[str]] = []

    def run(command: list[str], **_: Any) -> Any:
        if command[0].endswith("systemctl"):
            return SimpleNamespace(stdout=running.pop(0).encode())
        asked.append(command)
        return SimpleNamespace(returncode=int("usrquota" in command[4]))

    monkeypatch.setattr(subprocess, "run", run)
    user_tmp.mount(tmp_path / "users")
    assert asked == []
    user_tmp.mount(tmp_path / "users")
    assert [command[4] for command in asked] == [f"{user_tmp.SPACE},{user_tmp.QUOTA}", user_tmp.SPACE]
    # It is there.
    user_tmp.mount(Path("/proc"))
    assert len(asked) == 2


def test_nothing_is_made_where_a_user_was_first(tmp_path: Path) -> None:
    (tmp_path / "2001").symlink_to(tmp_path)
    with pytest.raises(FileExistsError):
        user_tmp.make(tmp_path / "2001", tmp_path / "places" / "2001")
