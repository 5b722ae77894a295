"""The watch over mounts: what hangs, what is dead, how it comes back. The file system stands in for a network's."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.settings.validation import ROOT

from .conftest import Storage

PROGRAM = ROOT / "roles" / "homes" / "files" / "watch_mounts.py"
MODULE: dict[str, Any] = runpy.run_path(str(PROGRAM))

TABLE = """\
22 1 0:20 / / rw - ext4 /dev/sda1 rw
30 22 0:40 / /net/home rw - autofs systemd-1 rw
31 30 0:41 / /net/home rw - fuse.glusterfs server:/homes rw
32 22 0:42 / /net/other rw - autofs systemd-1 rw
33 22 0:43 / /network rw - fuse.sshfs other rw
34 22 0:44 / /net/data rw - nfs4 server:/data rw
"""


def test_mounts_below_a_directory_are_read_from_the_kernel(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(TABLE)
    found = MODULE["mounts_below"]("/net", table)
    assert [(mount.place, mount.kind, mount.device) for mount in found] == [
        ("/net/home", "fuse.glusterfs", "0:41"),
        ("/net/data", "nfs4", "0:44"),
    ]
    assert [mount.place for mount in MODULE["mounts_below"]("/net/data", table)] == ["/net/data"]


class Watched:
    """A mount of the stand-in, and the watch over it."""

    def __init__(self, directory: Path, storage: Storage) -> None:
        self.directory, self.storage, self.metrics = directory, storage, directory / "m" / "x.prom"
        self.place = storage.directory
        # The files by which connections are given up; on a host a unit of systemd mounts them.
        self.connections = directory / "connections"
        self.connections.mkdir()
        subprocess.run(["mount", "-t", "fusectl", "none", self.connections], check=True)

    def look(self, action: str = "log") -> str:
        """Look once; return what goes to the journal."""
        driver = f"""
import pathlib, runpy, sys
sys.argv = ["watch", {str(self.place.parent)!r}, "0.7", {str(self.metrics)!r}, {action!r}]
module = runpy.run_path({str(PROGRAM)!r})
module["main"].__globals__["STATE"] = pathlib.Path({str(self.directory / "state")!r})
module["main"].__globals__["CONNECTIONS"] = pathlib.Path({str(self.connections)!r})
module["main"](sys.argv[1], 0.7, pathlib.Path(sys.argv[3]), sys.argv[4])
"""
        begin = time.monotonic()
        done = subprocess.run([sys.executable, "-c", driver], capture_output=True, text=True, check=True)
        assert time.monotonic() - begin < 6
        return done.stderr

    def measured(self) -> dict[str, int]:
        """The metrics of the mount by their names."""
        found = re.findall(r'^campushub_mount_(\w+)\{mount="([^"]*)"\} (\d+)$', self.metrics.read_text(), re.MULTILINE)
        assert {place for _, place, _ in found} <= {str(self.place)}
        return {name: int(value) for name, _, value in found}


@pytest.fixture
def watched(tmp_path: Path, storage: Storage, adoption: None) -> Iterator[Watched]:  # noqa: ARG001 (it only has to be there)
    made = Watched(tmp_path, storage)
    yield made
    subprocess.run(["umount", made.connections], check=True)


def at_mounts() -> list[int]:
    """Who was sent to a mount and sits there; the tests have adopted them."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [int(child) for child in children if "watch_mounts" in Path(f"/proc/{child}/cmdline").read_text()]


def all_leave() -> None:
    """Nobody sits at a mount any more."""
    end = time.monotonic() + 5
    while at_mounts():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_mount_that_is_well(watched: Watched) -> None:
    assert watched.look() == ""
    assert watched.measured() == {"up": 1, "waiting_requests": 0}
    assert watched.metrics.stat().st_mode & 0o777 == 0o644


def test_a_mount_that_hangs_is_told_and_no_crowd_is_sent_there(watched: Watched) -> None:
    watched.storage.hang()
    for _ in range(3):
        assert f"{watched.place} (fuse): it does not answer; " in watched.look()
        assert len(at_mounts()) == 1
        assert watched.measured()["up"] == 0
        assert watched.measured()["waiting_requests"] >= 1
    watched.storage.go_on()
    all_leave()
    assert watched.look() == ""
    assert watched.measured() == {"up": 1, "waiting_requests": 0}


def test_a_mount_whose_server_is_dead_is_told(watched: Watched) -> None:
    watched.storage.die()
    assert "Transport endpoint is not connected" in watched.look()
    assert watched.measured() == {"up": 0, "waiting_requests": 0}


@pytest.mark.parametrize("fault", ["hangs", "dead"])
def test_an_unavailable_mount_is_remounted_where_allowed(watched: Watched, fault: str) -> None:
    if fault == "hangs":
        watched.storage.hang()
    else:
        watched.storage.die()
    assert "given up, to be mounted again" in watched.look("remount")
    assert not os.path.ismount(watched.place)
    all_leave()
    watched.storage.die()
    watched.storage.mount()
    assert watched.look("remount") == ""
    assert watched.measured()["up"] == 1
