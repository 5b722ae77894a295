# Managed by CampusHub
"""
Keep kernels from listening on TCP ports, which every user of the host can connect to.

What a kernel says to its server goes through sockets in the user's own directory already. Two ports are left,
which ipykernel has no setting for. All Python kernels read this file, those in users' own environments too.
"""

import os
import sys

import zmq
from ipykernel.iostream import IOPubThread
from jupyter_core.paths import jupyter_runtime_dir
from zmq.eventloop.zmqstream import ZMQStream


def listen_to_children(self):
    """Let forked children print through a socket that only the user can reach."""
    self._pipe_uuid = os.urandom(16)
    self._pipe_port = f"ipc://{jupyter_runtime_dir()}/kernel-{os.getpid()}-children"
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


def connect_to_parent(self):
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
    sys.modules["debugpy"] = None
    try:
        import ipykernel.debugger  # noqa: F401
    except ImportError:
        pass
    finally:
        del sys.modules["debugpy"]
