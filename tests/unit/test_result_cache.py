"""What modules remember of a host, and what makes them look at it again."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import result_cache

ANSWER = {"changed_paths": ["none"]}


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(result_cache, "DIRECTORY", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A folder with a file, a link to it, and a folder of its own."""
    made = tmp_path / "etc"
    (made / "app.d").mkdir(parents=True)
    (made / "app.conf").write_text("first\n")
    (made / "link").symlink_to("app.conf")
    return made


def remember(directory: Path, name: str = "asked") -> None:
    paths = [str(directory / path) for path in ("app.conf", "link", "app.d", "nothing")]
    result_cache.CacheEntry(name, paths, [f"{directory}/app.d/*.conf"]).store(ANSWER)


def test_an_answer_holds_while_nothing_is_touched(directory: Path, store: Path) -> None:
    remember(directory)
    (directory / "app.conf").read_text()
    (directory / "app.d" / "README").write_text("no pattern has it\n")
    assert result_cache.valid_results() == {"asked": ANSWER}
    # Names of settings and files are nobody else's business.
    assert store.stat().st_mode & 0o777 == 0o700


def test_an_answer_may_end_with_a_date(directory: Path) -> None:
    for until, holds in ((time.time() + 60, True), (time.time() - 1, False)):
        result_cache.CacheEntry("asked", [str(directory / "app.conf")]).store(ANSWER, until=until)
        assert bool(result_cache.valid_results()) is holds


def put_another(path: Path, kind: Callable[[Path], Any]) -> None:
    """Put something else in the place of a file or link."""
    path.unlink()
    kind(path)


CHANGES: dict[str, Callable[[Path], Any]] = {
    "same length": lambda path: (path / "app.conf").write_text("other\n"),
    "mode": lambda path: (path / "app.conf").chmod(0o600),
    "time set back": lambda path: os.utime(path / "app.conf", ns=(0, 0)),
    "removed": lambda path: (path / "app.conf").unlink(),
    "a file that was not there": lambda path: (path / "nothing").touch(),
    "a folder that lets others in": lambda path: (path / "app.d").chmod(0o777),
    "a match more": lambda path: (path / "app.d" / "x.conf").touch(),
    "a link in its place": lambda path: put_another(path / "app.conf", lambda place: place.symlink_to("/dev/null")),
    "a link elsewhere": lambda path: put_another(path / "link", lambda place: place.symlink_to("app.d")),
    "another of the same text": lambda path: put_another(path / "app.conf", lambda place: place.write_text("first\n")),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_whatever_is_touched_is_looked_at_again(directory: Path, store: Path, change: Callable[[Path], Any]) -> None:
    remember(directory)
    # Before Linux 6.13 files have the time of the last tick, of which there are at least 100 a second.
    time.sleep(0.02)
    change(directory)
    assert result_cache.valid_results() == {}
    # What does not hold any more goes with the next answer.
    remember(directory, "asked next")
    assert [path.name for path in store.iterdir()] == ["asked next"]


def test_a_change_while_the_module_looks_is_seen(directory: Path) -> None:
    entry = result_cache.CacheEntry("asked", [str(directory / "app.conf")])
    (directory / "app.conf").write_text("meanwhile\n")
    entry.store(ANSWER)
    assert result_cache.valid_results() == {}


def test_what_was_cut_off_or_has_no_name_says_nothing(directory: Path, store: Path) -> None:
    remember(directory)
    result_cache.CacheEntry(None, [str(directory / "app.conf")]).store(ANSWER)
    assert [path.name for path in store.iterdir()] == ["asked"]
    (store / "asked").write_text((store / "asked").read_text()[:-9])
    assert result_cache.valid_results() == {}


def test_a_full_disk_is_no_failure(directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can mount a file system that is full")
    full = tmp_path / "var"
    full.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "full", full], check=True)
    try:
        (full / "log").write_bytes(b"x" * 4096)
        monkeypatch.setattr(result_cache, "DIRECTORY", f"{full}/store")
        remember(directory)
        assert result_cache.valid_results() == {}
    finally:
        subprocess.run(["umount", full], check=True)
