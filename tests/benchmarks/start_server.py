#!/usr/bin/env python3
"""
How long people wait for their server after *Start*, against the same spawner as its project ships it.

    tests/benchmarks/start_server.py ADDRESS [--user admin] [--key .state/id_ed25519] [--rounds 7] [--users 20]

ADDRESS is a host on which site.yml was applied; which spawner is measured is what it is set to. Beside the host's hub
a second one is run, which peer.py describes. Starts are taken in turns, ours, theirs, ours, … and all is removed at the
end. Time is from the request that the *Start* button makes until a page of the server has arrived.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.benchmarks import peer  # noqa: E402

# Runs on the host after peer.py, beside hub_client.py.
MEASURE = r"""
import platform, re, statistics, sys, threading
sys.path.insert(0, WORK)
from hub_client import Hub, HubError

NAMES = [f"bench{number:02}" for number in range(USERS)]

def session(url, name):
    hub = Hub(url, name)
    hub.login(name + "-secret")
    return hub

def one(url):
    hub = session(url, NAMES[0])
    seconds = hub.start()
    hub.stop()
    return seconds

def all_at_once(url):
    hubs = [session(url, name) for name in NAMES]
    results, failed = [], []
    begin = time.monotonic()
    def start(hub):
        try:
            hub.start()
            results.append(time.monotonic() - begin)
        except (HubError, OSError) as error:
            failed.append(str(error)[:200])
    threads = [threading.Thread(target=start, args=(hub,)) for hub in hubs]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    for hub in hubs:
        try:
            hub.stop()
        except HubError:
            pass
    return [max(results)] if len(results) == len(hubs) else [], failed

def row(what, ours, theirs):
    def shown(values):
        return f"{statistics.median(values):6.2f} ({min(values):.2f}-{max(values):.2f})" if values else "none started"
    ratio = f"{statistics.median(ours) / statistics.median(theirs):8.2f}" if ours and theirs else "       -"
    print(f"{what:<34} {shown(ours):>20} {shown(theirs):>20} {ratio}")

try:
    make_users(NAMES)
    start_peer()
    one(OURS), one(THEIRS)
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(one(OURS))
        theirs.append(one(THEIRS))
    crowd_ours, failed_ours = all_at_once(OURS)
    crowd_theirs, failed_theirs = all_at_once(THEIRS)
finally:
    clean(NAMES)
model = re.search(r"model name\s*: (.*)", open("/proc/cpuinfo").read())
system = dict(re.findall(r'^(\w+)="?([^"\n]*)', open("/etc/os-release").read(), re.M))["PRETTY_NAME"]
processors = f"{os.cpu_count()} x {model[1] if model else platform.machine()}"
print(f"{system}, {processors}, spawner: {'sudo' if sudo else 'systemd'}")
print(f"{'seconds, median (min-max)':<34} {'CampusHub':>20} {'as shipped':>20} {'ratio':>8}")
row("one user", ours, theirs)
row(f"{USERS} users at once, all ready", crowd_ours, crowd_theirs)
print(f"failed: {len(failed_ours)} here, {len(failed_theirs)} as shipped {(failed_ours + failed_theirs)[:1]}")
raise SystemExit(bool(failed_ours))
"""


def main() -> int:
    """Measure on the host and print what it measured; fails if a server of ours did not start."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("address", help="host on which site.yml was applied")
    parser.add_argument("--user", default="admin", help="who logs in there, with sudo (%(default)s)")
    parser.add_argument("--key", default=str(ROOT / ".state/id_ed25519"), help="ssh key (%(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="starts of one user, each way (%(default)s)")
    parser.add_argument("--users", type=int, default=20, help="how many start at once (%(default)s)")
    parser.add_argument("--group", default="jupyter-users", help="Unix group that may log in (%(default)s)")
    arguments = parser.parse_args()

    ssh = ["ssh", "-i", arguments.key, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    ssh += ["-o", "LogLevel=ERROR", "-o", "BatchMode=yes", f"{arguments.user}@{arguments.address}"]
    client = (ROOT / "tests/hub_client.py").read_bytes()
    place = "sudo mkdir -p /opt/start-server && sudo tee /opt/start-server/hub_client.py >/dev/null"
    subprocess.run([*ssh, place], input=client, check=True)
    head = f"ROUNDS, USERS = {arguments.rounds}, {arguments.users}\n"
    script = (head + peer.on_host("/opt/start-server", arguments.group) + MEASURE).encode()
    return subprocess.run([*ssh, "sudo /opt/campushub/hub/bin/python -"], input=script, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
