#!/usr/bin/env python3
"""
How much memory the server of a user takes while nobody works, and how soon it answers.

    tests/benchmarks/idle_memory.py ADDRESS [--user admin] [--key .state/id_ed25519] [--servers 3]

ADDRESS is a host on which role jupyter was applied. Servers are started there, one after the other, as the hub
starts them but with a stand-in for the hub, and as an account made for it. The largest of each figure counts:
resident memory (RSS) as the system counts it, of which each server shares a part with the others (PSS does not
count that part again), processor time and time from start to first answer.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIMIT_MB = 90

# Runs on the host, as root, behind the stand-in for the hub.
MEASURE = """
import json, os, platform, pwd, re, subprocess, time
user = "idle-memory"
subprocess.run(["useradd", "--system", "--create-home", "--shell", "/bin/bash", user], check=False, stderr=-3)
about = f"/run/single-user-{user}.json"
rows = []
def measure(number):
    if os.path.exists(about):
        os.unlink(about)
    unit = f"idle-memory-{number}"
    stand_in = ["python3", "/run/single_user.py", user, PROGRAM]
    subprocess.run(["systemd-run", "-q", "--collect", "--unit", unit, *stand_in], check=True)
    try:
        deadline = time.monotonic() + 60
        while not (os.path.exists(about) and os.path.getsize(about)):
            if time.monotonic() > deadline:
                raise SystemExit("the server did not answer within 60 s; see: journalctl -u " + unit)
            time.sleep(0.1)
        server = json.load(open(about))
        time.sleep(5)
        memory = dict(re.findall(r"^(Rss|Pss): +([0-9]+) kB", open(f"/proc/{server['pid']}/smaps_rollup").read(), re.M))
        fields = open(f"/proc/{server['pid']}/stat").read().rsplit(")", 1)[1].split()
        cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        rows.append([int(memory["Rss"]) * 1024 / 1e6, int(memory["Pss"]) * 1024 / 1e6, cpu, server["seconds"]])
    finally:
        subprocess.run(["systemctl", "stop", unit], check=False)
try:
    for number in range(SERVERS):
        measure(number)
finally:
    subprocess.run(["userdel", "--remove", user], check=False, stderr=-3)
    for path in (about, "/run/single_user.py"):
        if os.path.exists(path):
            os.unlink(path)
model = re.search(r"model name\\s*: (.*)", open("/proc/cpuinfo").read())
system = dict(re.findall(r'^(\\w+)="?([^"\\n]*)', open("/etc/os-release").read(), re.M))["PRETTY_NAME"]
machine = f"{system}, {os.cpu_count()} x {model[1] if model else platform.machine()}"
print(json.dumps({"machine": machine, "rows": rows}))
"""


def main() -> int:
    """Measure and print; the result tells whether the limit holds."""
    parser = argparse.ArgumentParser(description="Memory of an idle server of a user.")
    parser.add_argument("address", help="host on which role jupyter was applied")
    parser.add_argument("--user", default="admin", help="who logs in there, with sudo (%(default)s)")
    parser.add_argument("--key", default=str(ROOT / ".state/id_ed25519"), help="ssh key (%(default)s)")
    parser.add_argument("--servers", type=int, default=3, help="how many to start, one after the other (%(default)s)")
    parser.add_argument("--program", default="/opt/campushub/user/bin/jupyterhub-singleuser", help="what to start")
    arguments = parser.parse_args()

    ssh = ["ssh", "-i", arguments.key, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    ssh += ["-o", "LogLevel=ERROR", "-o", "BatchMode=yes", f"{arguments.user}@{arguments.address}"]
    stand_in = (ROOT / "molecule/jupyter/single_user.py").read_bytes()
    subprocess.run([*ssh, "sudo tee /run/single_user.py >/dev/null"], input=stand_in, check=True)
    script = f"PROGRAM = {arguments.program!r}\nSERVERS = {arguments.servers}\n{MEASURE}"
    answer = subprocess.run([*ssh, "sudo python3 -"], input=script, text=True, stdout=subprocess.PIPE, check=True)
    result = json.loads(answer.stdout)

    resident, proportional, processor, ready = (max(column) for column in zip(*result["rows"], strict=True))
    print(f"machine              {result['machine']}")
    print(f"servers              {arguments.servers}")
    print(f"resident (RSS)       {resident:.0f} MB, at most {LIMIT_MB}")
    print(f"proportional (PSS)   {proportional:.0f} MB")
    print(f"processor time       {processor:.2f} s")
    print(f"start to answer      {ready:.2f} s")
    return 0 if resident <= LIMIT_MB else 1


if __name__ == "__main__":
    sys.exit(main())
