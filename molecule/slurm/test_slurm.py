"""A real cluster of a controller and a node: servers as jobs, waits, ends, and a hub that is killed meanwhile."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from testinfra.host import Host

from tests.playbooks import PLAIN, ROOT
from tests.site.centre import wait_until

HUB = "http://127.0.0.1:980"
CLIENT = Path(__file__).resolve().parents[2] / "tests" / "hub_client.py"
PYTHON = "/opt/campushub/hub/bin/python"
CERTIFICATES = "/etc/jupyterhub/nodes"
# How Slurm says that somebody may not do something.
REFUSED = re.compile(r"Access/permission denied|Invalid user id|only permitted by root")
ALLOCATE = "x = bytearray({megabytes} * 2**20); print('allocated', len(x))"

Client = Callable[..., str]
ApplyRole = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def hub(named: Callable[[str], Host]) -> Host:
    return named("slurm-hub")


@pytest.fixture(scope="module")
def node(named: Callable[[str], Host]) -> Host:
    return named("slurm-node")


@pytest.fixture(scope="module", autouse=True)
def no_traceback(hub: Host) -> Iterator[None]:
    """Whatever happens to cluster and hub, the hub has expected it."""
    since = hub.check_output("date +%s")
    yield
    printed = hub.check_output(f"journalctl --unit=jupyterhub --since=@{since} --output=cat")
    assert "Traceback" not in printed, printed[max(0, printed.index("Traceback") - 1000) :][:3000]


@pytest.fixture(scope="module")
def client(hub: Host) -> Iterator[Client]:
    """Act at the hub as a user: `client("alice", "start")` returns what the client printed."""
    hub.run(f"cat > /opt/hub_client.py <<'END_OF_CLIENT'\n{CLIENT.read_text()}\nEND_OF_CLIENT\n")

    def act(user: str, action: str, *arguments: str, succeeds: bool = True) -> str:
        done = hub.run(f"{PYTHON} /opt/hub_client.py {shlex.join([HUB, user, f'{user}-secret', action, *arguments])}")
        assert (done.rc == 0) == succeeds, f"{user} {action}: {done.stdout}{done.stderr}"
        return str(done.stdout if succeeds else done.stderr)

    yield act
    for user in ("alice", "bob", "carol"):
        hub.run(f"{PYTHON} /opt/hub_client.py {HUB} {user} {user}-secret stop")


def jobs(hub: Host, user: str = "") -> list[list[str]]:
    """Number and state of the jobs that wait or run. One that is being ended stays in the list for a moment."""
    who = f"--user={user}" if user else "--all"
    found = [line.split() for line in hub.check_output(f"squeue --noheader {who} --format='%i %T'").splitlines()]
    return [job for job in found if job[1] != "COMPLETING"]


def state(hub: Host, user: str) -> str:
    """State of the only job of a user."""
    return " ".join(state for _, state in jobs(hub, user))


def servers(client: Client, user: str) -> dict[str, Any]:
    """What the hub says of the servers of a user."""
    printed = client(user, "get", f"/hub/api/users/{user}")
    found: dict[str, Any] = json.loads(printed[printed.index("{") :])["servers"]
    return found


def as_person(hub: Host, user: str, code: str) -> str:
    """Run code with `hub`, the session of a browser in which a user has logged in."""
    login = f"""
import sys
sys.path.insert(0, "/opt")
from hub_client import Hub
hub = Hub("{HUB}", "{user}")
hub.login("{user}-secret")
"""
    return str(hub.check_output(f"timeout 60 {PYTHON} -c {shlex.quote(login + code)}"))


def home(hub: Host, user: str) -> str:
    """The home page of a user."""
    return as_person(hub, user, "print(hub.request('/hub/home')[2])")


def begin(hub: Host, user: str) -> None:
    """Ask for a server and do not wait for it."""
    code = f"""
headers = {{"X-XSRFToken": hub.xsrf("/hub/"), "Content-Type": "application/json"}}
print(hub.request("/hub/api/users/{user}/server", "POST", b"{{}}", headers)[0])
"""
    assert as_person(hub, user, code) in ("201", "202")


def kill(hub: Host) -> None:
    """End the hub without a word; systemd starts it again."""
    before = hub.check_output("systemctl show --value --property=MainPID jupyterhub")
    hub.check_output("systemctl kill --signal=KILL jupyterhub")
    wait_until(
        lambda: (
            hub.check_output("systemctl show --value --property=MainPID jupyterhub") not in (before, "0")
            and hub.run(f"curl --silent --fail {HUB}/hub/health").rc == 0
        ),
        "the hub answers again",
        seconds=60,
    )


@pytest.fixture
def full(hub: Host, node: Host) -> Iterator[None]:
    """Nothing of the node is free."""
    hub.check_output("scontrol update nodename=slurm-node state=drain reason=test")
    yield
    hub.check_output("scontrol update nodename=slurm-node state=resume")
    assert node.service("slurmd").is_running


@pytest.fixture
def alice(client: Client) -> Client:
    """Alice's server runs."""
    if not servers(client, "alice"):
        client("alice", "start")
    return client


def test_the_cluster_has_its_node_and_partitions(hub: Host) -> None:
    found = hub.check_output("sinfo --noheader --format='%N %t %P'").split()
    assert {"slurm-node", "main*", "short"} <= set(found)
    assert {"idle", "mix"} & set(found)


def test_a_cell_runs_on_the_node(hub: Host, alice: Client) -> None:
    printed = alice("alice", "run", "import os, socket; print(socket.gethostname(), os.getcwd())")
    assert printed.split() == ["slurm-node", "/home/alice"]
    assert state(hub, "alice") == "RUNNING"


