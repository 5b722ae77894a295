#!/usr/bin/env python3
"""
How long site.yml takes: the first time, again with nothing to do, and for ten hosts.

    tests/benchmarks/install.py first    [--suite bookworm]
    tests/benchmarks/install.py again    [--suite bookworm] [--hosts 10]

`first` installs a fresh test host with site.yml and the demo's settings, and an equal host with a shell script
(install.sh) that installs the same Debian packages, the same locked environments and the same proxy with apt, uv and
npm and configures nothing; both have the host trust what this machine trusts. `again` runs site.yml on a hub where
all is done, then on a centre of that many hosts, one hub and compute hosts. Hosts are test hosts of this machine
(tests/hosts/testhost), whose processors they share with Ansible, and are removed at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TESTHOST = ROOT / "tests/hosts/testhost"
PLAYBOOK = Path(sys.executable).parent / "ansible-playbook"
SSH_OPTIONS = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"


def host(name: str, suite: str) -> dict[str, Any]:
    """Start a test host and return how to reach it."""
    done = subprocess.run([TESTHOST, "up", name, "--suite", suite], check=True, capture_output=True, text=True)
    started: dict[str, Any] = json.loads(done.stdout)
    return started


def down(names: list[str]) -> None:
    """Remove test hosts."""
    for name in names:
        subprocess.run([TESTHOST, "down", name], check=True, capture_output=True)


def site(hosts: list[dict[str, Any]]) -> float:
    """Apply site.yml to a hub and, beyond the first, compute hosts with the demo's settings; return the seconds."""
    with tempfile.TemporaryDirectory() as directory:
        inventory = Path(directory) / "hosts.yml"
        entries = {
            entry["name"]: {
                "ansible_host": entry["address"],
                "ansible_user": entry["user"],
                "ansible_ssh_private_key_file": entry["key"],
                "ansible_ssh_common_args": SSH_OPTIONS,
            }
            for entry in hosts
        }
        hub = hosts[0]["name"]
        compute = {name: entry for name, entry in entries.items() if name != hub}
        # The demo's is read from a file that only a demo has.
        entries[hub]["web_public_port"] = 443
        inventory.write_text(json.dumps({"hub": {"hosts": {hub: entries[hub]}}, "compute": {"hosts": compute}}))
        (Path(directory) / "group_vars").symlink_to(ROOT / "inventories/demo/group_vars")
        begin = time.monotonic()
        done = subprocess.run(
            [PLAYBOOK, "-i", inventory, "site.yml"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        seconds = time.monotonic() - begin
    if done.returncode:
        sys.exit(done.stdout[-3000:] + done.stderr)
    return seconds


def processor_seconds() -> tuple[float, float]:
    """Return what the whole machine has used of its processors, and what Ansible has, with programs that have ended."""
    columns = [int(column) for column in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    idle = columns[3] + columns[4]
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (sum(columns) - idle) / os.sysconf("SC_CLK_TCK"), used.ru_utime + used.ru_stime


def packages_since(name: str, before: set[str]) -> list[str]:
    """Debian packages that a host has now and did not have before."""
    return sorted(packages(name) - before)


def podman(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run podman as root."""
    prefix = [] if os.getuid() == 0 else ["sudo"]
    return subprocess.run([*prefix, "podman", *arguments], check=True, capture_output=True, text=True, **options)


def packages(name: str) -> set[str]:
    """Debian packages of a host."""
    return set(podman("exec", name, "dpkg-query", "-f", "${Package}\n", "-W").stdout.split())


def trust(name: str) -> None:
    """Have a host trust what the controller trusts beyond the distribution; site.yml does that itself."""
    for path in Path("/usr/local/share/ca-certificates").glob("*.crt"):
        podman("cp", str(path), f"{name}:/usr/local/share/ca-certificates/")
    podman("exec", name, "update-ca-certificates")


def first(suite: str) -> None:
    """Measure a first install, and the shell script's on an equal host."""
    # As hosts of a test, so that their environments lie in memory: an ext4 that has just seen many files deleted
    # would make the second one look better or worse than the first.
    os.environ["CAMPUSHUB_TEST_RUN"] = "benchmark"
    ours, plain = host("bench-ours", suite), host("bench-plain", suite)
    try:
        before = packages(ours["name"])
        ours_seconds = site([ours])
        with tempfile.TemporaryDirectory() as directory:
            locks = Path(directory)
            (locks / "packages").write_text(" ".join(packages_since(ours["name"], before)))
            for name, source in {
                "uv.txt": "base/files/requirements.txt",
                "hub.txt": "jupyterhub/files/requirements.txt",
                "proxy.txt": "jupyterhub/files/proxy/requirements.txt",
                "user.txt": "jupyter/files/requirements.txt",
                "package.json": "jupyterhub/files/proxy/package.json",
                "package-lock.json": "jupyterhub/files/proxy/package-lock.json",
            }.items():
                (locks / name).write_text((ROOT / "roles" / source).read_text())
            (locks / "install.sh").write_text((Path(__file__).with_name("install.sh")).read_text())
            podman("cp", f"{directory}/.", f"{plain['name']}:/root/locks")
        begin = time.monotonic()
        trust(plain["name"])
        ca = "/etc/ssl/certs/ca-certificates.crt"
        trusted = [f"--env={name}={ca}" for name in ("SSL_CERT_FILE", "PIP_CERT", "NODE_EXTRA_CA_CERTS")]
        podman("exec", *trusted, plain["name"], "sh", "/root/locks/install.sh", "/root/locks")
        plain_seconds = time.monotonic() - begin
    finally:
        down(["bench-ours", "bench-plain"])
    print(f"first install, seconds   site.yml {ours_seconds:.1f}   shell script {plain_seconds:.1f}   ", end="")
    print(f"ratio {ours_seconds / plain_seconds:.2f}")


def again(suite: str, count: int) -> None:
    """Measure runs with nothing to do on one host and on many."""
    names = [f"bench-{number}" for number in range(count)]
    copy = f"{TESTHOST.name}:bench"
    try:
        # One of each kind is installed, the others are copies: how they came to be makes no difference here.
        hosts = [host(name, suite) for name in names[:2]]
        site(hosts)
        # Hosts of one machine id would have one hardware address.
        podman("exec", names[1], "sh", "-c", "cp /etc/machine-id /run && : >/etc/machine-id")
        podman("commit", "--pause=false", names[1], f"localhost/campushub-{copy}")
        podman("exec", names[1], "cp", "/run/machine-id", "/etc")
        hosts += [host(name, "bench") for name in names[2:]]
        site(hosts)
        one, many, machine, ansible = [], [], [], []
        for _ in range(3):
            one.append(site(hosts[:1]))
            before = processor_seconds()
            many.append(site(hosts))
            after = processor_seconds()
            machine.append(after[0] - before[0])
            ansible.append(after[1] - before[1])
    finally:
        down(names)
        podman("rmi", "--ignore", f"localhost/campushub-{copy}")
    print(f"nothing to do, median seconds of 3   one host {statistics.median(one):.1f}   ", end="")
    print(f"{count} hosts {statistics.median(many):.1f}   ratio {statistics.median(many) / statistics.median(one):.2f}")
    print(f"processor seconds of this machine for {count} hosts {statistics.median(machine):.1f}   ", end="")
    print(f"of them Ansible's own {statistics.median(ansible):.1f}")


def main() -> int:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("what", choices=["first", "again"])
    parser.add_argument("--suite", default="bookworm", help="distribution of the hosts (%(default)s)")
    parser.add_argument("--hosts", type=int, default=10, help="how many hosts at once (%(default)s)")
    asked = parser.parse_args()
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    print(f"{asked.suite} in podman, {os.cpu_count()} x {model[1] if model else platform.machine()}")
    if asked.what == "first":
        first(asked.suite)
    else:
        again(asked.suite, asked.hosts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
