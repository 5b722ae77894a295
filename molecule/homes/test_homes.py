"""Homes on a real network file system (GlusterFS) whose server is frozen and killed, as users of a hub see it."""

from __future__ import annotations

import json
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from testinfra.host import Host

from tests.exposure import exposure
from tests.site.centre import wait_until

HUB = "http://127.0.0.1:980"
UIDS = {"alice": 2001, "bob": 2002, "carol": 2003}
HOMES = {"alice": "/net/homes/alice", "bob": "/net/homes/b/bob", "carol": "/home/carol"}
CLIENT = Path(__file__).resolve().parents[2] / "tests" / "hub_client.py"
# The process that serves the volume; what clients ask it for waits, or is refused.
BRICK = "pidof glusterfsd"

Client = Callable[..., str]
ApplyRole = Callable[..., subprocess.CompletedProcess[str]]

# Writes line by line into a home, each one on the server's disk before the next, and says which was the last.
WRITE = """
import os, time
with open('lines', 'a') as file:
    for number in range({first}, {last}):
        print(number, file=file, flush=True)
        os.fsync(file.fileno())
print('written', {last} - 1)
"""


@pytest.fixture(scope="module")
def client(host: Host) -> Iterator[Client]:
    """Act at the hub as a user: `client("alice", "start")` returns what the client printed."""
    host.run(f"cat > /opt/hub_client.py <<'END_OF_CLIENT'\n{CLIENT.read_text()}\nEND_OF_CLIENT\n")

    def act(user: str, action: str, *arguments: str, succeeds: bool = True) -> str:
        words = [HUB, user, f"{user}-secret", action, *arguments]
        done = host.run(f"timeout 120 /opt/campushub/hub/bin/python /opt/hub_client.py {shlex.join(words)}")
        assert (done.rc == 0) == succeeds, f"{user} {action}: {done.stdout}{done.stderr}"
        return str(done.stdout if succeeds else done.stderr)

    yield act
    for user in UIDS:
        host.run(f"timeout 60 /opt/campushub/hub/bin/python /opt/hub_client.py {HUB} {user} {user}-secret stop")


def scratch(host: Host) -> bool:
    """Whether this host lets people work in a scratch home."""
    document: dict[str, str] = json.loads(host.file("/etc/campushub/homes.json").content_string)
    return document["on_unavailable"] == "scratch"


def stopped(client: Client, *users: str) -> None:
    for user in users:
        if '"ready": true' in client(user, "get", f"/hub/api/users/{user}"):
            client(user, "stop")


def has_his_files(client: Client) -> None:
    """A new server of bob's has what he wrote before."""
    stopped(client, "bob")
    client("bob", "start")
    assert client("bob", "run", "print(open('mine').read())").strip() == "bob"


def usable(host: Host) -> bool:
    looked = host.run("timeout 5 ls /net/homes")
    return bool(looked.rc == 0)


@pytest.fixture
def storage(server: Host, host: Host) -> Iterator[Callable[[str], None]]:
    """Return how to freeze or kill the file server; it serves again afterwards."""

    def does(what: str) -> None:
        if what == "well":
            server.check_output(f"kill -CONT $({BRICK}) 2>/dev/null; gluster --mode=script volume start homes force")
            wait_until(lambda: usable(host), "the mount comes back by itself", seconds=60)
        else:
            server.check_output(f"kill -{what} $({BRICK})")

    yield does
    does("well")


def test_homes_are_made_on_the_storage_and_belong_to_their_users(host: Host, server: Host, client: Client) -> None:
    server.check_output("rm -rf /mnt/homes/b")
    stopped(client, "alice", "bob")
    for user in ("alice", "bob"):
        client(user, "start")
        said = client(user, "run", "import os; print(os.getcwd(), os.path.expanduser('~'))")
        assert said.split() == [HOMES[user]] * 2
        client(user, "run", f"open('mine', 'w').write('{user}')")
        assert client(user, "shell", "stat -c %U:%a ~; cat mine").split() == [f"{user}:700", user]
    assert host.check_output("stat -f -c %T /net/homes/b/bob").startswith("fuse")
    assert server.check_output("cat /mnt/homes/b/bob/mine") == "bob"
    assert "Permission denied" in client("bob", "shell", f"cat {HOMES['alice']}/mine")


