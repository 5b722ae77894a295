"""How users' files are reached whose names are no text: Jupyter's own manager of files, on real files."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import threading
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import pytest
from tornado.web import HTTPError

from roles.jupyter.files.campushub_server import contents
from roles.jupyter.files.campushub_server.contents import CampusContentsManager

Result = TypeVar("Result")
# "Пример" as Windows wrote it, and a letter of the private use area that is really one.
NAMES = [b"\xcf\xf0\xe8\xec\xe5\xf0.txt", b"a\xff\xfeb.txt", "\uf780.txt".encode(), "Теория.txt".encode()]


def run(awaitable: Coroutine[Any, Any, Result]) -> Result:
    return asyncio.run(awaitable)


@pytest.fixture
def manager(tmp_path: Path) -> CampusContentsManager:
    for name in NAMES:
        (tmp_path / os.fsdecode(name)).write_bytes(name)
        folder = tmp_path / os.fsdecode(b"folder-" + name)
        folder.mkdir()
        (folder / os.fsdecode(name)).write_bytes(name)
    made = CampusContentsManager(root_dir=str(tmp_path), delete_to_trash=False)
    made.always_delete_dir = True
    return made


def listed(manager: CampusContentsManager, path: str = "") -> list[str]:
    """Return the paths in a folder, each as a browser sends it."""
    model = json.loads(json.dumps(run(manager.get(path)), default=str))
    paths = [str(entry["path"]) for entry in model["content"]]
    # As encodeURIComponent(), which refuses surrogates.
    "".join(paths).encode()
    return paths


def test_all_names_can_be_opened(manager: CampusContentsManager) -> None:
    files = [path for path in listed(manager) if "folder" not in path]
    assert sorted(run(manager.get(path, format="base64"))["content"] for path in files) == sorted(
        run(manager.get(os.fsdecode(name), format="base64"))["content"] for name in NAMES
    )
    folders = [path for path in listed(manager) if "folder" in path]
    inside = [path for folder in folders for path in listed(manager, folder)]
    assert len(set(inside)) == len(NAMES)
    for path in inside:
        assert run(manager.get(path, type="file", format="base64"))["size"] > 0


def test_all_names_can_be_changed_and_files_deleted(manager: CampusContentsManager, tmp_path: Path) -> None:
    for number, path in enumerate(listed(manager)):
        run(manager.rename_file(path, f"new-{number}"))
    assert sorted(listed(manager)) == sorted(f"new-{number}" for number in range(8))
    for folder in [path for path in listed(manager) if (tmp_path / path).is_dir()]:
        (path,) = listed(manager, folder)
        run(manager.delete_file(path))
        assert listed(manager, folder) == []


def test_files_are_saved_under_the_name_that_they_have(manager: CampusContentsManager, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    for path in [path for path in listed(manager) if "folder" not in path]:
        run(manager.save({"type": "file", "format": "text", "content": "new"}, path))
        assert run(manager.get(path))["content"] == "new"
    assert sorted(tmp_path.iterdir()) == before


def test_a_copy_is_beside_the_file(manager: CampusContentsManager) -> None:
    path = next(path for path in listed(manager) if path.startswith("a"))
    copy = run(manager.copy(path))
    assert copy["path"] in listed(manager)


def test_nothing_outside_is_reached(manager: CampusContentsManager) -> None:
    for path in ("../etc/passwd", "\uf780/../../etc", "folder/../../x"):
        with pytest.raises(HTTPError):
            run(manager.get(path))


def test_a_full_disk_is_named_and_leaves_no_piece(
    manager: CampusContentsManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for a full disk; molecule/jupyter has a real one."""

    def full(*_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    model = {"type": "file", "format": "text", "content": "new"}
    with pytest.raises(HTTPError) as raised:
        run(manager.save(model, "new.txt"))
    assert raised.value.status_code == 507
    assert raised.value.log_message == "Not saved: the disk, or your quota of it, is full. (new.txt)"
    assert not (tmp_path / "new.txt").exists()


def test_of_an_upload_that_fails_later_nothing_is_left(
    manager: CampusContentsManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large files come in pieces; what has been there before the first stays."""

    async def full(*_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    piece = {"type": "file", "format": "text", "content": "piece"}
    run(manager.save(piece | {"chunk": 1}, "whole.txt"))
    run(manager.save(piece | {"chunk": -1}, "whole.txt"))
    run(manager.save(piece | {"chunk": 1}, "new.txt"))
    monkeypatch.setattr(manager, "_save_large_file", full)
    for name in ("new.txt", "whole.txt"):
        with pytest.raises(HTTPError, match="is full"):
            run(manager.save(piece | {"chunk": 2}, name))
    assert not (tmp_path / "new.txt").exists()
    assert (tmp_path / "whole.txt").read_text() == "piecepiece"


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for remote storage, where each fsync takes a while."""
    fsync = os.fsync

    def late(handle: int) -> None:
        time.sleep(0.3)
        fsync(handle)

    monkeypatch.setattr(os, "fsync", late)


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("known", [True, False], ids=["known", "new"])
@pytest.mark.parametrize("kind", ["file", "notebook"])
def test_two_saves_of_one_file_leave_one_of_both_whole(
    manager: CampusContentsManager, tmp_path: Path, kind: str, known: bool
) -> None:
    """Two pages with one notebook, say."""
    texts = [letter * 100_000 for letter in "ab"]
    contents: list[Any] = texts
    if kind == "notebook":
        cell = {"cell_type": "markdown", "metadata": {}}
        contents = [
            {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{**cell, "id": "c", "source": text}]}
            for text in texts
        ]
    folder = tmp_path / "both"
    folder.mkdir()
    name = {"file": "plan.txt", "notebook": "plan.ipynb"}[kind]
    form = {"file": "text", "notebook": "json"}[kind]
    if known:
        (folder / name).write_text("old")

    async def save_twice() -> None:
        models = [{"type": kind, "format": form, "content": content} for content in contents]
        await asyncio.gather(*(manager.save(model, f"both/{name}") for model in models))

    run(save_twice())
    found = (folder / name).read_text()
    assert (found if kind == "file" else "".join(json.loads(found)["cells"][0]["source"])) in texts
    assert [path.name for path in folder.iterdir() if path.is_file()] == [name]
    checkpoints = [path.name for path in folder.glob(".ipynb_checkpoints/*")]
    assert checkpoints == (["plan-checkpoint.ipynb"] if kind == "notebook" else [])


@pytest.mark.usefixtures("slow")
def test_two_checkpoints_of_one_file_are_no_error(manager: CampusContentsManager, tmp_path: Path) -> None:
    (tmp_path / "plan.txt").write_text("old")

    async def make_twice() -> None:
        await asyncio.gather(*(manager.create_checkpoint("plan.txt") for _ in range(2)))

    run(make_twice())
    (checkpoint,) = (tmp_path / ".ipynb_checkpoints").iterdir()
    assert checkpoint.read_text() == "old"


def test_a_failed_save_leaves_that_of_another_page(
    manager: CampusContentsManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full for the later of two that save a new file; a stand-in for such a disk."""
    fsync, first = os.fsync, threading.Event()

    def full_at_last(handle: int) -> None:
        if os.fstat(handle).st_size == len("small"):
            fsync(handle)
            first.set()
            return
        assert first.wait(5)
        time.sleep(0.2)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_at_last)

    async def save_both() -> list[Any]:
        models = [{"type": "file", "format": "text", "content": content} for content in ("much text", "small")]
        return list(await asyncio.gather(*(manager.save(model, "new.txt") for model in models), return_exceptions=True))

    failed, saved = run(save_both())
    assert isinstance(failed, HTTPError)
    assert saved["size"] == len("small")
    assert (tmp_path / "new.txt").read_text() == "small"


@pytest.mark.parametrize(("kind", "chunk"), [("file", None), ("file", 1), ("notebook", None)])
def test_slow_storage_does_not_hold_up_the_server(
    manager: CampusContentsManager, monkeypatch: pytest.MonkeyPatch, kind: str, chunk: int | None
) -> None:
    """Neither for a whole file nor for a piece of an upload."""
    fsync, threads = os.fsync, set()

    def noted(handle: int) -> None:
        threads.add(threading.get_ident())
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    content: Any = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": []} if kind == "notebook" else "new"
    model = {"type": kind, "format": "text", "content": content} | ({"chunk": chunk} if chunk else {})
    run(manager.save(model, "slow"))
    assert threads
    assert threading.get_ident() not in threads


def test_checkpoints_lie_beside_their_file(manager: CampusContentsManager, tmp_path: Path) -> None:
    for folder in [path for path in listed(manager) if "folder" in path]:
        (path,) = listed(manager, folder)
        run(manager.create_checkpoint(path))
        assert len(run(manager.list_checkpoints(path))) == 1
    assert len(list(tmp_path.glob("*/.ipynb_checkpoints/*"))) == len(NAMES)


def test_a_save_changes_nothing_but_the_content(manager: CampusContentsManager, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "target.txt").write_text("old")
    (folder / "target.txt").chmod(0o640)
    (tmp_path / "link.txt").symlink_to("folder/target.txt")
    (folder / "one.txt").write_text("old")
    (folder / "other.txt").hardlink_to(folder / "one.txt")
    os.setxattr(folder / "target.txt", "user.origin", b"here")
    for path in ("link.txt", "folder/one.txt"):
        run(manager.save({"type": "file", "format": "text", "content": "new\n"}, path))
    assert (tmp_path / "link.txt").is_symlink()
    assert [(folder / name).read_text() for name in ("target.txt", "one.txt", "other.txt")] == ["new\n"] * 3
    assert (folder / "target.txt").stat().st_mode & 0o777 == 0o640
    assert os.getxattr(folder / "target.txt", "user.origin") == b"here"
    assert sorted(path.name for path in folder.iterdir()) == ["one.txt", "other.txt", "target.txt"]
    os.utime(folder / "target.txt", (1, 1))
    run(manager.save({"type": "file", "format": "text", "content": ""}, "link.txt"))
    assert (folder / "target.txt").read_text() == ""
    assert (folder / "target.txt").stat().st_mtime > 1


def test_the_longest_names_can_be_saved_again(manager: CampusContentsManager, tmp_path: Path) -> None:
    for name in ("n" * 251 + ".txt", "n" * 249 + ".txt"):
        run(manager.save({"type": "file", "format": "text", "content": "first"}, name))
        assert (tmp_path / name).read_text() == "first"
    run(manager.save({"type": "file", "format": "text", "content": "second"}, "n" * 249 + ".txt"))
    assert (tmp_path / ("n" * 249 + ".txt")).read_text() == "second"


def test_what_a_save_left_that_was_cut_off_is_removed(
    manager: CampusContentsManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the next save of that file, once it is too old to be of one that is under way."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "plan.txt").write_text("old")
    child = os.fork()
    if not child:
        with contents.replacement(str(folder / "plan.txt")) as handle:
            os.write(handle, b"half")
            os._exit(0)
    os.waitpid(child, 0)
    (left,) = (path for path in folder.iterdir() if path.name != "plan.txt")
    model = {"type": "file", "format": "text", "content": "new"}
    run(manager.save(model, "folder/plan.txt"))
    assert left.read_text() == "half"
    monkeypatch.setattr(contents, "LEFTOVER_SECONDS", 0)
    run(manager.save(model, "folder/other.txt"))
    assert left.exists()
    run(manager.save(model, "folder/plan.txt"))
    assert sorted(path.name for path in folder.iterdir()) == ["other.txt", "plan.txt"]
    assert (folder / "plan.txt").read_text() == "new"


def test_a_link_in_the_way_of_a_save_leads_nowhere(manager: CampusContentsManager, tmp_path: Path) -> None:
    """In a folder of a group somebody else may put it there."""
    (tmp_path / "victim.txt").write_text("theirs")
    (tmp_path / "shared.txt").write_text("old")
    (tmp_path / ".ipynb_checkpoints").mkdir()
    for name in ("shared.txt", ".ipynb_checkpoints/shared-checkpoint.txt"):
        new, handle = contents.open_new(str(tmp_path / name))
        os.close(handle)
        Path(new).unlink()
        Path(new).symlink_to(tmp_path / "victim.txt")
    run(manager.save({"type": "file", "format": "text", "content": "new"}, "shared.txt"))
    run(manager.create_checkpoint("shared.txt"))
    assert (tmp_path / "victim.txt").read_text() == "theirs"
    assert (tmp_path / "shared.txt").read_text() == "new"
    (tmp_path / "shared.txt").write_text("newer")
    run(manager.restore_checkpoint("checkpoint", "shared.txt"))
    assert (tmp_path / "shared.txt").read_text() == "new"