def test_a_server_is_reached_by_the_name_of_the_site(hub: Host, alice: Client) -> None:
    """Which the proxy passes on, and is not in the certificate of a server."""
    address = "http://127.0.0.1:980/user/alice/api"
    assert "version" in alice("alice", "get", "/user/alice/api")
    assert "version" in hub.check_output(f"curl --silent --header 'Host: jupyter.example.org' {address}")


def test_a_terminal_has_the_users_programs_and_umask(alice: Client) -> None:
    printed = alice("alice", "shell", "id -un; command -v python; umask; stat -c '%U %A' $XDG_RUNTIME_DIR $TMPDIR")
    user, python, umask, *directories = printed.split()
    assert (user, python, umask) == ("alice", "/opt/campushub/user/bin/python", "0022")
    assert [word[:10] for word in directories] == ["alice", "drwx-----T", "alice", "drwx------"]


def test_a_server_that_wants_too_much_memory_is_stopped(alice: Client) -> None:
    assert "allocated" in alice("alice", "run", ALLOCATE.format(megabytes=150))
    assert "kernel has ended" in alice("alice", "run", ALLOCATE.format(megabytes=1500), succeeds=False)


def test_a_job_is_as_its_user_has_chosen(hub: Host, client: Client) -> None:
    options = {"profile": "brief", "memory": "600M", "hours": "0.5", "partition": "main"}
    as_person(hub, "carol", f"hub.api('/hub/api/users/carol/server', 'POST', {options})")
    try:
        wait_until(lambda: "" in servers(client, "carol"), "the server runs", 60)
        found = hub.check_output("squeue --noheader --user=carol --format='%P %m %l %C'").split()
        assert found == ["main", "600M", "30:00", "1"]
    finally:
        client("carol", "stop")


# GPUs

# The number of the error with which each device answers: 0 of one that opens, EPERM of one that is closed, and ENXIO
# of one that has no driver, as a stand-in.
OPEN = """
import errno, os
for number in range(2):
    try:
        os.close(os.open(f"/dev/stand-in{number}", os.O_RDWR))
        print("opened")
    except OSError as error:
        print(errno.errorcode[error.errno])
"""
TOLD = "import os; print(os.environ.get('CUDA_VISIBLE_DEVICES'), os.environ.get('SLURM_GPUS_ON_NODE'))"


def waits_for(hub: Host, user: str) -> str:
    """What a server waits for, as its page is told."""
    code = f"""
import urllib.request
address = hub.url + "/hub/api/users/{user}/server/progress"
request = urllib.request.Request(address, headers={{"Accept": "text/event-stream"}})
for line in hub._opener.open(request, timeout=30):
    if line.startswith(b"data:") and b'"queue"' in line:
        print(line[5:].decode())
        break
"""
    return as_person(hub, user, code)


def choose(hub: Host, user: str, **options: Any) -> None:
    """Ask for a server, by a program, and do not wait for it."""
    code = f"""
headers = {{"X-XSRFToken": hub.xsrf("/hub/"), "Content-Type": "application/json"}}
print(*hub.request("/hub/api/users/{user}/server", "POST", {json.dumps(options).encode()!r}, headers)[::2])
"""
    printed = as_person(hub, user, code)
    assert printed.startswith("20"), printed


@pytest.fixture
def without_alice(hub: Host, client: Client) -> None:
    """The node has two CPUs."""
    client("alice", "stop")
    wait_until(lambda: not jobs(hub), "no job", 20)


@pytest.mark.usefixtures("without_alice")
def test_a_server_has_its_gpus_and_others_wait_for_them(hub: Host, node: Host, client: Client) -> None:
    """Kernels and terminals know which, forked ones, too; pages say how many are free, and what a server waits for."""
    since = node.check_output("date +%s")
    choose(hub, "bob", profile="card")
    wait_until(lambda: servers(client, "bob").get("", {}).get("ready"), "bob's server runs", 90)
    try:
        assert client("bob", "run", TOLD).split() == ["0", "1"]
        assert client("bob", "shell", "echo $CUDA_VISIBLE_DEVICES $SLURM_JOB_GPUS").split() == ["0", "0"]
        assert client("bob", "run", OPEN).split() == ["ENXIO", "EPERM"]
        printed = node.check_output(f"journalctl -t jupyterhub-user-bob --since @{since} -o cat")
        assert "Forked as process" in printed
        assert "No fork" not in printed
        asked = hub.check_output("squeue --noheader --user=bob --Format=tres-per-node:.40,tres-alloc:.80")
        assert "gpu:1" in asked
        assert "gres/gpu=1" in asked
        assert "CPU and 1 GPU free now" in as_person(hub, "carol", "print(hub.request('/hub/spawn')[2])")
        choose(hub, "carol", profile="card", gpus=2)
        wait_until(lambda: state(hub, "carol") == "PENDING", "carol waits")
        look = "squeue --noheader --user=carol --format=%r"
        wait_until(lambda: hub.check_output(look) == "Resources", "for GPUs", 30)
        queue = json.loads(waits_for(hub, "carol"))["queue"]
        assert (queue["reason"], queue["gpus"], queue["cores"]) == ("Resources", 2, 1)
        client("bob", "stop")
        wait_until(lambda: servers(client, "carol").get("", {}).get("ready"), "carol's server runs", 90)
        assert client("carol", "run", TOLD).split() == ["0,1", "2"]
        assert client("carol", "run", OPEN).split() == ["ENXIO", "ENXIO"]
    finally:
        for user in ("bob", "carol"):
            client(user, "stop")
            begin_as_usual(hub, user)


