#!/usr/bin/env python3
"""
Run a program in a network of its own, in which there are only some ports of this machine's loopback address.

    blackhole_network.py PORT,PORT… PROGRAM [ARGUMENT]…

Chromium drops all its connections when a network interface comes or goes, as it does with each test host that is
started or removed. Here none ever does. Where the kernel lets nobody make such a network, the program runs without.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

UNSHARE = ["unshare", "--map-root-user", "--net"]
INSIDE = "--inside"
PR_SET_PDEATHSIG = 1

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry bytes from one side to the other until it ends."""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(2**16):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(ConnectionError, RuntimeError):
        writer.close()


async def join(one: Stream, other: Stream) -> None:
    """Connect two streams with each other."""
    await asyncio.gather(pump(one[0], other[1]), pump(other[0], one[1]))


async def bring_out(directory: Path, ports: list[int]) -> None:
    """Lead sockets in a directory to the ports of this machine."""
    for port in ports:

        async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int = port) -> None:
            try:
                there = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                writer.close()
                return
            await join((reader, writer), there)

        await asyncio.start_unix_server(forward, directory / str(port))


async def bring_in(directory: Path, ports: list[int]) -> None:
    """Lead ports of the new network to the sockets in a directory."""
    for port in ports:

        async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int = port) -> None:
            await join((reader, writer), await asyncio.open_unix_connection(directory / str(port)))

        await asyncio.start_server(forward, "127.0.0.1", port)
    # One write: print() makes two of it where Python does not buffer, and nobody reads the second.
    os.write(sys.stdout.fileno(), b"\n")
    await asyncio.Event().wait()


async def outside(ports: str, program: list[str]) -> int:
    """Start the program in its network and carry what it sends and gets."""
    with tempfile.TemporaryDirectory() as name:
        await bring_out(Path(name), [int(port) for port in ports.split(",")])
        command = [*UNSHARE, sys.executable, __file__, INSIDE, name, ports, *program]
        # Playwright talks to the browser through descriptors that it has opened.
        process = await asyncio.create_subprocess_exec(*command, close_fds=False)
        return await process.wait()


def inside(name: str, ports: str, program: list[str]) -> None:
    """Open the ports of the new network, then become the program."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    ready, tell = os.pipe()
    if os.fork() == 0:
        # It ends with the program.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        os.dup2(tell, 1)
        os.closerange(3, 1024)
        asyncio.run(bring_in(Path(name), [int(port) for port in ports.split(",")]))
    os.close(tell)
    os.read(ready, 1)
    os.close(ready)
    os.execvp(program[0], program)  # noqa: S606


def main(arguments: list[str]) -> int:
    """Do what the command line says."""
    if arguments[0] == INSIDE:
        inside(arguments[1], arguments[2], arguments[3:])
    ports, *program = arguments
    if subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode:
        os.execvp(program[0], program)  # noqa: S606
    return asyncio.run(outside(ports, program))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
