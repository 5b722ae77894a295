"""What several unit tests need of the machine: orphans that are theirs, and storage that hangs."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.settings.validation import ROOT

PR_SET_CHILD_SUBREAPER = 36
# The real one, whatever stand-ins a test has.
UMOUNT = shutil.which("umount") or "umount"


@pytest.fixture(scope="module")
def adoption() -> Iterator[None]:
    """Orphans become children of the tests, which then bury them, as the host's init would."""
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    yield
    libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


class Storage:
    """A network file system's directory of the user who runs the tests; see tests/hanging_files.py, a stand-in."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.kind = directory, ""
        directory.mkdir(parents=True)
        self.mount()

    def mount(self) -> None:
        """Mount it with a server that answers."""
        command = [sys.executable, str(ROOT / "tests" / "hanging_files.py"), str(self.directory), str(os.getuid())]
        command += [self.kind] if self.kind else []
        self.server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert self.server.stdout
        assert self.server.stdout.readline() == "mounted\n"

    def hang(self) -> None:
        """Let the server take requests and answer none."""
        self._tell(signal.SIGUSR1, "hangs\n")

    def go_on(self) -> None:
        """Let it answer them, and all others."""
        self._tell(signal.SIGUSR2, "answers\n")

    def _tell(self, number: int, said: str) -> None:
        self.server.send_signal(number)
        assert self.server.stdout
        assert self.server.stdout.readline() == said

    def die(self) -> None:
        """End the server, if it has not ended; the mount stays."""
        with self.server:
            self.server.kill()

    def unmount(self) -> None:
        """Take the mount away."""
        subprocess.run([UMOUNT, "--lazy", self.directory], check=True)


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    """A directory whose server can hang and die."""
    if os.getuid() != 0 or not os.access("/dev/fuse", os.W_OK):
        pytest.skip("only root can mount the stand-in for a network file system, and only where there is /dev/fuse")
    made = Storage(tmp_path / "net" / "homes")
    yield made
    made.die()
    made.unmount()
