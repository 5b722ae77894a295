#!/usr/bin/env python3
"""
How long a user's server takes from its start until it answers, and what it costs, forked and by itself.

    tests/benchmarks/prefork.py PACKAGES [--python /usr/bin/python3] [--rounds 7] [--users 20]

Runs on this machine, as root, for users that need not exist. PACKAGES is the folder with the packages of the user
environment for that interpreter, such as /opt/campushub/user/lib/python3.11/site-packages. Starts are taken in turns,
forked, by itself, forked, …; a hub of a few lines vouches for the servers. Memory is what a control group of its own
is charged for a server that has answered and idles, its client included.
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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "molecule/jupyter"))

from tests.unit.prefork_service import PreforkService, make_environment  # noqa: E402

FIRST_UID = 61000

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

    def cpu_seconds(self) -> float:
        """Return the CPU time of the server and its client."""
        ticks = 0
        for pid in (self.group.path / "cgroup.procs").read_text().split():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def memory(self) -> float:
        """Return the megabytes that its control group is charged, and not for files."""
        time.sleep(2)
        status = dict(line.split() for line in (self.group.path / "memory.stat").read_text().splitlines())
        anonymous = int(status.get("rss", status.get("anon", 0)))
        return anonymous / 1e6

    def end(self) -> None:
        """Stop it."""
        self.process.terminate()
        self.process.wait(30)
        self.group.remove()


def main() -> int:
    """Measure, and print what was measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("packages", help="folder with the packages of the user environment")
    parser.add_argument("--python", default="/usr/bin/python3", help="interpreter (%(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="starts of one user, each way (%(default)s)")
    parser.add_argument("--users", type=int, default=20, help="how many start at once (%(default)s)")
    arguments = parser.parse_args()

    work = Path(tempfile.mkdtemp(prefix="prefork-"))
    work.chmod(0o755)
    program = (ROOT / "roles/jupyter/files/singleuser.py").read_text()
    environment = make_environment(work / "env", program, arguments.python, Path(arguments.packages))
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
        for turn in range(arguments.rounds + 1):
            for way, path in programs.items():
                server = Server(path, 0, api, work)
                seconds, cpu, memory = server.wait(), server.cpu_seconds(), server.memory()
                server.end()
                print(f"{way}: {seconds:.2f} s, {cpu:.2f} s of CPU time, {memory:.1f} MB", file=sys.stderr, flush=True)
                # The first of each warms caches up.
                if turn:
                    results[way]["s"].append(seconds)
                    results[way]["s of CPU"].append(cpu)
                    results[way]["MB"].append(memory)
        for _ in range(3 if arguments.users else 0):
            for way, path in programs.items():
                start = time.monotonic()
                with ThreadPoolExecutor(arguments.users) as pool:
                    servers = [Server(path, number, api, work) for number in range(arguments.users)]
                    list(pool.map(Server.wait, servers))
                results[way]["s, all"].append(time.monotonic() - start)
                for server in servers:
                    server.end()
    finally:
        print(f"the service: {service.memory():.0f} MB, {service.cpu_seconds():.2f} s of CPU time in all")
        service.stop()
        shutil.rmtree(work, ignore_errors=True)
    for what, name in (("s", "one"), ("s of CPU", "one"), ("MB", "memory"), ("s, all", f"{arguments.users} at once")):
        shown = {way: values[what] for way, values in results.items() if values[what]}
        medians = [statistics.median(values) for values in shown.values()]
        texts = [f"{way} {statistics.median(v):.2f} ({min(v):.2f}-{max(v):.2f})" for way, v in shown.items()]
        if medians:
            print(f"{name + ' [' + what + ']':<22} {texts[0]}, {texts[1]}, ratio {medians[0] / medians[1]:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
