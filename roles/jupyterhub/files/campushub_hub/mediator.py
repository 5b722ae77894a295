#!/usr/bin/python3 -I
"""
Start or stop a server as the user it belongs to.

``mediator.py spawn`` and ``mediator.py stop`` are the two commands that the hub's sudo rule allows. This reads what
it needs to know as JSON from standard input and answers with JSON on standard output, as SudoSpawner expects of its
mediator. Unlike the one it ships, this one imports nothing beyond the standard library, ends as soon as the server
is on its way and leaves no process behind.
"""

from __future__ import annotations

import json
import os
import pwd
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

COMMAND = Path("/etc/jupyterhub/server-command.json")
JOURNAL = "/run/systemd/journal/stdout"
# What would make the server load code from places that the hub's user chooses.
FORBIDDEN = ("LD_", "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP")


def journal() -> int:
    """
    Return a stream into the host's journal, as sd_journal_stream_fd(3) makes it.

    The server outlives the hub, so its output must not end in a pipe that the hub holds.
    """
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stream.connect(JOURNAL)
    stream.sendall(f"jupyterhub-user-{pwd.getpwuid(os.getuid()).pw_name}\n\n6\n0\n0\n0\n0\n".encode())
    return stream.detach()


def spawn(args: list[str], env: dict[str, str]) -> dict[str, Any]:
    """Start the server detached from this process and answer with its process number."""
    command: list[str] = json.loads(COMMAND.read_text())
    environment = {name: value for name, value in env.items() if not name.startswith(FORBIDDEN)}
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        # The server's own process. A failed exec is told through the pipe that a good one closes.
        os.write(writer, str(os.getpid()).encode())
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        try:
            output = journal()
            os.dup2(output, 1)
            os.dup2(output, 2)
            # The hub's own umask hides everything, also from those people want to share a file with.
            os.umask(0o022)
            os.chdir(os.path.expanduser("~"))
            os.execve(command[0], [*command, *args], environment)  # noqa: S606
        except (OSError, TypeError, ValueError) as error:
            os.write(writer, f" {error}".encode())
            os._exit(1)
    os.close(writer)
    os.wait()
    with os.fdopen(reader) as pipe:
        pid_text, _, problem = pipe.read().partition(" ")
    return {"ok": False, "error": problem} if problem else {"ok": True, "pid": int(pid_text)}


def control_group(pid: int) -> str:
    """Return the control group of a process as the kernel writes it, or nothing if it is gone."""
    try:
        return Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return ""


def runs(pid: int) -> bool:
    """Return whether a process of this user's is there and has not ended."""
    try:
        return send(pid, 0) and Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        # It ended between the two.
        return False


def send(pid: int, number: int) -> bool:
    """Send a signal and return whether there was somebody to get it."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def stop(pid: int, patience: float) -> dict[str, Any]:
    """End a server, and after it or after `patience` seconds all that it left in its control group."""
    if pid <= 1:
        # To kill(2) such a number is everything that the user runs.
        return {"ok": False, "error": f"{pid} is no server"}
    group = control_group(pid)
    end = time.monotonic() + patience
    alive = send(pid, signal.SIGTERM)
    while alive and time.monotonic() < end:
        time.sleep(0.05)
        alive = runs(pid)
    send(pid, signal.SIGKILL)
    if f"jupyterhub-{os.getuid()}.slice" in group and group != control_group(os.getpid()):
        # More than once, for a process may start another one while it is looked for.
        for _ in range(20):
            members = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
            if not [pid for pid in members if control_group(pid) == group and send(pid, signal.SIGKILL)]:
                break
            time.sleep(0.02)
    return {"ok": True, "alive": False}


def main(action: str) -> int:
    """Do what the command line says, and answer on standard output."""
    request = json.load(sys.stdin)
    # The word on the command line decides, for by it the session was limited or not; see user_session.
    if action == "spawn":
        answer = spawn([str(argument) for argument in request["args"]], request["env"])
    else:
        answer = stop(int(request["pid"]), float(request["patience"]))
    json.dump(answer, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
