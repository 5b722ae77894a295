"""
A hub with the nodes of a Slurm cluster, installed by `./campushub install` from a copy of inventories/cluster.

The copy has other names of hosts, and what a site decides. It has no CVMFS, whose packages are CERN's, and what servers
in the cluster get is divided by what real nodes have more of than test hosts.

    CAMPUSHUB_KEEP_HOSTS=1       leave the hosts, and use those that are there: quick while tests are written
    CAMPUSHUB_SKIP_INSTALL=1     take the hosts as they are
    CAMPUSHUB_SCREENSHOTS=DIR    where the pictures of the pages go
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from playwright.sync_api import Browser

from tests.chromium import chromium
from tests.site import centre

# Fixtures and a hook of the part `site`, which are for the host and the browser of this one here.
from tests.site.conftest import browse, pytest_runtest_makereport

__all__ = ["browse", "pytest_runtest_makereport"]

KEEP = os.environ.get("CAMPUSHUB_KEEP_HOSTS") == "1"
EXAMPLE = centre.ROOT / "inventories" / "cluster"
SUITE = "trixie"
FIRST_PORT = 9800
DOMAIN = "centre.test"
# The storage of a site, which has mounted it on all hosts: a stand-in, since containers cannot serve NFS.
HOMES = ("cluster-homes:/home",)
# CVMFS, and the caches for it.
LEFT_OUT = ("cvmfs_clients", "squid")
MEMORY_DIVISOR, CPU_DIVISOR = 8, 2


class Front(centre.Host):
    """The host of the hub, which browsers know by the name of the site."""

    @property
    def web_name(self) -> str:
        """Its name for browsers."""
        return f"jupyter.{DOMAIN}"


@dataclass
class Cluster:
    """The hosts of the centre, and the inventory that they are installed from."""

    directory: Path
    hub: Front = field(
        default_factory=lambda: Front(f"cluster-hub1.{DOMAIN}", SUITE, "systemd", FIRST_PORT, volumes=HOMES)
    )
    nodes: list[centre.Host] = field(default_factory=list)

    @property
    def hosts(self) -> list[centre.Host]:
        """All hosts."""
        return [self.hub, *self.nodes]

    def add_nodes(self, number: int) -> None:
        """Start hosts that are to become nodes."""
        first = len(self.nodes) + 1
        names = [f"cluster-node{place:02}.{DOMAIN}" for place in range(first, first + number)]
        added = [centre.Host(name, SUITE, "", 0, volumes=HOMES) for name in names]
        with ThreadPoolExecutor() as pool:
            list(pool.map(centre.Host.up, added))
        self.nodes += added

    def node(self, name: str) -> centre.Host:
        """Return a node by the name that Slurm and pages have for it."""
        return next(node for node in self.nodes if node.name.partition(".")[0] == name)

    def jobs(self, user: str = "") -> dict[str, list[str]]:
        """Return the states of the jobs that have not ended, by the node of each."""
        who = f"--user={user}" if user else "--all"
        found: dict[str, list[str]] = {}
        for line in self.hub.run(f"squeue --noheader {who} --format='%B %T'").splitlines():
            node, state = line.split()
            found.setdefault("" if node == "n/a" else node, []).append(state)
        return found

    def campushub(self, *words: str, succeeds: bool = True) -> str:
        """Run a verb of the project for this centre, and return what it has said."""
        self.write_inventory()
        return campushub(self.directory, *words, succeeds=succeeds)

    def write_inventory(self) -> None:
        """Write the copy of the example: hosts may have got other addresses, and there may be more of them."""
        shutil.copytree(EXAMPLE, self.directory, dirs_exist_ok=True)
        named = re.sub(r"\b(hub1|node\[01:02\])\.example\.org", rf"cluster-\1.{DOMAIN}", self.read("hosts.yml"))
        hosts = yaml.safe_load(named.replace("node[01:02]", f"node[01:{len(self.nodes):02}]"))
        for group in LEFT_OUT:
            del hosts["all"]["children"][group]
            (self.directory / "group_vars" / f"{group}.yml").unlink()
        self.write("hosts.yml", hosts)
        decided = yaml.safe_load(self.read("group_vars/all.yml").replace("example.org", DOMAIN))
        self.write("group_vars/all.yml", decided | settings())
        offered = yaml.safe_load(self.read("group_vars/hub.yml"))
        for profile in offered["jupyterhub_profiles"]:
            if profile["run_on"] == "slurm":
                profile.update(smaller(profile))
        self.write("group_vars/hub.yml", offered)
        for host in self.hosts:
            where = {"ansible_host": host.state["address"], "ansible_ssh_private_key_file": host.state["key"]}
            self.write(f"host_vars/{host.name}.yml", where)

    def read(self, name: str) -> str:
        """Return the text of a file of the inventory."""
        return (self.directory / name).read_text()

    def write(self, name: str, content: Any) -> None:
        """Write a file of the inventory; there are hashes of passwords in it."""
        path = self.directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        path.chmod(0o600)


def campushub(inventory: Path, *words: str, succeeds: bool = True) -> str:
    """Run a verb of the project, and return what it has said."""
    log = centre.RESULTS / f"cluster-{'-'.join(words)}.log"
    with log.open("w") as output:
        begin = time.monotonic()
        done = subprocess.run(
            [str(centre.ROOT / "campushub"), *words, "-i", str(inventory)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
            env={**os.environ, "ANSIBLE_FORCE_COLOR": "0"},
        )
        output.write(f"\n{time.monotonic() - begin:.1f} s\n")
    said = log.read_text()
    assert (done.returncode == 0) == succeeds, f"campushub {' '.join(words)}, see {log}:\n{said[-4000:]}"
    return said


def settings() -> centre.Json:
    """Return what this site decides."""
    return {
        # A controller behind a proxy that inspects TLS trusts more than the distribution does; so must its hosts.
        "base_ca_certificates": "{{ query('ansible.builtin.fileglob', '/usr/local/share/ca-certificates/*.crt') }}",
        "ansible_ssh_common_args": "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR",
        "accounts_users": [
            {"name": name, "uid": 2001 + place, "password_hash": centre.password_hash(name)}
            for place, name in enumerate(centre.PASSWORDS)
        ],
        "displays_engine": "tigervnc",
        "jupyterhub_site_name": centre.SITE_NAME,
        "jupyterhub_named_servers": 2,
        "web_tls_mode": "self_signed",
        # A container is not given all of the control groups that proctrack/cgroup wants.
        "slurm_settings": {"ProctrackType": "proctrack/linuxproc"},
    }


def smaller(profile: centre.Json) -> centre.Json:
    """Return what a profile of the example gets here."""
    found: centre.Json = {}
    for name, divisor in (("memory", MEMORY_DIVISOR), ("cpu", CPU_DIVISOR)):
        given = profile[name] if isinstance(profile[name], list) else [profile[name]]
        numbers = [int(str(value).removesuffix("G")) for value in given]
        values = [f"{number * 1024 // divisor}M" if name == "memory" else number // divisor for number in numbers]
        found[name] = values if isinstance(profile[name], list) else values[0]
    return found


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Start the hosts and install the centre."""
    centre.RESULTS.mkdir(parents=True, exist_ok=True)
    cluster = Cluster(tmp_path_factory.mktemp("inventory"))
    try:
        cluster.hub.up()
        cluster.add_nodes(2)
        if os.environ.get("CAMPUSHUB_SKIP_INSTALL") != "1":
            cluster.campushub("install")
        yield cluster
    finally:
        if not KEEP:
            for host in cluster.hosts:
                host.down()


@pytest.fixture(scope="session")
def host(cluster: Cluster) -> centre.Host:
    """The host that browsers reach."""
    return cluster.hub


@pytest.fixture(scope="session")
def browser(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Chromium, for which the name of the site leads to the hub."""
    ports = {port: cluster.hub.port(port) for port in (80, 443)}
    rules = ", ".join(f"MAP {cluster.hub.web_name}:{port} 127.0.0.1:{outside}" for port, outside in ports.items())
    directory = tmp_path_factory.mktemp("browser")
    with chromium(directory, list(ports.values()), f"--host-resolver-rules={rules}") as browser:
        yield browser
