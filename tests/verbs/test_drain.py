"""What drain and resume say of a node; Slurm's commands are stand-ins, which the tests of a cluster have for real."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.settings.validation import PRINTING, ROOT

SHOWN = "NodeName=node1 Arch=x86_64 CPUAlloc=2 RealMemory=16000 State={} ThreadsPerCore=1"


class Cluster:
    """A hub and a node, by their names."""

    def __init__(self, directory: Path) -> None:
        self.bin, self.calls, self.inventory = directory / "bin", directory / "calls", directory / "hosts.yml"
        self.bin.mkdir()
        self.stub("squeue", "echo 'ann: job 7, until 12:00 at the latest'")
        local = {
            "ansible_connection": "local",
            "ansible_become": False,
            "ansible_python_interpreter": sys.executable,
            "jupyterhub_spawner": "slurm",
        }
        groups = {"hub": {"hosts": {"hub1": local}}, "compute": {"hosts": {"node1.example.org": {}}}}
        self.inventory.write_text(yaml.safe_dump({"all": {"children": groups}}))

    def stub(self, name: str, script: str) -> None:
        (self.bin / name).write_text(f"#!/bin/sh\necho {name} $* >>{self.calls}\n{script}\n")
        (self.bin / name).chmod(0o755)

    def run(self, verb: str, *options: str) -> str:
        """Return what a verb says for the node."""
        named = ["--extra-vars", f"{verb}_host=node1.example.org"]
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "ansible",
                "playbook",
                "-i",
                self.inventory,
                f"playbooks/{verb}.yml",
                *named,
                *options,
            ],
            cwd=ROOT,
            env={**PRINTING, "PATH": f"{self.bin}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def orders(self) -> list[str]:
        """Return what Slurm was told to change."""
        lines = self.calls.read_text().splitlines() if self.calls.exists() else []
        return [line for line in lines if line.startswith("scontrol update")]


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def test_jobs_of_a_node_are_named_when_draining_is_only_tried(cluster: Cluster) -> None:
    cluster.stub("scontrol", "")
    assert "ann: job 7" in cluster.run("drain", "--check")
    assert cluster.orders() == []
    assert "ann: job 7" in cluster.run("drain")
    assert cluster.orders() == ["scontrol update nodename=node1 state=drain reason=campushub"]


@pytest.mark.parametrize(
    ("state", "resumed"), [("IDLE+DRAIN", True), ("DOWN*", True), ("MIXED", False), ("IDLE+POWERED_DOWN", False)]
)
def test_a_node_is_resumed_where_it_needs_to_be(cluster: Cluster, state: str, resumed: bool) -> None:
    cluster.stub("scontrol", f"[ $1 = update ] || echo '{SHOWN.format(state)}'")
    assert ("node1.example.org was not drained, so there is nothing to resume." in cluster.run("resume")) is not resumed
    assert cluster.orders() == (["scontrol update nodename=node1 state=resume"] if resumed else [])
