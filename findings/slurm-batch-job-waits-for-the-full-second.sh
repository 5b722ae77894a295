#!/bin/sh
# Slurm 24.11.5: a batch job gets a free node only at the next full second, also with batch_sched_delay=0.
#
# _slurm_rpc_submit_batch_job asks for no node (it calls job_allocate with allocate=0). It leaves the job to the loop
# _slurmctld_background, which looks for such jobs after a wait until time(NULL) + 1, the next full second: half a second on
# average. _slurm_rpc_allocate_resources, which answers salloc, asks for a node and gets it at once.
#
# Seen with Debian 13's 24.11.5-4+deb13u1, on two busy cores: "sbatch: 10 jobs got a node at 0.000 to 0.001 of a second, after
# 0.05 to 0.95 s, 0.50 s on average", "salloc: 10 jobs got a node at 0.063 to 0.959 of a second, after 0.00 to 0.01 s, 0.01 s on
# average". Debian 12's 22.05.8, put in its place by hand, waits as long: it looks for jobs about a second after it last did.
# Needs root, mmdebstrap and ip. The cluster has processes, a network and a host name of its own, which end with the script.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM
version=24.11.5-4+deb13u1
# Unpacked only. mmdebstrap expands the names.
# shellcheck disable=SC2016
TMPDIR=$folder mmdebstrap --quiet --variant=extract --aptopt='Acquire::http::Timeout "20"' --aptopt='Acquire::Retries "3"' \
  --setup-hook='mkdir -p "$1/usr/bin" "$1/usr/sbin" "$1/usr/lib" "$1/usr/lib64"' \
  --setup-hook='ln -s usr/bin usr/sbin usr/lib usr/lib64 "$1"' \
  --include="base-files,dash,coreutils,munge,slurm-client=$version,slurm-wlm-basic-plugins=$version,slurmctld=$version,slurmd=$version" \
  trixie "$folder/debian"
cat >"$folder/debian/etc/slurm/slurm.conf" <<'CONF'
ClusterName=finding
SlurmctldHost=node(192.0.2.1)
SlurmUser=root
AuthType=auth/munge
StateSaveLocation=/var/lib/slurm/slurmctld
SlurmdSpoolDir=/var/lib/slurm/slurmd
SlurmctldLogFile=/var/log/slurm/slurmctld.log
LogTimeFormat=iso8601_ms
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
SlurmdParameters=config_overrides
# Backfill, which looks at other times, does not do so meanwhile.
SchedulerParameters=batch_sched_delay=0,bf_interval=600
NodeName=node NodeAddr=192.0.2.1 CPUs=8
PartitionName=main Nodes=node Default=YES
CONF
# Each looks at the name it was started by, which is made at the end of an installation.
ln -s slurmctld-wlm "$folder/debian/usr/sbin/slurmctld"
ln -s slurmd-wlm "$folder/debian/usr/sbin/slurmd"
ln -s slurmstepd-wlm "$folder/debian/usr/sbin/slurmstepd"
echo CgroupPlugin=disabled >"$folder/debian/etc/slurm/cgroup.conf"
echo 192.0.2.1 localhost node >"$folder/debian/etc/hosts"
echo root:x:0:0::/root:/bin/sh >"$folder/debian/etc/passwd"
echo root:x:0: >"$folder/debian/etc/group"
cat >"$folder/measure.py" <<'PYTHON'
import datetime
import os
import re
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(sys.argv[1])
LOG = ROOT / "var/log/slurm/slurmctld.log"
TRIES = 10


def command(*words: str) -> list[str]:
    return ["chroot", str(ROOT), *words]


def run(*words: str) -> str:
    return subprocess.run(command(*words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout


def wait_for(what) -> None:
    """Wait up to half a minute until this holds."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if what():
            return
        time.sleep(0.1)
    sys.exit(f"the cluster did not start, or a job did not end:\n{(ROOT / 'var/log/daemons').read_text()}")


def node_is_idle() -> bool:
    return run("sinfo", "-h", "-o", "%T").strip() == "idle"


def given(job: int) -> float:
    """When the controller gave a job its node, by its log."""
    line = re.compile(rf"^\[(\S+)\] .*llocate.* JobId={job} NodeList=node\b", re.M)
    wait_for(lambda: line.search(LOG.read_text()))
    return datetime.datetime.fromisoformat(line.search(LOG.read_text())[1]).timestamp()


def sbatch() -> int:
    return int(run("sbatch", "--parsable", "--output=/dev/null", "--wrap=true"))


def salloc() -> int:
    return int(re.search(r"Granted job allocation (\d+)", run("salloc", "true"))[1])


def measure(submit) -> tuple[list[float], list[float]]:
    """Submit jobs at moments spread over the second; at which fraction of one each got a node, and after how long."""
    fractions, waits = [], []
    for number in range(TRIES):
        wait_for(node_is_idle)
        time.sleep(1 - time.time() % 1 + (number + 0.5) / TRIES)
        asked = time.time()
        moment = given(submit())
        fractions.append(moment % 1)
        waits.append(moment - asked)
    print(
        f"{submit.__name__}: {TRIES} jobs got a node at {min(fractions):.3f} to {max(fractions):.3f} of a second, "
        f"after {min(waits):.2f} to {max(waits):.2f} s, {statistics.mean(waits):.2f} s on average",
        flush=True,
    )
    return fractions, waits


socket.sethostname("node")
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
# Slurm looks for names in a way that finds none where there are loopback addresses only.
subprocess.run(["ip", "address", "add", "192.0.2.1", "dev", "lo"], check=True)
subprocess.run(["mount", "-t", "proc", "proc", ROOT / "proc"], check=True)
for place in ("dev", "sys"):
    subprocess.run(["mount", "--rbind", f"/{place}", ROOT / place], check=True)
key = ROOT / "etc/munge/munge.key"
key.touch(mode=0o600)
key.write_bytes(os.urandom(128))
(ROOT / "run/munge").mkdir()
with (ROOT / "var/log/daemons").open("w") as log:
    subprocess.Popen(command("munged", "--foreground", "--force"), stdout=log, stderr=log)
    wait_for((ROOT / "run/munge/munge.socket.2").exists)
    subprocess.Popen(command("slurmctld", "-D"), stdout=log, stderr=log)
    subprocess.Popen(command("slurmd", "-D"), stdout=log, stderr=log)
print(run("sbatch", "--version"), end="")
wait_for(node_is_idle)
# The controller reads SchedulerParameters when it first looks for jobs, and waits for 3 s until then.
given(sbatch())
(fractions, waits), (_, interactive_waits) = measure(sbatch), measure(salloc)
sys.exit(max(fractions) > 0.2 or statistics.mean(interactive_waits) > statistics.mean(waits) / 2)
PYTHON
unshare --mount --pid --fork --kill-child --net --uts python3 "$folder/measure.py" "$folder/debian"
