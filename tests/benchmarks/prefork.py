#!/usr/bin/env python3
"""
How long a user's server and a kernel take from start to answer, and what they cost, forked and by themselves.

    tests/benchmarks/prefork.py PACKAGES [--python /usr/bin/python3] [--rounds 7] [--users 20] [--only kernels]

Runs on this machine, as root, for users that need not exist. PACKAGES is the folder with the packages of the user
environment for that interpreter, such as /opt/campushub/user/lib/python3.11/site-packages. Starts are taken in turns,
forked, by itself, forked, …; a hub of a few lines vouches for the servers. Memory is what a control group of its own
is charged for a server that has answered and idles, its client included. A kernel is measured from the start of its
process to the answer to its first cell, without a server.
"""

from __future__ import annotations

import argparse
import http.client
import importlib
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "molecule/jupyter"))

from jupyter_client.blocking.client import BlockingKernelClient  # noqa: E402
from jupyter_client.kernelspec import KernelSpec  # noqa: E402
from jupyter_client.manager import KernelManager  # noqa: E402

from tests.unit.prefork_service import PreforkService, make_environment  # noqa: E402

FIRST_UID = 61000
# What kernels have imported, and what a cell imports.
PACKAGES = ("numpy", "pandas", "matplotlib.pyplot")
CELLS = {
    "1+1": "1+1",
    "imports": "import numpy, matplotlib.pyplot",
    "pandas": "import numpy, matplotlib.pyplot, pandas",
}

# In a folder of programs that are copied to hosts, which is no package.
single_user = importlib.import_module("single_user")


class Group:
    """A control group that counts memory."""

    def __init__(self, name: str) -> None:
        version_1 = Path("/sys/fs/cgroup/memory")
        self.path = (version_1 if version_1.is_dir() else Path("/sys/fs/cgroup")) / f"prefork-{name}"
        self.counter = self.path / ("memory.usage_in_bytes" if version_1.is_dir() else "memory.current")
        self.path.mkdir(exist_ok=True)

    def enter(self, uid: int) -> None:
        """Move this process into it, and make it the user's."""
        (self.path / "cgroup.procs").write_text("0")
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)

    def cpu_seconds(self) -> float:
        """Return the CPU time of what is in it: a server or a kernel, and its client."""
        ticks = 0
        for pid in (self.path / "cgroup.procs").read_text().split():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def memory(self) -> float:
        """Return the megabytes that it is charged, and not for files."""
        time.sleep(2)
        status = dict(line.split() for line in (self.path / "memory.stat").read_text().splitlines())
        anonymous = int(status.get("rss", status.get("anon", 0)))
        return anonymous / 1e6

    def remove(self) -> None:
        """Remove it, once it is empty."""
        while (self.path / "cgroup.procs").read_text():
            time.sleep(0.05)
        self.path.rmdir()


