"""The program that makes and removes the temporary directories of a user, on real files."""

from __future__ import annotations

import os
import time
from pathlib import Path

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


def test_nothing_is_made_where_a_user_was_first(tmp_path: Path) -> None:
    (tmp_path / "2001").symlink_to(tmp_path)
    with pytest.raises(FileExistsError):
        user_tmp.make(tmp_path / "2001", tmp_path / "places" / "2001")
