#!/usr/bin/env python3
"""
What the bar of limits costs a user's server, and how soon a kernel's end is told.

    sudo .venv-test/bin/python tests/benchmarks/session.py [--seconds 60] [--kills 20]

Servers run with and without the package campushub_session, in a control group with a memory limit, each with a client
that listens to its events as an open page does, and with a kernel. CPU time and memory are those of the server's
process. A kill is told when its event arrives at the client, counted from the moment at which the control group has
counted it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tornado.httpclient import HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "files/campushub_session"), str(ROOT / "files/campushub_session/tests")]
from conftest import run_server  # type: ignore[import-not-found]  # noqa: E402  # of that package

CPU_LIMIT, MEMORY_LIMIT = 0.2, 3.0
HEADERS = {"Authorization": "token secret"}
EAT = "blocks = []\nwhile True:\n    blocks.append(bytearray(20_000_000))"


async def listen(server: Any, path: str) -> WebSocketClientConnection:
    """Open a WebSocket of a server."""
    url = f"{server.url}{path}".replace("http", "ws", 1)
    return await websocket_connect(HTTPRequest(url, headers=HEADERS))


def figures(pid: int) -> tuple[float, float]:
    """Return the CPU time of a process, in seconds, and its own and shared part of memory (PSS), in MB."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().split()
    cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return cpu, int(rollup[rollup.index("Pss:") + 1]) * 1024 / 1e6


async def cost(server: Any, seconds: float) -> tuple[float, float]:
    """Return the CPU of a server with an open page, in percent of a core, and its memory in MB."""
    server.api("POST", "api/kernels", {"name": "python3"})
    await listen(server, "api/events/subscribe")
    await asyncio.sleep(10)
    before, started = figures(server.process.pid)[0], time.monotonic()
    await asyncio.sleep(seconds)
    after, memory = figures(server.process.pid)
    return (after - before) / (time.monotonic() - started) * 100, memory


async def kill(server: Any, kernel: str) -> float:
    """Have a kernel killed for want of memory; return the seconds until it is told."""
    events = await listen(server, "api/events/subscribe")
    channels = await listen(server, f"api/kernels/{kernel}/channels")
    header = {"msg_id": str(time.monotonic()), "msg_type": "execute_request", "version": "5.3", "username": ""}
    content = {"code": EAT, "silent": False, "store_history": False, "user_expressions": {}, "allow_stdin": False}
    message = {"header": {**header, "session": "x"}, "parent_header": {}, "metadata": {}, "content": content}
    kills = server.out_of_memory_kills()
    await channels.write_message(json.dumps({**message, "channel": "shell"}))
    while server.out_of_memory_kills() == kills:  # noqa: ASYNC110  # the kernel of the host has no event for it
        await asyncio.sleep(0.005)
    killed = time.monotonic()
    while json.loads(await events.read_message() or "{}").get("kernel_id") != kernel:
        pass
    told = time.monotonic()
    channels.close()
    events.close()
    return told - killed


async def times(server: Any, kills: int) -> list[float]:
    """Return the times of some kills, each of a new kernel."""
    found = []
    for _ in range(kills):
        kernel = server.api("POST", "api/kernels", {"name": "python3"})["id"]
        found.append(await kill(server, kernel))
        server.api("DELETE", f"api/kernels/{kernel}")
    return found


def main() -> int:
    """Measure and print; the result tells whether the limits hold."""
    parser = argparse.ArgumentParser(description="Cost of the bar of limits, and times until ends are told.")
    parser.add_argument("--seconds", type=float, default=60, help="how long to measure each server (%(default)s)")
    parser.add_argument("--kills", type=int, default=20, help="how many kernels to have killed (%(default)s)")
    arguments = parser.parse_args()
    measured = {}
    for with_package in (False, True):
        with tempfile.TemporaryDirectory() as home, run_server(Path(home), with_package) as server:
            measured[with_package] = asyncio.run(cost(server, arguments.seconds))
    with tempfile.TemporaryDirectory() as home, run_server(Path(home)) as server:
        told = asyncio.run(times(server, arguments.kills))
    cpu, memory = (measured[True][number] - measured[False][number] for number in (0, 1))
    for title, figure in (("without", measured[False]), ("with", measured[True])):
        print(f"{title:<20} {figure[0]:.2f} % of a core, {figure[1]:.1f} MB (PSS)")
    print(f"cost                 {cpu:.2f} % of a core, at most {CPU_LIMIT}; {memory:.1f} MB, at most {MEMORY_LIMIT}")
    print(f"told of {len(told)} kills     median {statistics.median(told):.2f} s, worst {max(told):.2f} s")
    return 0 if cpu <= CPU_LIMIT and memory <= MEMORY_LIMIT and statistics.median(told) < 1 and max(told) < 3 else 1


if __name__ == "__main__":
    sys.exit(main())
