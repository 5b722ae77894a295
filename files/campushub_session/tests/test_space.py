"""What takes the space in a home directory, on real files and file systems."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
import urllib.error

import pytest
from tornado.web import HTTPError

from campushub_session import disk_usage, space

MEGABYTE = 1 << 20


@pytest.fixture
def home(tmp_path):
    path = tmp_path / "home"
    path.mkdir()
    return path


def act(home, action, path=""):
    """Run the program as the server does."""
    request = json.dumps({"home": str(home), "action": action, "path": path})
    command = [sys.executable, "-I", "-S", disk_usage.__file__]
    return json.loads(subprocess.run(command, input=request, text=True, capture_output=True, check=True).stdout)


def write(path, megabytes=2, age=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(megabytes * MEGABYTE))
    os.utime(path, (time.time() - age,) * 2)
    return path


def found(home, kind):
    return {
        item["path"] or item["name"]: item["size"] // MEGABYTE
        for item in act(home, "scan")["items"]
        if item["kind"] == kind
    }


def test_the_largest_are_found_once_each(home):
    write(home / "data" / "run" / "big.bin", 5)
    write(home / "data" / "other" / "a.bin", 2)
    write(home / "small.txt", 0)
    os.link(home / "data" / "other" / "a.bin", home / "data" / "other" / "hard-link.bin")
    (home / "link").symlink_to("/usr")
    write(home / ".cache" / "pip" / "wheel", 3)
    write(home / ".npm" / "package", 1)
    write(home / ".cache" / "mozilla" / "page", 1)
    write(home / "work" / ".ipynb_checkpoints" / "a-checkpoint.ipynb", 2, age=40 * 86400)
    write(home / "work" / ".ipynb_checkpoints" / "b-checkpoint.ipynb", 2)
    write(home / ".local" / "share" / "Trash" / "files" / "gone", 4)
    assert list(found(home, "file").values()) == [5, 2]
    # A folder that has little else than one file is not named.
    assert found(home, "folder") == {"data": 7}
    assert found(home, "cache") == {".cache/pip": 3, ".npm": 1, ".cache/mozilla": 1}
    assert list(found(home, "trash").values()) == [4]
    assert list(found(home, "checkpoints").values()) == [2]
    report = act(home, "scan")
    assert report["complete"] is True
    assert report["home"]["bytes"]["used"] > 0


def test_other_file_systems_are_left_alone(home, small):
    inside = home / "mounted"
    inside.mkdir()
    write(small / "theirs", 2)
    subprocess.run(["mount", "--bind", small, inside], check=True)
    try:
        assert found(home, "file") == {}
        assert act(home, "delete", "mounted") == {"error": "mounted"}
        write(home / "outer" / "own", 1)
        (home / "outer" / "inner").mkdir()
        subprocess.run(["mount", "--bind", small, home / "outer" / "inner"], check=True)
        try:
            assert act(home, "delete", "outer")["left"] == 1
        finally:
            subprocess.run(["umount", home / "outer" / "inner"], check=True)
        assert (small / "theirs").exists()
    finally:
        subprocess.run(["umount", inside], check=True)


def test_what_is_deleted_comes_back_until_the_trash_is_emptied(home):
    name = os.fsdecode(b"\xcf\xf0 %41.txt")
    write(home / "folder" / name, 2)
    kept = act(home, "trash", f"folder/{name}")["name"]
    note = (home / ".local/share/Trash/info" / f"{kept}.trashinfo").read_text()
    assert f"Path={home}/folder/%CF%F0%20%2541.txt\n" in note
    assert not (home / "folder" / name).exists()
    assert act(home, "restore", kept) == {}
    assert (home / "folder" / name).stat().st_size == 2 * MEGABYTE
    # Two of one name, one of which has been written again.
    first = act(home, "trash", f"folder/{name}")["name"]
    write(home / "folder" / name, 1)
    second = act(home, "trash", f"folder/{name}")["name"]
    assert first != second
    (home / "folder" / name).touch()
    assert act(home, "restore", second) == {"error": "exists"}
    assert act(home, "empty")["freed"] // MEGABYTE == 3
    assert act(home, "restore", first) == {"error": "gone"}
    assert (home / "folder" / name).exists()


def test_folders_that_nobody_may_write_are_deleted(home):
    write(home / "packages" / "deep" / "file", 1)
    for path in (home / "packages" / "deep", home / "packages"):
        path.chmod(0o555)
    assert act(home, "delete", "packages")["freed"] >= MEGABYTE
    assert not (home / "packages").exists()


def test_old_checkpoints_alone_are_removed(home):
    old = write(home / "a" / ".ipynb_checkpoints" / "old-checkpoint.ipynb", 1, age=40 * 86400)
    new = write(home / "a" / ".ipynb_checkpoints" / "new-checkpoint.ipynb", 1)
    other = write(home / "a" / "old.ipynb", 1, age=40 * 86400)
    assert act(home, "checkpoints")["freed"] == MEGABYTE
    assert (old.exists(), new.exists(), other.exists()) == (False, True, True)


@pytest.mark.parametrize("path", ["", ".", "..", "../x", "/etc/passwd", "a/../../x", "a//b", "a/", "./a", "a\0b"])
@pytest.mark.parametrize("action", ["delete", "trash", "restore"])
def test_nothing_outside_has_a_name(home, tmp_path, action, path):
    write(tmp_path / "x", 1)
    write(home / "a" / "b", 1)
    assert act(home, action, path)["error"] in ("invalid", "gone")
    assert (tmp_path / "x").exists()
    assert (home / "a" / "b").exists()


def test_links_lead_nowhere(home, tmp_path):
    victim = write(tmp_path / "victim" / "file", 1)
    (home / "link").symlink_to(tmp_path / "victim")
    (home / "folder").mkdir()
    (home / "folder" / "link").symlink_to(tmp_path / "victim")
    assert act(home, "delete", "link/file") == {"error": "gone"}
    assert act(home, "trash", "link/file") == {"error": "gone"}
    assert act(home, "delete", "folder")["left"] == 0
    assert act(home, "delete", "link")["left"] == 0
    assert victim.exists()
    # A trash that is elsewhere is none.
    (home / ".local").symlink_to(tmp_path / "victim")
    write(home / "file", 1)
    assert act(home, "trash", "file") == {"error": "gone"}
    assert (home / "file").exists()


def test_a_folder_that_becomes_a_link_meanwhile_is_safe(home, tmp_path):
    """Somebody who may write in it replaces it again and again."""
    victim = tmp_path / "victim"
    for number in range(50):
        write(victim / f"{number}", 0)
    stop = threading.Event()

    def swap():
        # Until it is deleted.
        with contextlib.suppress(OSError):
            while not stop.is_set():
                (home / "shared" / "inner").rename(home / "shared" / "aside")
                (home / "shared" / "inner").symlink_to(victim)
                (home / "shared" / "inner").unlink()
                (home / "shared" / "aside").rename(home / "shared" / "inner")

    for _ in range(20):
        write(home / "shared" / "inner" / "file", 0)
        thread = threading.Thread(target=swap)
        stop.clear()
        thread.start()
        for _ in range(50):
            disk_usage.act(str(home), "delete", "shared/inner/file")
            disk_usage.act(str(home), "delete", "shared/inner")
        stop.set()
        thread.join()
        subprocess.run(["rm", "-rf", home / "shared"], check=True)
    assert len(list(victim.iterdir())) == 50


@pytest.mark.parametrize("what", ["bytes", "inodes"])
def test_without_room_for_the_trash_it_is_said_and_all_stays(small, what):
    write(small / "big", 1)
    with contextlib.suppress(OSError):
        with (small / "fill").open("wb", 0) as file:
            while what == "bytes":
                file.write(bytes(4096))
        for number in range(1000):
            (small / f"{number}").touch()
    assert act(small, "trash", "big") == {"error": "no_room"}
    assert (small / "big").stat().st_size == MEGABYTE
    assert act(small, "delete", "big") == {"freed": MEGABYTE, "left": 0}
    for number in range(10):
        (small / f"{number}").unlink(missing_ok=True)
    assert "name" in act(small, "trash", "fill")


def test_a_search_that_takes_too_long_says_what_it_has(home, monkeypatch):
    for number in range(100):
        write(home / f"{number}", 1)
    monkeypatch.setattr(disk_usage, "ENTRIES", 10)
    report = disk_usage.act(str(home), "scan", "")
    assert report["complete"] is False
    assert 0 < len(report["items"]) < 12


def test_storage_that_hangs_holds_nobody_up(home, tmp_path, monkeypatch):
    """A stand-in for the program hangs as on a dead NFS server, and is asked once."""
    program = tmp_path / "hangs.py"
    program.write_text(f"import time\nopen({str(tmp_path / 'asked')!r}, 'a').write('x')\ntime.sleep(60)")
    monkeypatch.setattr(space, "PROGRAM", program)
    monkeypatch.setattr(space, "SCAN_PATIENCE", 2)

    async def ask():
        asked = space.Space(home)
        answers = await asyncio.gather(asked.report(), asked.report(), return_exceptions=True)
        # It was killed, and this is noted.
        await asyncio.sleep(0.5)
        return answers

    started = time.monotonic()
    answers = asyncio.run(ask())
    assert time.monotonic() - started < 10
    assert [(type(answer), answer.status_code) for answer in answers] == [(HTTPError, 504)] * 2
    assert (tmp_path / "asked").read_text() == "x"


def test_the_server_answers_and_counts_nothing_as_activity(server):
    write(server.home / "unused.bin", 3)
    before = server.api("GET", "api/status")["last_activity"]
    time.sleep(0.1)
    items = server.api("GET", "api/session/space")["items"]
    assert [item["size"] for item in items if item["path"] == "unused.bin"] == [3 * MEGABYTE]
    kept = server.api("POST", "api/session/space", {"action": "trash", "path": "unused.bin"})["name"]
    server.api("POST", "api/session/space", {"action": "restore", "path": kept})
    assert (server.home / "unused.bin").exists()
    server.api("POST", "api/session/space", {"action": "delete", "path": "unused.bin"})
    assert not (server.home / "unused.bin").exists()
    assert server.api("GET", "api/status")["last_activity"] == before
    for body, status in (
        ({"action": "format", "path": "x"}, 400),
        ({"action": ["scan"]}, 400),
        ({"action": "delete", "path": 7}, 400),
        ({"action": "delete", "path": "../x"}, 400),
        ({"action": "delete", "path": "not-there"}, 404),
    ):
        with pytest.raises(urllib.error.HTTPError) as refused:
            server.api("POST", "api/session/space", body)
        assert refused.value.code == status
    with pytest.raises(urllib.error.HTTPError) as refused:
        server.api("GET", "api/session/space", token="guess")
    assert refused.value.code == 403
