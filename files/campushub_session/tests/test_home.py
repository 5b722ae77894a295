"""The disk of the home directory, also while it does not answer."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from campushub_session import home


def answered(disk):
    deadline = time.monotonic() + 5
    while not (amount := disk.amount()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return amount


def test_home_is_as_full_as_its_file_system_says(tmp_path):
    disk = home.Home(tmp_path)
    disk.refresh()
    amount = answered(disk)
    status = os.statvfs(tmp_path)
    free = amount["limit"] - amount["used"]
    assert abs(free - status.f_bavail * status.f_frsize) < 1 << 30


def test_storage_that_hangs_is_unknown_and_asked_once(tmp_path, monkeypatch):
    """A stand-in for statvfs() hangs as that of a dead NFS server does."""
    hanging, asked, real = threading.Event(), [], os.statvfs
    disk = home.Home(tmp_path)
    disk.refresh()
    assert answered(disk)

    def statvfs(path):
        asked.append(path)
        hanging.wait()
        return real(path)

    monkeypatch.setattr(os, "statvfs", statvfs)
    monkeypatch.setattr(home, "PATIENCE", 0.1)
    for _ in range(3):
        disk.refresh()
        time.sleep(0.1)
    assert disk.amount() is None
    assert asked == [tmp_path]
    hanging.set()
    assert answered(disk)


def test_home_that_is_not_there_is_unknown():
    disk = home.Home(Path("/nonexistent"))
    disk.refresh()
    time.sleep(0.2)
    assert disk.amount() is None