def test_databases_and_sockets_are_on_the_local_disk(host: Host, client: Client) -> None:
    client("alice", "run", "6 * 7")
    local = "/var/lib/campushub-homes/2001"
    assert host.check_output(f"stat -c %U:%a {local}") == "alice:700"
    assert host.file(f"{local}/ipython/profile_default/history.sqlite").exists
    assert "sqlite" not in host.check_output("find /net/homes/alice -name '*.sqlite*' -o -name '*.db'")
    assert "Permission denied" in client("bob", "shell", f"ls {local}")
    # A kernel that somebody has installed for themselves is still found.
    kernel = {"argv": ["python3", "-m", "ipykernel_launcher", "-f", "{connection_file}"], "display_name": "Mine"}
    place = ".local/share/jupyter/kernels/mine"
    client("alice", "run", f"import os; os.makedirs('{place}', exist_ok=True)")
    client("alice", "run", f"open('{place}/kernel.json', 'w').write({json.dumps(json.dumps(kernel))})")
    assert '"mine"' in client("alice", "shell", "jupyter kernelspec list --json")


@pytest.mark.chaos
def test_a_frozen_file_server_holds_up_nobody_else(host: Host, client: Client, storage: Callable[[str], None]) -> None:
    stopped(client, "bob", "carol")
    client("carol", "start")
    # The other hub's tests have written there, too.
    client("alice", "shell", "rm -f lines")
    assert "written 49" in client("alice", "run", WRITE.format(first=0, last=50))
    storage("STOP")
    begin = time.monotonic()
    if scratch(host):
        client("bob", "start")
        assert client("bob", "shell", "pwd; ls").split() == [
            "/var/lib/campushub-homes/2002/home",
            "YOUR-HOME-IS-NOT-AVAILABLE.md",
        ]
    else:
        said = client("bob", "start", succeeds=False)
        assert "Your home directory /net/homes/b/bob cannot be used at the moment: it does not answer." in said
    assert time.monotonic() - begin < 20
    # Neither the hub nor somebody with a home elsewhere notices anything.
    begin = time.monotonic()
    assert "42" in client("carol", "run", "6 * 7")
    client("carol", "stop")
    client("carol", "start")
    assert time.monotonic() - begin < 30
    # The server that runs goes on, as far as it does not need the home.
    assert "42" in client("alice", "run", "import os; os.chdir('/'); print(6 * 7)")
    storage("well")
    has_his_files(client)
    assert "written 99" in client("alice", "run", WRITE.format(first=50, last=100))
    assert client("alice", "shell", "seq 0 99 | cmp - lines && echo complete").strip() == "complete"


@pytest.mark.chaos
def test_a_killed_file_server_loses_nothing_that_was_written(client: Client, storage: Callable[[str], None]) -> None:
    stopped(client, "bob")
    client("alice", "shell", "rm -f lines")
    assert "written 49" in client("alice", "run", WRITE.format(first=0, last=50))
    storage("KILL")
    client("bob", "start")
    assert "Transport endpoint is not connected" in client("bob", "shell", "cat YOUR-HOME-IS-NOT-AVAILABLE.md")
    assert "Error" in client("alice", "run", WRITE.format(first=50, last=51))
    storage("well")
    has_his_files(client)
    assert "written 99" in client("alice", "run", WRITE.format(first=50, last=100))
    assert client("alice", "shell", "seq 0 99 | cmp - lines && echo complete").strip() == "complete"


@pytest.fixture
def visitor(host: Host) -> Iterator[None]:
    """Somebody works in the mount, without whom it is not probed."""
    visit = "sh -c 'cd /net/homes && exec sleep 600'"
    host.check_output(f"systemd-run --quiet --collect --unit=visitor --uid=nobody {visit}; sleep 1")
    yield
    host.run("systemctl kill --signal=KILL visitor")


