#!/usr/bin/env python3
"""
How long people wait for their login when thirty of them come at once, with accounts of a directory and with local ones.

    tests/benchmarks/login_storm.py ADDRESS [--user admin] [--key .state/id_ed25519] [--rounds 5] [--people 30]

ADDRESS is a host on which site.yml was applied with accounts from a directory, in which there are student01, student02
and so on, each with a password that is the name and "-secret", as molecule/directory/server.py makes them. As many
local accounts are made for the measurement and removed at its end. Rounds are taken in turns: local, directory, local,
…; before each of them sssd forgets what it has looked up. Time is from the login page to the page behind it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Runs on the host, as root, with hub_client.py before it.
MEASURE = r"""
import concurrent.futures, statistics

URL = "http://127.0.0.1:980"
local = [f"storm{number:02}" for number in range(1, PEOPLE + 1)]
directory = [f"student{number:02}" for number in range(1, PEOPLE + 1)]
for name in local:
    subprocess.run(["useradd", "--no-create-home", "--groups", "jupyter-users", name], check=True)
passwords = "".join(f"{name}:{name}-secret\n" for name in local)
subprocess.run(["chpasswd"], input=passwords, text=True, check=True, stderr=subprocess.DEVNULL)

def login(name):
    started = time.monotonic()
    Hub(URL, name).login(f"{name}-secret")
    return time.monotonic() - started

try:
    times = {"local": [], "directory": []}
    for round in range(ROUNDS + 1):
        for kind, names in (("local", local), ("directory", directory)):
            subprocess.run(["sss_cache", "-E"], check=True)
            with concurrent.futures.ThreadPoolExecutor(len(names)) as pool:
                taken = list(pool.map(login, names))
            # The first round warms up.
            times[kind] += taken if round else []
finally:
    for name in local:
        subprocess.run(["userdel", name], check=True)
for kind, taken in times.items():
    print(f"{kind:<10} median {statistics.median(taken):.2f} s, worst {max(taken):.2f} s, of {len(taken)} logins")
middle, worst = (
    figure(times["directory"]) / figure(times["local"]) for figure in (statistics.median, max)
)
print(f"ratio      median {middle:.2f}, worst {worst:.2f}")
"""


def main() -> int:
    """Measure on the host and print the figures."""
    parser = argparse.ArgumentParser(description="Measure logins of many people at once.")
    parser.add_argument("address", help="host on which site.yml was applied")
    parser.add_argument("--user", default="admin", help="user with sudo there (default: %(default)s)")
    parser.add_argument("--key", type=Path, default=ROOT / ".state" / "id_ed25519", help="ssh key")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--people", type=int, default=30)
    options = parser.parse_args()
    client = (ROOT / "tests" / "hub_client.py").read_text().partition("def main(")[0]
    program = f"{client}\nimport subprocess\nROUNDS, PEOPLE = {options.rounds}, {options.people}\n{MEASURE}"
    ssh = ["ssh", "-i", str(options.key), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    command = [*ssh, "-o", "LogLevel=ERROR", f"{options.user}@{options.address}"]
    done = subprocess.run([*command, "sudo /opt/campushub/hub/bin/python -"], input=program, text=True, check=False)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
