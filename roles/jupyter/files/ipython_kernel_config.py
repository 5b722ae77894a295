# Managed by CampusHub
# ruff: noqa: SLF001  # the two private methods are what is replaced here
"""
Keep kernels from listening on TCP ports, which every user of the host can connect to.

What a kernel says to its server goes through sockets in the user's own directory already. Two ports are left,
which ipykernel has no setting for. All Python kernels read this file, those in users' own environments too.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import sys
import tempfile
from typing import Any

import zmq
from ipykernel.iostream import IOPubThread
from jupyter_core.paths import jupyter_runtime_dir
from zmq.eventloop.zmqstream import ZMQStream


def remove_left(directory: str) -> None:
    """Remove the sockets of kernels that have gone; most are ended in a way that lets them remove nothing."""
    for path in glob.glob(f"{directory}/kernel-*-children"):
        if not os.path.exists(f"/proc/{path.split('-')[-2]}"):
            with contextlib.suppress(OSError):
                os.unlink(path)


def listen_to_children(self: Any) -> None:
    """Let forked children print through a socket that only the user can reach."""
    self._pipe_uuid = os.urandom(16)
    directory = jupyter_runtime_dir()
    os.makedirs(directory, mode=0o700, exist_ok=True)
    remove_left(directory)
    self._pipe_port = f"ipc://{directory}/kernel-{os.getpid()}-children"
    socket = self.socket.context.socket(zmq.PULL)
    socket.linger = 0
    try:
        socket.bind(self._pipe_port)
    except zmq.ZMQError as error:
        print(f"Output of child processes will be missing: {self._pipe_port}: {error}", file=sys.__stderr__)
        self._pipe_flag = False
        socket.close()
        return
    self._pipe_in = ZMQStream(socket, self.io_loop)
    self._pipe_in.on_recv(self._handle_pipe_msg)


def connect_to_parent(self: Any) -> tuple[zmq.Context[Any], zmq.Socket[Any]]:
    """Connect a forked child to its parent. A context does not survive a fork."""
    context = zmq.Context()
    socket = context.socket(zmq.PUSH)
    socket.linger = 3000
    socket.connect(self._pipe_port)
    return context, socket


if hasattr(IOPubThread, "_setup_pipe_in") and hasattr(IOPubThread, "_setup_pipe_out"):
    IOPubThread._setup_pipe_in = listen_to_children
    IOPubThread._setup_pipe_out = connect_to_parent

# The debugger listens without a password. A kernel that does not find debugpy when it starts offers none.
if "debugpy" not in sys.modules:
    sys.modules["debugpy"] = None  # type: ignore[assignment]  # this is how Python marks what must not be found
    with contextlib.suppress(ImportError):
        import ipykernel.debugger  # noqa: F401
    del sys.modules["debugpy"]

# Without room for it the history of inputs would be an empty file, or an old one be put away as corrupt.
try:
    with tempfile.TemporaryFile(dir=os.path.expanduser(os.environ.get("IPYTHONDIR") or "~/.ipython")) as file:
        os.posix_fallocate(file.fileno(), 0, 64 * 1024)
except OSError as error:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        get_config().HistoryManager.hist_file = ":memory:"  # noqa: F821 (IPython gives it to this file)