@pytest.mark.chaos
@pytest.mark.usefixtures("visitor")
def test_a_mount_that_is_not_well_is_in_the_journal_and_a_metric(host: Host, storage: Callable[[str], None]) -> None:
    def watched() -> str:
        host.check_output("systemctl start campushub-watch-mounts.service")
        return str(host.file("/var/lib/prometheus/node-exporter/campushub_mounts.prom").content_string)

    assert host.check_output("systemctl is-active campushub-watch-mounts.timer") == "active"
    assert 'campushub_mount_up{mount="/net/homes"} 1' in watched()
    storage("STOP")
    assert 'campushub_mount_up{mount="/net/homes"} 0' in watched()
    journal = host.check_output("journalctl -u campushub-watch-mounts --since=-60s -o cat --no-pager")
    assert "/net/homes (fuse.glusterfs): it does not answer; " in journal
    storage("well")
    wait_until(lambda: 'campushub_mount_up{mount="/net/homes"} 1' in watched(), "the metric is well again", seconds=20)


@pytest.mark.attack
def test_the_watch_reaches_little_else_of_the_host(host: Host) -> None:
    assert exposure(host, "campushub-watch-mounts.service") <= 4.0


@pytest.mark.chaos
@pytest.mark.usefixtures("visitor")
def test_a_mount_that_hangs_is_given_up_and_mounted_again(
    host: Host, client: Client, storage: Callable[[str], None]
) -> None:
    stopped(client, "alice", "bob")
    watch = "/usr/local/lib/campushub/watch_mounts.py /net/homes 3 /run/test.prom remount"
    host.check_output("echo 'homes-server:/homes /net/homes glusterfs defaults,_netdev 0 0' >>/etc/fstab")
    storage("STOP")
    try:
        assert "given up, to be mounted again" in host.run(watch).stderr
        assert " /net/homes " not in host.check_output("cat /proc/mounts")
        storage("CONT")
        wait_until(lambda: not host.run(watch).stderr, "it is mounted again", seconds=60)
        assert " /net/homes fuse.glusterfs " in host.check_output("cat /proc/mounts")
    finally:
        host.check_output("sed -i '/homes-server/d' /etc/fstab")
        host.check_output("mountpoint -q /net/homes || mount -t glusterfs homes-server:/homes /net/homes")
    has_his_files(client)


@pytest.mark.chaos
def test_nobody_works_in_what_the_mount_hides(host: Host, client: Client) -> None:
    stopped(client, "alice", "bob")
    host.check_output("umount --lazy /net/homes; install -d -o bob /net/homes/b/bob")
    try:
        assert "nothing is mounted at /net/homes" in client("bob", "start", succeeds=False)
    finally:
        host.check_output("rm -rf /net/homes/b; mount -t glusterfs homes-server:/homes /net/homes")
    has_his_files(client)


def test_a_layout_says_where_homes_are_whatever_the_account_says(
    host: Host, client: Client, apply_role: ApplyRole
) -> None:
    stopped(client, "alice", "carol")
    done = apply_role(homes_layout="/net/homes/{first_letter}/{login}")
    assert done.returncode == 0, done.stdout + done.stderr
    try:
        client("carol", "start")
        assert (
            client("carol", "run", "import os; print(os.getcwd(), os.environ['HOME'])").split()
            == ["/net/homes/c/carol"] * 2
        )
        assert host.check_output("stat -c %U:%a /net/homes/c/carol") == "carol:700"
    finally:
        assert apply_role().returncode == 0
    stopped(client, "carol")


def test_without_the_role_homes_are_what_the_accounts_say(host: Host, client: Client, apply_role: ApplyRole) -> None:
    assert apply_role(homes_state="absent").returncode == 0
    try:
        assert not host.file("/etc/campushub/homes.json").exists
        assert not host.file("/etc/tmpfiles.d/campushub-homes.conf").exists
        assert (
            host.run("systemctl list-unit-files 'campushub-watch*'; ls /etc/systemd/system/*.wants").stdout.count(
                "watch"
            )
            == 0
        )
        stopped(client, "carol")
        client("carol", "start")
        assert client("carol", "run", "import os; print(os.environ['HOME'], 'IPYTHONDIR' in os.environ)").split() == [
            "/home/carol",
            "False",
        ]
    finally:
        assert apply_role().returncode == 0


def test_old_files_on_the_local_disk_are_removed_and_others_stay(host: Host) -> None:
    line = host.check_output("grep campushub-homes /etc/tmpfiles.d/campushub-homes.conf")
    assert line == "d /var/lib/campushub-homes 0755 root root 30d"
    host.check_output("systemd-tmpfiles --create --clean /etc/tmpfiles.d/campushub-homes.conf")
    assert host.file("/var/lib/campushub-homes/2001/ipython/profile_default/history.sqlite").exists