@pytest.mark.attack
def test_nobody_reaches_a_gpu_of_another_job(node: Host, alice: Client) -> None:
    """Neither by a variable, nor by a job of one's own, nor by the services that fork."""
    assert alice("alice", "run", TOLD).split() == ["None", "None"]
    pretend = "import os; os.environ['CUDA_VISIBLE_DEVICES'] = '0'"
    assert alice("alice", "run", f"{pretend}\n{OPEN}").split() == ["EPERM", "EPERM"]
    code = shlex.quote(f"CUDA_VISIBLE_DEVICES=0 python3 -c {shlex.quote(OPEN)}")
    assert node.check_output(f"runuser -u bob -- srun --mem=100M sh -c {code}").split() == ["EPERM", "EPERM"]
    assert node.check_output(f"python3 -c {shlex.quote(OPEN)}").split() == ["ENXIO", "ENXIO"], "outside of jobs"


@pytest.mark.attack
def test_what_is_not_offered_starts_nothing(hub: Host) -> None:
    code = """
headers = {"X-XSRFToken": hub.xsrf("/hub/"), "Content-Type": "application/json"}
for options in (
    b'{"profile": "brief", "partition": "other"}',
    b'{"profile": "work", "partition": "short"}',
    b'{"profile": "work", "account": "root"}',
    b'{"profile": "brief", "partition": "main --uid=0"}',
    b'{"profile": "card", "gpus": 3}',
    b'{"profile": "card", "gpus": "1,license:x"}',
    b'{"profile": "work", "gpus": 1}',
    b'{"profile": "here", "gpus": 1}',
    b'{"profile": "work", "qos": "urgent"}',
):
    print(hub.request("/hub/api/users/carol/server", "POST", options, headers)[0])
"""
    assert set(as_person(hub, "carol", code).split()) == {"400"}
    assert jobs(hub, "carol") == []


@pytest.mark.attack
def test_others_can_do_nothing_with_a_job(hub: Host, node: Host, alice: Client) -> None:
    number = jobs(hub, "alice")[0][0]
    look = f"squeue --noheader --jobs={number} --format='%i %T %j %l %N'"
    before = hub.check_output(look)
    for host in (hub, node):
        for command in (
            f"scancel {number}",
            "scancel --user=alice",
            f"scontrol update jobid={number} timelimit=1",
            f"scontrol suspend {number}",
            f"scontrol requeue {number}",
            f"scontrol write batch_script {number} -",
            f"srun --jobid={number} --overlap id",
            "sbatch --uid=alice --wrap=id",
            "scontrol update nodename=slurm-node state=drain reason=x",
        ):
            # The status says nothing: it is 0 where a script is not handed out, and 255 would be that of ssh.
            done = host.run(f"runuser -u bob -- {command} || true")
            printed = done.stdout + done.stderr
            assert REFUSED.search(printed), f"{command}: {printed}"
            assert "campushub" not in printed, command
    assert hub.check_output(look) == before
    listed = node.run(f"runuser -u bob -- ls /var/lib/campushub/jobs/{number}")
    assert "Permission denied" in listed.stderr
    mediator = "/opt/campushub/hub/bin/campushub-mediator cancel"
    assert "password is required" in hub.run(f"runuser -u bob -- sudo -n -u alice {mediator}").stderr
    assert "still here" in alice("alice", "run", "print('still here')")
    assert state(hub, "alice") == "RUNNING"


@pytest.mark.attack
def test_a_report_of_another_gets_nothing(hub: Host, node: Host, alice: Client) -> None:
    """Nor one of the same user again: the environment of a server is told once."""
    number = jobs(hub, "alice")[0][0]
    code = f"""
import json, socket, subprocess
report = json.dumps({{"job": {number}, "port": 4000, "directory": "/tmp/x"}})
said = subprocess.run(["munge"], input=report, stdout=subprocess.PIPE, text=True, check=True).stdout
for text in (said, "MUNGE:AwQ:", "x" * 100_000):
    with socket.create_connection(("slurm-hub", 983), 20) as connection:
        try:
            connection.sendall(text.encode())
            connection.shutdown(socket.SHUT_WR)
            print(repr(connection.makefile().read()))
        except OSError:
            # It was not read to its end.
            print("''")
"""
    for user in ("bob", "alice"):
        printed = node.check_output(f"runuser -u {user} -- python3 -c {shlex.quote(code)}")
        assert printed.split() == ["''"] * 3
    assert alice("alice", "run", "print('still here')") == "still here\n"


def test_a_node_with_jobs_is_not_taken_out(hub: Host, alice: Client, apply_to: Callable[[str], ApplyRole]) -> None:
    done = apply_to("slurm-hub")(slurm_nodes=["slurm-hub"])
    assert done.returncode != 0
    assert f"slurm-node alice {jobs(hub, 'alice')[0][0]}" in done.stdout
    assert alice("alice", "run", "print('still here')") == "still here\n"


def test_a_node_is_not_taken_out_while_slurm_is_silent(
    hub: Host, alice: Client, apply_to: Callable[[str], ApplyRole]
) -> None:
    """Nobody knows then whether jobs run there."""
    configuration = hub.file("/etc/slurm/slurm.conf").sha256sum
    hub.check_output("systemctl stop slurmctld")
    try:
        done = apply_to("slurm-hub")(slurm_nodes=["slurm-hub"])
    finally:
        hub.check_output("systemctl start slurmctld")
    assert done.returncode != 0
    assert "Slurm does not answer on slurm-hub" in done.stdout
    assert hub.file("/etc/slurm/slurm.conf").sha256sum == configuration
    wait_until(lambda: state(hub, "alice") == "RUNNING", "the controller answers")
    assert alice("alice", "run", "print('still here')") == "still here\n"


def test_a_node_with_jobs_is_not_removed(hub: Host, alice: Client, apply_to: Callable[[str], ApplyRole]) -> None:
    done = apply_to("slurm-node")(slurm_state="absent")
    assert done.returncode != 0
    assert f"slurm-node alice {jobs(hub, 'alice')[0][0]}" in done.stdout
    assert alice("alice", "run", "print('still here')") == "still here\n"