class Server:
    """A server of one user, from its start on."""

    def __init__(self, program: str, number: int, api: str, work: Path) -> None:
        self.home = work / f"home-{FIRST_UID + number}"
        self.group, uid, port = Group(str(number)), FIRST_UID + number, single_user.free_port()
        home = self.home
        home.mkdir(exist_ok=True)
        os.chown(home, uid, uid)
        self.url = f"http://127.0.0.1:{port}/user/u/"
        environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(home),
            "USER": "u",
            "SHELL": "/bin/sh",
            "LANG": "C.UTF-8",
            "JUPYTER_RUNTIME_DIR": str(home / "run"),
            "JUPYTERHUB_ACTIVITY_URL": f"{api}/users/u/activity",
            "JUPYTERHUB_API_TOKEN": "secret",
            "JUPYTERHUB_API_URL": api,
            "JUPYTERHUB_BASE_URL": "/",
            "JUPYTERHUB_CLIENT_ID": "jupyterhub-user-u",
            "JUPYTERHUB_OAUTH_CALLBACK_URL": "/user/u/oauth_callback",
            "JUPYTERHUB_OAUTH_ACCESS_SCOPES": '["access:servers!user=u"]',
            "JUPYTERHUB_SERVICE_PREFIX": "/user/u/",
            "JUPYTERHUB_SERVICE_URL": self.url,
            "JUPYTERHUB_USER": "u",
        }
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [program],
            env=environment,
            cwd=home,
            preexec_fn=lambda: self.group.enter(uid),  # noqa: PLW1509 (no other thread has a lock that it needs)
            stdin=subprocess.DEVNULL,
            stderr=(home / "log").open("w"),
        )
        self.port = port

    def wait(self) -> float:
        """Wait until it listens; return the seconds since its start."""
        while socket.socket().connect_ex(("127.0.0.1", self.port)):
            if self.process.poll() is not None or time.monotonic() - self.began > 120:
                raise SystemExit(f"No server, {self.process.poll()}: {(self.home / 'log').read_text()}")
            time.sleep(0.01)
        seconds = time.monotonic() - self.began
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        connection.request("GET", "/user/u/api")
        connection.getresponse().read()
        return seconds

    def end(self) -> None:
        """Stop it."""
        self.process.terminate()
        self.process.wait(30)
        self.group.remove()


class Kernel:
    """A kernel of one user, from its start to the answer to a cell."""

    def __init__(self, command: list[str], code: str, work: Path) -> None:
        uid = FIRST_UID
        home = work / f"home-{uid}"
        home.mkdir(exist_ok=True)
        os.chown(home, uid, uid)
        self.group = Group("kernel")
        name = home / uuid.uuid4().hex
        self.manager = KernelManager(transport="ipc", ip=str(name), connection_file=f"{name}.json")
        spec = KernelSpec(argv=[*command, "-f", "{connection_file}"], language="python")
        self.manager._kernel_spec = spec  # noqa: SLF001  # none that is installed
        self.manager.write_connection_file()
        os.chown(f"{name}.json", uid, uid)
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(home), "USER": "u", "LANG": "C.UTF-8"}
        began = time.monotonic()
        self.manager.start_kernel(cwd=str(home), env=environment, preexec_fn=lambda: self.group.enter(uid))
        # A socket that is not there yet is tried again after a tenth of a second.
        while not Path(f"{name}-{self.manager.shell_port}").exists():
            if not self.manager.is_alive() or time.monotonic() - began > 120:
                raise SystemExit("No kernel.")
            time.sleep(0.002)
        client: BlockingKernelClient = self.manager.blocking_client()
        client.start_channels(iopub=False, stdin=False, hb=False, control=False)
        client.execute(code)
        status = client.get_shell_msg(timeout=120)["content"]["status"]
        self.seconds = time.monotonic() - began
        if status != "ok":
            raise SystemExit(f"The cell fails: {code}")
        client.stop_channels()

    def end(self) -> None:
        """Stop it."""
        self.manager.shutdown_kernel(now=True)
        self.group.remove()


def measure_kernels(environment: Path, rounds: int, work: Path) -> None:
    """Measure kernels in turns, and print the medians."""
    began = time.monotonic()
    service = PreforkService(environment, PACKAGES)
    print(f"the service for kernels: ready after {time.monotonic() - began:.2f} s, {service.memory():.0f} MB")
    python = str(environment / "bin/python")
    ways = {"forked": [str(environment / "bin/campushub-kernel")], "by itself": [python, "-m", "ipykernel_launcher"]}
    try:
        for name, code in CELLS.items():
            results: dict[str, dict[str, list[float]]] = {way: {"s": [], "s of CPU": [], "MB": []} for way in ways}
            for turn in range(rounds + 1):
                for way, command in ways.items():
                    kernel = Kernel(command, code, work)
                    cpu, memory = kernel.group.cpu_seconds(), kernel.group.memory()
                    kernel.end()
                    # A user has ten forks in a row, and one more every three seconds.
                    time.sleep(1)
                    if turn:
                        for what, value in {"s": kernel.seconds, "s of CPU": cpu, "MB": memory}.items():
                            results[way][what].append(value)
            for what in ("s", "s of CPU", "MB"):
                show(f"kernel, {name} [{what}]", {way: values[what] for way, values in results.items()})
    finally:
        print(f"the service for kernels: {service.memory():.0f} MB, {service.cpu_seconds():.2f} s of CPU time in all")
        service.stop()