# The project's playbooks


def run_site(scratch: Path, playbook: str, *options: str, **settings: Any) -> tuple[int, str]:
    """Run a playbook for the hub and its node; return its exit status and what it printed as one line."""
    groups = scratch / "groups.yml"
    groups.write_text(yaml.safe_dump({"hub": {"hosts": {"slurm-hub": {}}}, "compute": {"hosts": {"slurm-node": {}}}}))
    inventories = ["-i", os.environ["MOLECULE_INVENTORY_FILE"], "-i", str(groups)]
    done = subprocess.run(
        ["ansible-playbook", *inventories, playbook, "--extra-vars", json.dumps(settings), *options],
        cwd=ROOT,
        env={**os.environ, **PLAIN, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def look_at_cluster(scratch: Path) -> tuple[int, str]:
    """Run `status` from what it says of the cluster on: there is no nginx here."""
    return run_site(scratch, "playbooks/status.yml", "--start-at-task=Look at partitions, nodes and jobs of Slurm")


def test_preflight_refuses_hosts_that_would_not_work_together(hub: Host, alice: Client, tmp_path: Path) -> None:
    address = hub.check_output("sinfo --noheader --nodes=slurm-node --format=%o")
    cut = f"add rule inet cut in ip saddr {address} tcp dport 984 tcp flags syn drop"
    hub.check_output(f"nft 'add table inet cut; add chain inet cut in {{ type filter hook input priority 0; }}; {cut}'")
    try:
        status, output = run_site(tmp_path, "playbooks/preflight.yml", slurm_cluster_name="other")
    finally:
        hub.check_output("nft delete table inet cut")
    assert status != 0
    assert (
        "slurm-node: the hub's API for servers is not reached at slurm-hub, port 984: no answer in 5 s. Open that port "
        "for this host in firewalls, or correct jupyterhub_slurm_address."
    ) in output
    assert 'slurm_cluster_name = "other" is not campushub, the name under which the controller has run' in output
    for word in ("port 983", "munge.key", "clocks", "releases"):
        assert word not in output
    assert alice("alice", "run", "print('still here')") == "still here\n"


# Accounting


def accounted(hub: Host, user: str, *fields: str) -> list[list[str]]:
    """What accounting has of the jobs of a user; nothing while it starts."""
    command = f"sacct --noheader --parsable2 --allocations --user={user} --format={','.join(fields)}"
    return [line.split("|") for line in hub.run(command).stdout.splitlines()]


@pytest.mark.usefixtures("alice")
def test_accounting_knows_who_has_started_a_server(hub: Host, tmp_path: Path) -> None:
    """Without an administrator's call of sacctmgr."""
    number = jobs(hub, "alice")[0][0]
    known = hub.check_output("sacctmgr --noheader --parsable2 show associations user=alice format=account,fairshare")
    assert known == "campushub|1"
    wait_until(
        lambda: [number, "campushub", "RUNNING", "1"] in accounted(hub, "alice", "jobid", "account", "state", "ncpus"),
        "the job is accounted",
    )
    assert "alice" in hub.check_output("sshare --noheader --parsable2 --all --format=user,fairshare")
    status, output = look_at_cluster(tmp_path)
    assert status == 0, output
    for word in ("PARTITION", "slurm-node", f"{number} alice main RUNNING"):
        assert word in output


def test_a_server_has_the_qos_of_its_profile(hub: Host, client: Client) -> None:
    """Also that of somebody who has never started one: the account of the hub has it."""
    choose(hub, "carol", profile="urgent")
    try:
        wait_until(lambda: servers(client, "carol").get("", {}).get("ready"), "the server runs", 90)
        assert hub.check_output("squeue --noheader --user=carol --format=%q") == "urgent"
        number = jobs(hub, "carol")[0][0]
        wait_until(lambda: [number, "urgent"] in accounted(hub, "carol", "jobid", "qos"), "the job is accounted")
    finally:
        client("carol", "stop")
        begin_as_usual(hub, "carol")


@pytest.mark.attack
def test_people_do_not_see_what_others_have_used(hub: Host, node: Host, alice: Client) -> None:
    number = jobs(hub, "alice")[0][0]
    for host in (hub, node):
        for command in ("sacct --allusers", f"sacct --jobs={number}", "sreport user top", "sacctmgr show associations"):
            done = host.run(f"runuser -u bob -- {command} || true")
            assert "alice" not in done.stdout, command
        host.run("runuser -u bob -- sacctmgr --immediate add user name=bob account=physics || true")
        assert "bob" not in hub.check_output("sacctmgr --noheader show associations account=physics format=user")
        assert not host.run("runuser -u bob -- cat /etc/slurm/slurmdbd.conf").stdout
    assert accounted(hub, "alice", "state")[-1] == ["RUNNING"]
    assert "still here" in alice("alice", "run", "print('still here')")
    refused = hub.run("runuser -u bob -- mariadb --user=slurm slurm_acct_db --execute 'show tables'")
    assert "Access denied" in refused.stderr


@pytest.mark.chaos
def test_servers_start_and_run_while_accounting_is_down(
    hub: Host, alice: Client, client: Client, tmp_path: Path
) -> None:
    """That of somebody whom it does not know, too, and with a controller that is started meanwhile."""
    hub.check_output("systemctl stop slurmdbd mariadb")
    try:
        hub.check_output("systemctl restart slurmctld")
        wait_until(lambda: hub.run("scontrol ping").rc == 0, "the controller answers", 60)
        client("bob", "start")
        number = jobs(hub, "bob")[0][0]
        assert alice("alice", "run", "print('still here')") == "still here\n"
        client("bob", "stop")
        status, output = look_at_cluster(tmp_path)
        assert status != 0
        assert "The accounting of Slurm does not answer" in output
    finally:
        hub.check_output("systemctl start mariadb slurmdbd")
    wait_until(lambda: [number] in accounted(hub, "bob", "jobid"), "what ran meanwhile is accounted", 60)
    assert state(hub, "alice") == "RUNNING"


@pytest.mark.chaos
def test_a_node_that_is_missing_in_a_run_stops_nobody_else(hub: Host, apply_to: Callable[[str], ApplyRole]) -> None:
    """The hub keeps its slurm.conf, and goes on; where it has none it cannot have one."""
    conf = "/etc/slurm/slurm.conf"
    before = hub.file(conf).content_string
    done = apply_to("slurm-hub")(slurm_reserved_memory_mb=1500)
    said = " ".join(done.stdout.split())
    assert done.returncode == 0, said[-3000:]
    assert "slurm-node was not reached in this run" in said
    assert hub.file(conf).content_string == before
    hub.check_output(f"mv {conf} {conf}.kept")
    try:
        done = apply_to("slurm-hub")()
        said = " ".join(done.stdout.split())
        assert done.returncode != 0
        assert "slurm-node: not reached in this run" in said
        assert "this host has none yet" in said
        assert not hub.file(conf).exists
    finally:
        hub.check_output(f"mv {conf}.kept {conf}")


def test_a_host_is_added_and_limits_are_enforced(
    hub: Host, alice: Client, client: Client, apply_to: Callable[[str], ApplyRole]
) -> None:
    """And nobody who works is disturbed."""
    before = jobs(hub, "alice")
    settings = {"ProctrackType": "proctrack/linuxproc", "AccountingStorageEnforce": "limits,qos"}
    done = apply_to("all")(slurm_nodes=["slurm-node", "slurm-hub"], slurm_settings=settings)
    assert done.returncode == 0, done.stdout
    wait_until(lambda: "idle" in hub.check_output("sinfo --noheader --nodes=slurm-hub --format=%T"), "a node more", 30)
    assert jobs(hub, "alice") == before
    assert alice("alice", "run", "print('still here')") == "still here\n"
    hub.check_output("sacctmgr --immediate modify account campushub set GrpTRES=cpu=1")
    try:
        begin(hub, "carol")
        look = "squeue --noheader --user=carol --format=%r"
        wait_until(lambda: hub.check_output(look) == "AssocGrpCpuLimit", "carol waits for the account", 30)
        client("carol", "stop")
    finally:
        hub.check_output("sacctmgr --immediate modify account campushub set GrpTRES=cpu=-1")


def test_a_qos_that_somebody_does_not_have_is_refused(hub: Host, client: Client) -> None:
    """In words of ours, with Slurm's; with it the same server starts."""
    choose(hub, "carol", profile="urgent")
    wait_until(lambda: servers(client, "carol").get("", {}).get("ready"), "the server runs", 90)
    client("carol", "stop")
    accounts = "sacctmgr --immediate modify account name=root,campushub set"
    hub.check_output(f"{accounts} qos-=urgent")
    try:
        code = """
headers = {"X-XSRFToken": hub.xsrf("/hub/"), "Content-Type": "application/json"}
print(hub.request("/hub/api/users/carol/server", "POST", b'{"profile": "urgent"}', headers)[2])
"""
        message = json.loads(as_person(hub, "carol", code))["message"]
        assert message.startswith("You may not use the QOS “urgent” of the cluster."), message
        assert "Invalid qos specification" in message
        assert jobs(hub, "carol") == []
    finally:
        hub.check_output(f"{accounts} qos+=urgent")
        client("carol", "stop")
        begin_as_usual(hub, "carol")


def test_accounting_is_turned_off_and_disturbs_nobody(
    hub: Host, alice: Client, client: Client, apply_to: Callable[[str], ApplyRole]
) -> None:
    """And the hub is no node any more."""
    before = jobs(hub, "alice")
    done = apply_to("all")(slurm_accounting=False, slurm_qos=[])
    assert done.returncode == 0, done.stdout
    assert jobs(hub, "alice") == before
    assert alice("alice", "run", "print('still here')") == "still here\n"
    for unit in ("slurmdbd", "slurmd"):
        assert not hub.service(unit).is_running
        assert not hub.service(unit).is_enabled
    client("bob", "start")
    client("bob", "stop")


@pytest.mark.attack
def test_nothing_secret_is_in_the_job(hub: Host, node: Host, alice: Client) -> None:
    """Neither in its script, nor in what Slurm has of it, nor in a journal, nor on a command line of the node."""
    token = alice("alice", "run", "import os; print(os.environ['JUPYTERHUB_API_TOKEN'])").strip()
    number = jobs(hub, "alice")[0][0]
    script = hub.check_output(f"scontrol write batch_script {number} -")
    assert "campushub-job" in script
    shown = hub.check_output(f"scontrol show job {number}")
    assert token not in script + shown
    assert "/var/" not in shown.replace("/var/lib/jupyterhub", "")
    assert token not in node.check_output("ps -ww -eo args")
    # In two parts, so that sudo does not write it into the journal with this command.
    word = f"-e '{token[:8]}''{token[8:]}'"
    for host in (hub, node):
        found = host.run(f"grep -rsl {word} /etc/slurm /var/lib/slurm /var/log/slurm; journalctl -o cat | grep {word}")
        assert found.stdout == ""
    assert node.run(f"grep -sl {word} /proc/[0-9]*/environ").stdout, "where it is, it is found"


@pytest.mark.attack
def test_a_server_answers_nobody_but_the_hub(hub: Host, node: Host, alice: Client) -> None:
    """Neither a neighbour on the node, nor one with the certificate of another server."""
    port = alice("alice", "run", "import os; print(os.environ['JUPYTERHUB_SERVICE_URL'].split(':')[2].split('/')[0])")
    url = f"https://slurm-node:{port.strip()}/user/alice/api"
    for options in ("", f"--cacert {CERTIFICATES}/servers-ca.pem"):
        done = hub.run(f"runuser -u bob -- curl --silent --insecure {options} --max-time 10 {url}")
        assert (done.rc, done.stdout) != (0, ""), "no answer was read, and no error either"
        assert "version" not in done.stdout
    done = node.run(f"runuser -u bob -- curl --silent --insecure --max-time 10 {url}")
    assert "version" not in done.stdout
    # The hub's own certificate opens it: the address is right.
    known = f"--cert {CERTIFICATES}/hub.pem --key {CERTIFICATES}/hub.key"
    right = url.replace("slurm-node", hub.check_output("sinfo --noheader --nodes=slurm-node --format=%o"))
    opened = hub.check_output(f"curl --silent --cacert {CERTIFICATES}/servers-ca.pem {known} --max-time 10 {right}")
    assert "version" in opened


@pytest.mark.chaos
def test_a_server_outlives_the_hub(hub: Host, alice: Client) -> None:
    kernel = alice("alice", "run", "import os; print(os.environ['JPY_PARENT_PID'])")
    kill(hub)
    assert "" in servers(alice, "alice")
    assert alice("alice", "run", "import os; print(os.environ['JPY_PARENT_PID'])") == kernel


@pytest.mark.chaos
@pytest.mark.parametrize(
    ("service", "minutes"), [("slurmctld", 0), ("munge", 0), pytest.param("slurmctld", 10, marks=pytest.mark.slow)]
)
def test_a_silent_cluster_ends_no_server(hub: Host, alice: Client, service: str, minutes: int) -> None:
    # What was said before is of the other one.
    since = hub.check_output("date +%s")
    hub.check_output(f"systemctl stop {service}")
    try:
        journal = f"journalctl -u jupyterhub --since @{since} -o cat"
        wait_until(lambda: "Slurm does not say" in hub.check_output(journal), "noticed", 60)
        time.sleep(60 * minutes)
        assert alice("alice", "run", "print('still here')") == "still here\n"
        assert "does not answer" in alice("bob", "start", succeeds=False)
    finally:
        hub.check_output(f"systemctl start {service}")
    wait_until(lambda: state(hub, "alice") == "RUNNING", "the job runs", 60)
    assert alice("alice", "run", "print('still here')") == "still here\n"


@pytest.mark.chaos
def test_a_killed_slurmd_comes_back_and_ends_nothing(node: Host, alice: Client) -> None:
    before = node.check_output("systemctl show --value --property=MainPID slurmd")
    node.check_output("systemctl kill --kill-whom=main --signal=KILL slurmd")
    wait_until(
        lambda: (
            node.service("slurmd").is_running
            and node.check_output("systemctl show --value --property=MainPID slurmd") not in (before, "0")
        ),
        "slurmd runs again",
    )
    assert alice("alice", "run", "print('still here')") == "still here\n"


def test_stop_cancels_the_job(hub: Host, node: Host, alice: Client) -> None:
    alice("alice", "stop")
    wait_until(lambda: not jobs(hub, "alice"), "no job", 20)
    wait_until(lambda: node.run("ls -d /var/lib/campushub/jobs/[0-9]*").rc != 0, "no directory of the job", 20)
    assert "You have stopped it" in home(hub, "alice")


@pytest.mark.usefixtures("full")
def test_a_server_that_waits_says_so_and_can_be_stopped(hub: Host, client: Client) -> None:
    begin(hub, "bob")
    begin(hub, "carol")
    wait_until(lambda: (state(hub, "bob"), state(hub, "carol")) == ("PENDING", "PENDING"), "both wait")
    code = """
import json
import urllib.request
address = hub.url + "/hub/api/users/bob/server/progress"
request = urllib.request.Request(address, headers={"Accept": "text/event-stream"})
for line in hub._opener.open(request, timeout=30):
    if line.startswith(b"data:") and (queue := json.loads(line[5:]).get("queue")) and queue["position"]:
        print(json.dumps(queue))
        break
print(hub.request("/hub/spawn-pending/bob")[2])
"""
    event, _, page = as_person(hub, "bob", code).partition("\n")
    queue = json.loads(event)
    assert (queue["partition"], queue["cores"]) == ("main", 1)
    assert queue["position"] in (1, 2)
    assert queue["reason"] != "None"
    assert queue["reason"].split(",")[0] in page, "the page has no words of its own for it"
    client("bob", "stop")
    wait_until(lambda: not jobs(hub, "bob"), "bob's job is cancelled", 20)
    assert state(hub, "carol") == "PENDING"
    client("carol", "stop")


@pytest.mark.chaos
@pytest.mark.usefixtures("full")
def test_a_job_that_waited_for_a_killed_hub_is_cancelled(hub: Host, client: Client) -> None:
    begin(hub, "bob")
    wait_until(lambda: state(hub, "bob") == "PENDING", "bob waits")
    kill(hub)
    wait_until(lambda: not jobs(hub, "bob"), "the job is cancelled", 40)
    assert servers(client, "bob") == {}


@pytest.mark.chaos
def test_a_job_of_no_server_is_cancelled(hub: Host) -> None:
    """As after a hub that was killed between a submission and writing down its number."""
    hub.check_output(
        "runuser -u carol -- sbatch --job-name=campushub-slurm-hub --chdir=/ --output=/dev/null --wrap='sleep 600'"
    )
    wait_until(lambda: not jobs(hub, "carol"), "the job is cancelled", 40)


def test_a_job_of_who_may_not_log_in_any_more_is_ended(hub: Host) -> None:
    """As after `campushub-revoke` of somebody who has been taken out of the group."""
    hub.check_output("gpasswd --delete carol jupyter-users")
    try:
        hub.check_output(
            "runuser -u carol -- sbatch --job-name=campushub-slurm-hub --chdir=/ --output=/dev/null --wrap='sleep 600'"
        )
        wait_until(lambda: not jobs(hub, "carol"), "the job is cancelled", 40)
    finally:
        hub.check_output("gpasswd --add carol jupyter-users")


def test_a_job_of_a_closed_account_is_ended(hub: Host) -> None:
    """PAM gives it no session in which its user could cancel it."""
    hub.check_output("usermod --expiredate 1 carol")
    try:
        hub.check_output(
            "setpriv --reuid=carol --regid=carol --init-groups "
            "sbatch --job-name=campushub-slurm-hub --chdir=/ --output=/dev/null --wrap='sleep 600'"
        )
        wait_until(lambda: not jobs(hub, "carol"), "the job is cancelled", 40)
    finally:
        hub.check_output("usermod --expiredate '' carol")


@pytest.mark.chaos
def test_an_administrators_scancel_is_the_reason(hub: Host, client: Client) -> None:
    client("bob", "start")
    hub.check_output(f"scancel {jobs(hub, 'bob')[0][0]}")
    wait_until(lambda: servers(client, "bob") == {}, "the server has ended", 30)
    assert "Its job in the cluster was cancelled" in home(hub, "bob")


@pytest.mark.chaos
def test_a_server_whose_node_fails_is_ended_with_the_reason(hub: Host, node: Host, client: Client) -> None:
    """While Slurm still calls its job running."""
    client("bob", "start")
    node.check_output("systemctl stop slurmd; pkill --signal KILL slurmstepd; pkill --signal KILL --uid bob")
    try:
        assert state(hub, "bob") == "RUNNING"
        wait_until(lambda: servers(client, "bob") == {}, "the server has ended", 120)
        assert "It could not be reached any more on its node" in home(hub, "bob")
    finally:
        node.check_output("systemctl start slurmd")
    wait_until(lambda: not jobs(hub, "bob"), "the job is cancelled", 60)
    client("bob", "start")
    client("bob", "stop")


def target(hub: Host, user: str) -> str:
    """Where the proxy leads to the server of a user."""
    routes = hub.check_output(
        ". /etc/jupyterhub/secrets/proxy.env; "
        'curl --silent --fail -H "Authorization: token $CONFIGPROXY_AUTH_TOKEN" http://127.0.0.1:981/api/routes'
    )
    return str(json.loads(routes).get(f"/user/{user}", {}).get("target", ""))


@pytest.mark.attack
def test_who_stalls_at_a_port_that_is_free_gets_nobody(hub: Host, node: Host, client: Client) -> None:
    """While Slurm still calls the job of its server running; the hub cannot tell that from a server that hangs."""
    client("bob", "start")
    port = target(hub, "bob").rpartition(":")[2]
    silent = f"import socket, time; held = socket.create_server(('', {port})); time.sleep(120)"
    node.check_output("systemctl stop slurmd; pkill --signal KILL slurmstepd; pkill --signal KILL --uid bob")
    try:
        node.check_output(f"systemd-run --quiet --unit=silent --uid=alice python3 -c {shlex.quote(silent)}")
        wait_until(lambda: target(hub, "bob") == "http://127.0.0.1:9", "bob's browser is led nowhere", 5)
        hub.check_output("systemctl restart jupyterhub-proxy")
        wait_until(lambda: bool(target(hub, "bob")), "the proxy knows its routes", 20)
        assert target(hub, "bob") == "http://127.0.0.1:9"
        assert as_person(hub, "bob", "print(hub.request('/user/bob/api')[0])").strip() == "503"
    finally:
        node.check_output("systemctl stop silent; systemctl start slurmd")
    wait_until(lambda: servers(client, "bob") == {}, "the server has ended", 120)
    wait_until(lambda: not jobs(hub, "bob"), "the job is cancelled", 60)
    client("bob", "start")
    assert client("bob", "run", "print('works')") == "works\n"
    client("bob", "stop")


@pytest.fixture(params=["sooner", pytest.param("as installed", marks=pytest.mark.slow)])
def patience(hub: Host, request: pytest.FixtureRequest) -> Iterator[None]:
    """The patience of the hub with a server that nobody reaches: that of this scenario, or its own."""
    sooner, aside = "/etc/jupyterhub/config.d/inventory/50-sooner.py", "/run/50-sooner.py"
    if request.param == "sooner":
        yield
        return
    hub.check_output(f"mv {sooner} {aside}")
    kill(hub)
    yield
    hub.check_output(f"mv {aside} {sooner}")
    kill(hub)


@pytest.mark.chaos
@pytest.mark.usefixtures("patience")
def test_a_server_whose_node_falls_silent_is_ended(hub: Host, client: Client) -> None:
    """As of one without power: no packet says so, and connections stay open."""
    client("bob", "start")
    address = hub.check_output("sinfo --noheader --nodes=slurm-node --format=%o")
    hub.check_output(
        "nft 'add table inet cut; add chain inet cut in { type filter hook input priority 0; }; "
        "add chain inet cut out { type filter hook output priority 0; }; "
        f"add rule inet cut in ip saddr {address} drop; add rule inet cut out ip daddr {address} drop'"
    )
    try:
        wait_until(lambda: servers(client, "bob") == {}, "the server has ended", 120)
        assert "It could not be reached any more on its node" in home(hub, "bob")
    finally:
        hub.check_output("nft delete table inet cut")
    wait_until(lambda: not jobs(hub, "bob"), "the job is cancelled", 60)
    client("bob", "start")
    client("bob", "stop")


# Servers on the hub's own host as well


def start(hub: Host, client: Client, user: str, profile: str) -> None:
    as_person(hub, user, f"hub.api('/hub/api/users/{user}/server', 'POST', {{'profile': '{profile}'}})")
    wait_until(lambda: servers(client, user).get("", {}).get("ready"), f"{user}'s server runs", 90)


def begin_as_usual(hub: Host, *users: str) -> None:
    """Have the next start of somebody begin with what most have."""
    for user in users:
        options = "{'user_options': {'profile': 'work'}}"
        as_person(hub, user, f"hub.api('/hub/api/users/{user}/server', 'PATCH', {options})")


def whereabouts(client: Client, user: str) -> str:
    """The host of a user's server, and the process of its terminals' parent, which another server has not."""
    return client(user, "run", "import os, socket; print(socket.gethostname(), os.getppid(), os.getcwd())")


@pytest.fixture
def both(hub: Host, alice: Client) -> Iterator[dict[str, str]]:
    """Alice's server runs in the cluster, and Bob's on the hub."""
    start(hub, alice, "bob", "here")
    yield {user: whereabouts(alice, user) for user in ("alice", "bob")}
    alice("bob", "stop")
    begin_as_usual(hub, "bob")


def test_a_profile_can_run_on_the_hub_itself(hub: Host, client: Client, both: dict[str, str]) -> None:
    assert (both["alice"].split()[0], both["bob"].split()[0]) == ("slurm-node", "slurm-hub")
    assert both["bob"].split()[2] == "/home/bob"
    assert jobs(hub, "bob") == []
    assert 'class="place">this machine<' in home(hub, "bob")
    assert 'class="place">slurm-node<' in home(hub, "alice")
    # Each with the limits of its kind.
    assert "kernel has ended" in client("bob", "run", ALLOCATE.format(megabytes=1500), succeeds=False)
    pages = as_person(hub, "carol", "print(hub.request('/hub/spawn', headers={'Sec-Fetch-Site': 'same-origin'})[2])")
    assert "on this machine" in pages
    assert "in the cluster" in pages


@pytest.mark.chaos
def test_both_kinds_outlive_the_hub(hub: Host, client: Client, both: dict[str, str]) -> None:
    kill(hub)
    assert {user: whereabouts(client, user) for user in both} == both
    assert state(hub, "alice") == "RUNNING"


def test_a_setting_that_would_lose_a_server_is_refused(
    client: Client, both: dict[str, str], apply_to: Callable[[str], ApplyRole]
) -> None:
    done = apply_to("slurm-hub")(role="jupyterhub", jupyterhub_spawner="systemd", jupyterhub_profiles=[])
    assert done.returncode != 0
    assert "jupyterhub-user-2002-" in done.stdout
    assert whereabouts(client, "bob") == both["bob"]


@pytest.fixture
def as_before(hub: Host, client: Client, apply_to: Callable[[str], ApplyRole]) -> Iterator[ApplyRole]:
    """Apply settings to the hub; at the end it has its own again."""
    apply = apply_to("slurm-hub")
    for user in ("bob", "carol"):
        client(user, "stop")
    yield lambda **settings: apply(role="jupyterhub", **settings)
    for user in ("alice", "bob", "carol"):
        client(user, "stop")
    done = apply(role="jupyterhub")
    assert done.returncode == 0, done.stdout[-3000:]
    begin_as_usual(hub, "alice", "bob", "carol")


@pytest.mark.slow
def test_a_hub_gets_nodes_and_loses_them_with_all_running(
    hub: Host, client: Client, alice: Client, as_before: ApplyRole
) -> None:
    """From all servers in the cluster, by way of both kinds at a hub that is root, to the hub's own host alone."""
    found = {"alice": whereabouts(alice, "alice")}
    here = {"name": "here", "title": "Here", "interface": "lab"}
    there = {**here, "name": "there", "run_on": "slurm"}
    done = as_before(jupyterhub_spawner="systemd", jupyterhub_profiles=[here, there])
    assert done.returncode == 0, done.stdout[-3000:]
    start(hub, client, "bob", "here")
    start(hub, client, "carol", "there")
    found |= {user: whereabouts(client, user) for user in ("bob", "carol")}
    assert [words.split()[0] for words in found.values()] == ["slurm-node", "slurm-hub", "slurm-node"]
    kill(hub)
    assert {user: whereabouts(client, user) for user in found} == found
    client("carol", "stop")
    wait_until(lambda: not jobs(hub, "carol"), "the job is cancelled", 20)
    done = as_before(jupyterhub_spawner="systemd", jupyterhub_profiles=[])
    assert done.returncode == 0, done.stdout[-3000:]
    del found["carol"]
    assert {user: whereabouts(client, user) for user in found} == found
    client("alice", "stop")
    wait_until(lambda: not jobs(hub, "alice"), "the job is cancelled", 20)
    client("alice", "start")
    assert whereabouts(client, "alice").split()[0] == "slurm-hub"
    client("alice", "stop")


@pytest.mark.usefixtures("without_alice")
def test_a_host_that_is_removed_keeps_no_key(hub: Host, node: Host, apply_to: Callable[[str], ApplyRole]) -> None:
    """The last test: the cluster has no node afterwards."""
    key = "/etc/munge/munge.key"
    record = node.file("/var/lib/campushub/munge.key.sha256")
    assert (record.content_string.split(), record.mode) == ([node.file(key).sha256sum, key], 0o600)
    done = apply_to("slurm-node")(slurm_state="absent")
    assert done.returncode == 0, done.stdout[-3000:]
    for path in (key, record.path, "/etc/slurm/slurm.conf"):
        assert not node.file(path).exists, path
    for unit in ("munge", "slurmd"):
        assert not node.service(unit).is_running
        assert not node.service(unit).is_enabled
    assert "changed=0" in apply_to("slurm-node")(slurm_state="absent").stdout
    assert hub.file(key).exists
    assert hub.service("munge").is_running