def show(name: str, shown: Mapping[str, list[float]]) -> None:
    """Print medians, and their ratio."""
    medians = [statistics.median(values) for values in shown.values()]
    texts = [f"{way} {statistics.median(v):.2f} ({min(v):.2f}-{max(v):.2f})" for way, v in shown.items()]
    print(f"{name:<26} {texts[0]}, {texts[1]}, ratio {medians[0] / medians[1]:.2f}", flush=True)


def main() -> int:
    """Measure, and print what was measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("packages", help="folder with the packages of the user environment")
    parser.add_argument("--python", default="/usr/bin/python3", help="interpreter (%(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="starts of one user, each way (%(default)s)")
    parser.add_argument("--users", type=int, default=20, help="how many start at once (%(default)s)")
    parser.add_argument("--only", choices=["servers", "kernels"], help="measure only these")
    arguments = parser.parse_args()

    work = Path(tempfile.mkdtemp(prefix="prefork-"))
    work.chmod(0o755)
    program = (ROOT / "roles/jupyter/files/singleuser.py").read_text()
    environment = make_environment(work / "env", program, arguments.python, Path(arguments.packages))
    try:
        if arguments.only != "servers":
            measure_kernels(environment, arguments.rounds, work)
        if arguments.only != "kernels":
            measure_servers(environment, arguments.rounds, arguments.users, work)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return 0


def measure_servers(environment: Path, rounds: int, users: int, work: Path) -> None:
    """Measure servers in turns, and print the medians."""
    api = single_user.start_hub("u")
    began = time.monotonic()
    service = PreforkService(environment)
    print(f"the service: ready after {time.monotonic() - began:.2f} s, {service.memory():.0f} MB")
    ways = {"forked": "jupyterhub-singleuser", "by itself": "jupyterhub-singleuser-alone"}
    programs = {way: str(environment / "bin" / name) for way, name in ways.items()}
    results: dict[str, dict[str, list[float]]] = {
        way: {"s": [], "s of CPU": [], "MB": [], "s, all": []} for way in ways
    }
    try:
        for turn in range(rounds + 1):
            for way, path in programs.items():
                server = Server(path, 0, api, work)
                seconds, cpu, memory = server.wait(), server.group.cpu_seconds(), server.group.memory()
                server.end()
                print(f"{way}: {seconds:.2f} s, {cpu:.2f} s of CPU time, {memory:.1f} MB", file=sys.stderr, flush=True)
                # The first of each warms caches up.
                if turn:
                    results[way]["s"].append(seconds)
                    results[way]["s of CPU"].append(cpu)
                    results[way]["MB"].append(memory)
        for _ in range(3 if users else 0):
            for way, path in programs.items():
                start = time.monotonic()
                with ThreadPoolExecutor(users) as pool:
                    servers = [Server(path, number, api, work) for number in range(users)]
                    list(pool.map(Server.wait, servers))
                results[way]["s, all"].append(time.monotonic() - start)
                for server in servers:
                    server.end()
    finally:
        print(f"the service: {service.memory():.0f} MB, {service.cpu_seconds():.2f} s of CPU time in all")
        service.stop()
    for what, name in (("s", "one"), ("s of CPU", "one"), ("MB", "memory"), ("s, all", f"{users} at once")):
        shown = {way: values[what] for way, values in results.items() if values[what]}
        if shown:
            show(f"{name} [{what}]", shown)


if __name__ == "__main__":
    sys.exit(main())
