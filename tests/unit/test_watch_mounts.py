"""The watch over mounts: what hangs, what is dead, how it comes back. The file system stands in for a network's."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.settings.validation import ROOT

from .conftest import Storage

PROGRAM = ROOT / "files" / "watch_mounts.py"
MODULE: dict[str, Any] = runpy.run_path(str(PROGRAM))
NOBODY = 65534

TABLE = """\
22 1 0:20 / / rw - ext4 /dev/sda1 rw
30 22 0:40 / /net/home rw - autofs systemd-1 rw
31 30 0:41 / /net/home rw - fuse.glusterfs server:/homes rw
32 22 0:42 / /net/other rw - autofs systemd-1 rw
33 22 0:43 / /network rw - fuse.sshfs other rw
34 22 0:44 / /net/data rw - nfs4 server:/data rw
"""


def test_the_table_of_mounts_is_read_and_nothing_touched(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(TABLE)
    found = MODULE["read_table"](["/net"], table)
    assert [(mount.place, mount.kind, mount.device, mount.is_fuse) for mount in found.mounts] == [
        ("/net/home", "fuse.glusterfs", "0:41", True),
        ("/net/data", "nfs4", "0:44", False),
    ]
    assert found.triggers == {"/net/home", "/net/other"}
    assert [mount.place for mount in MODULE["read_table"](["/net/data"], table).mounts] == ["/net/data"]
    both = MODULE["read_table"](["/net/data", "/network"], table).mounts
    assert [mount.place for mount in both] == ["/network", "/net/data"]


@pytest.mark.attack
@pytest.mark.parametrize(
    "name", [b"a\x0b/cvmfs\x0b0:99", b"a\x1cb", b"a\xc2\x85b", b"a\xe2\x80\xa8b", b"a\rb", b"\xff"], ids=repr
)
def test_names_of_users_mounts_are_no_words_of_the_table(tmp_path: Path, name: bytes) -> None:
    table = tmp_path / "mountinfo"
    mounted = b"35 31 0:45 / /net/home/" + name + b" rw - fuse.sshfs x rw,user_id=%d,group_id=2001\n"
    table.write_bytes(TABLE.encode() + mounted % 2001)
    assert [mount.place for mount in MODULE["read_table"](["/net"], table).mounts] == ["/net/home", "/net/data"]
    # The same of the host's own, whose name nobody has chosen.
    table.write_bytes(TABLE.encode() + mounted % 0)
    found = MODULE["read_table"](["/net"], table).mounts[-1]
    assert (os.fsencode(found.place), found.device) == (b"/net/home/" + name, "0:45")


@pytest.mark.attack
def test_what_a_user_has_mounted_over_a_place_is_left_alone(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(f"{TABLE}35 31 0:45 / /net/home rw - fuse.sshfs x rw,user_id=2001,group_id=2001\n")
    assert [mount.place for mount in MODULE["read_table"](["/net"], table).mounts] == ["/net/data"]


def test_triggers_are_expected_where_maps_and_units_say_so(tmp_path: Path) -> None:
    for path, text in {
        "etc/auto.master.d/eos.autofs": "# Managed\n/- /etc/auto.eos --timeout=600\n",
        "etc/auto.eos": "/net/home-a -fstype=eosx,fsname=home-a :eosxd\n/elsewhere -fstype=bind :/net\n",
        "etc/auto.master": "/net/letters /etc/auto.letters\n/net/none /etc/auto.none\n+dir:/etc/auto.master.d\n",
        "etc/auto.letters": "* -fstype=bind :/srv/&\n",
        "etc/systemd/system/net-b.automount": "[Automount]\nWhere=/net/b\n",
        "run/systemd/generator/net-c.automount": "[Automount]\nWhere=/net/c\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    assert MODULE["expected_triggers"](["/net"], f"{tmp_path}/") == {
        "/net/home-a": "autofs.service",
        "/net/letters": "autofs.service",
        "/net/b": "net-b.automount",
        "/net/c": "net-c.automount",
    }


def test_what_fstab_mounts_is_known(tmp_path: Path) -> None:
    (tmp_path / "fstab").write_text(
        "# homes\nserver:/a /net/a nfs4 defaults 0 0\nserver:/b /net/b nfs4 ro,noauto 0 0\n/dev/sda1 / ext4 rw\n"
    )
    assert MODULE["mounts_of_fstab"](["/net"], str(tmp_path / "fstab")) == ["/net/a"]


class Watched:
    """A mount of the stand-in, and the watch over it."""

    def __init__(self, directory: Path, storage: Storage) -> None:
        self.directory, self.storage, self.metrics = directory, storage, directory / "m" / "x.prom"
        self.place = storage.directory
        self.visitors: list[subprocess.Popen[bytes]] = []
        # The files by which connections are given up; on a host a unit of systemd mounts them.
        self.connections = directory / "connections"
        self.connections.mkdir()
        subprocess.run(["mount", "-t", "fusectl", "none", self.connections], check=True)

    def look(self, action: str = "log") -> str:
        """Look once; return what goes to the journal."""
        driver = f"""
import runpy, sys
sys.argv = ["watch", {str(self.place.parent)!r}, "0.7", {str(self.metrics)!r}, {action!r}]
module = runpy.run_path({str(PROGRAM)!r})
module["main"].__globals__["STATE"] = {str(self.directory / "state")!r}
module["main"].__globals__["CONNECTIONS"] = {str(self.connections)!r}
module["main"]([sys.argv[1]], 0.7, sys.argv[3], sys.argv[4])
"""
        begin = time.monotonic()
        done = subprocess.run([sys.executable, "-c", driver], capture_output=True, text=True, check=True)
        assert time.monotonic() - begin < 6
        return done.stderr

    def visit(self, uid: int = 0) -> None:
        """Have somebody work in the mount, who gets there."""
        for parent in self.place.parents:
            if parent.stat().st_uid == os.getuid() and "pytest" in str(parent):
                parent.chmod(parent.stat().st_mode | 0o011)
        others = {"user": uid, "group": uid, "extra_groups": []} if uid else {}
        self.visitors.append(subprocess.Popen(["sleep", "300"], cwd=self.place, **others))  # type: ignore[call-overload]

    def measured(self) -> dict[str, int]:
        """The metrics of the mount by their names."""
        found = re.findall(r'^campushub_mount_(\w+)\{mount="([^"]*)"\} (\d+)$', self.metrics.read_text(), re.MULTILINE)
        assert {place for _, place, _ in found} <= {str(self.place)}
        return {name: int(value) for name, _, value in found}


@pytest.fixture
def watched(tmp_path: Path, storage: Storage, adoption: None) -> Iterator[Watched]:  # noqa: ARG001 (it only has to be there)
    made = Watched(tmp_path, storage)
    yield made
    for visitor in made.visitors:
        with visitor:
            visitor.kill()
    subprocess.run(["umount", made.connections], check=True)


def at_mounts() -> list[int]:
    """Who was sent to a mount and sits there; the tests have adopted them."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [int(child) for child in children if "watch_mounts" in Path(f"/proc/{child}/cmdline").read_text()]


def all_leave() -> None:
    """Nobody sits at a mount any more."""
    end = time.monotonic() + 5
    while at_mounts():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_mount_that_is_well(watched: Watched) -> None:
    for _ in range(2):
        assert watched.look() == ""
        assert watched.measured() == {"up": 1, "waiting_requests": 0}
        assert watched.metrics.stat().st_mode & 0o777 == 0o644
        watched.visit()


@pytest.mark.parametrize("kind", ["", "eosxd"])
def test_a_mount_that_hangs_is_told_and_no_crowd_sent_there(watched: Watched, kind: str) -> None:
    """eosxd answers statfs while its manager does not answer, so that it says nothing of the mount."""
    watched.storage.die()
    watched.storage.unmount()
    watched.storage.kind = kind
    watched.storage.mount()
    watched.visit(NOBODY)
    watched.storage.hang()
    if kind == "eosxd":
        with pytest.raises(PermissionError):
            os.statvfs(watched.place)
    for _ in range(3):
        assert f"{watched.place} (fuse): it does not answer; " in watched.look()
        (probe,) = at_mounts()
        # Root may have no rights there.
        assert Path(f"/proc/{probe}").stat().st_uid == NOBODY
        assert watched.measured()["up"] == 0
        assert watched.measured()["waiting_requests"] >= 1
    watched.storage.go_on()
    all_leave()
    assert watched.look() == ""
    assert watched.measured() == {"up": 1, "waiting_requests": 0}


def test_a_mount_without_users_is_asked_for_nothing(watched: Watched) -> None:
    watched.storage.hang()
    assert watched.look() == ""
    assert at_mounts() == []
    assert watched.measured() == {"up": 1, "waiting_requests": 0}
    # Somebody comes and waits, who does not work there.
    waits = subprocess.Popen(["ls", watched.place], stdout=subprocess.DEVNULL)
    wait_until_asleep(waits.pid)
    assert "it does not answer; " in watched.look()
    watched.storage.go_on()
    all_leave()
    assert waits.wait(5) == 0


def wait_until_asleep(number: int) -> None:
    end = time.monotonic() + 5
    while "fuse" not in Path(f"/proc/{number}/wchan").read_text() and time.monotonic() < end:
        time.sleep(0.05)


def test_a_mount_whose_client_is_dead_is_told(watched: Watched) -> None:
    watched.storage.die()
    assert "Transport endpoint is not connected" in watched.look()
    assert watched.measured() == {"up": 0, "waiting_requests": 0}
    assert MODULE["read_table"]([str(watched.place)]).mounts, "nothing would mount it again"


@pytest.mark.parametrize("client", ["dead", "disconnected"])
def test_a_dead_mount_with_a_trigger_is_given_up(watched: Watched, client: str) -> None:
    """The trigger is only said to be there. A client of GlusterFS says the same while its servers are away."""
    watched.storage.die()
    table = MODULE["read_table"]([str(watched.place)])
    (mount,) = table.mounts
    said = {mount: "Transport endpoint is not connected"}
    processes = MODULE["Processes"]({}, {mount.device: "1"} if client == "disconnected" else {})
    triggered = MODULE["Table"](table.mounts, {str(watched.place)})
    MODULE["repair"](said, triggered, processes, [str(watched.place)], "log")
    assert bool(MODULE["read_table"]([str(watched.place)]).mounts) == (client == "disconnected")
    if client == "dead":
        watched.storage.mount()


def test_a_client_is_known_by_what_it_serves(watched: Watched) -> None:
    """Whoever only names its place, such as an administrator's ls, must not pass for it."""
    beside = watched.directory / "net" / "bound"
    beside.mkdir()
    subprocess.run(["mount", "--bind", watched.place, beside], check=True)
    table = MODULE["read_table"]([str(beside.parent)])
    told = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)", watched.place])
    try:
        assert {mount.place for mount in table.mounts} == {str(watched.place), str(beside)}
        clients = MODULE["read_processes"](table.mounts).clients
        assert clients == {table.mounts[0].device: str(watched.storage.server.pid)}
        # A bind mount is the same file system, and as idle.
        watched.storage.hang()
        assert watched.look() == ""
        watched.storage.die()
        assert MODULE["read_processes"](table.mounts).clients == {}
    finally:
        subprocess.run(["umount", "--lazy", beside], check=True)
        with told:
            told.kill()


OF_A_CLIENT = """\
# HELP cvmfs_cache_cached_bytes CVMFS currently cached bytes.
# TYPE cvmfs_cache_cached_bytes gauge
cvmfs_cache_cached_bytes{{repo="{0}"}} 1048576
# HELP cvmfs_net_active_proxy Shows the active proxy in use for this mount.
# TYPE cvmfs_net_active_proxy gauge
cvmfs_net_active_proxy{{repo="{0}",proxy="http://user:secret@squid:3128"}} 1
# HELP cvmfs_cache_hitrate CVMFS cache hit rate (%)
# TYPE cvmfs_cache_hitrate gauge
cvmfs_cache_hitrate{{repo="{0}"}} n/a
internal error: cannot say more
"""


def test_metrics_of_clients_are_one_text_without_passwords() -> None:
    """Of a metric that is described twice, or that has no number, the collector would refuse the whole file."""
    found = MODULE["merged"]([OF_A_CLIENT.format("a.example.org"), "unknown command\n", OF_A_CLIENT.format("b.org")])
    assert found == [
        "# HELP cvmfs_cache_cached_bytes CVMFS currently cached bytes.",
        "# TYPE cvmfs_cache_cached_bytes gauge",
        'cvmfs_cache_cached_bytes{repo="a.example.org"} 1048576',
        'cvmfs_cache_cached_bytes{repo="b.org"} 1048576',
        "# HELP cvmfs_net_active_proxy Shows the active proxy in use for this mount.",
        "# TYPE cvmfs_net_active_proxy gauge",
        'cvmfs_net_active_proxy{repo="a.example.org",proxy="http://squid:3128"} 1',
        'cvmfs_net_active_proxy{repo="b.org",proxy="http://squid:3128"} 1',
    ]


# A stand-in for the socket of a client of CVMFS, in its working directory.
TALK = """
import os, socket, sys, time
os.chdir(sys.argv[1])
with socket.create_server("cvmfs_io.homes", family=socket.AF_UNIX) as server:
    print("listens", flush=True)
    while True:
        connection, _ = server.accept()
        asked = connection.recv(4096)
        with connection:
            if asked == b"metrics prometheus" and sys.argv[2] == "says":
                connection.sendall(sys.argv[3].encode())
            elif sys.argv[2] == "hangs":
                connection.sendall(b"cvmfs_pid 1\\n")
                time.sleep(300)
            else:
                connection.sendall(b"unknown command\\n")
"""


@pytest.mark.parametrize("client", ["says", "hangs", "is old"])
def test_a_client_is_asked_for_its_metrics(tmp_path: Path, client: str) -> None:
    command = [sys.executable, "-c", TALK, str(tmp_path), client, OF_A_CLIENT.format("homes")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        begin = time.monotonic()
        said = MODULE["told_by"](str(process.pid), "homes", begin + 0.5)
        assert time.monotonic() - begin < 3
        assert MODULE["told_by"](str(process.pid), "another.example.org", begin + 0.5) == ""
        process.kill()
    assert said == {"says": OF_A_CLIENT.format("homes"), "hangs": "", "is old": "unknown command\n"}[client]


def test_mounts_that_hang_hide_none_that_are_well(watched: Watched) -> None:
    """One process asks all of them, and comes to none after one that hangs."""
    others = [Storage(watched.place.parent / name) for name in ("a", "b", "z")]
    try:
        for storage in [watched.storage, *others]:
            watched.visitors.append(subprocess.Popen(["sleep", "300"], cwd=storage.directory))
        for storage in others[:2]:
            storage.hang()
        assert watched.look().count("it does not answer") == 2
        metrics = watched.metrics.read_text()
        for storage in [watched.storage, *others]:
            up = 0 if storage in others[:2] else 1
            assert f'campushub_mount_up{{mount="{storage.directory}"}} {up}\n' in metrics
        assert len(at_mounts()) == 2
    finally:
        for storage in others:
            storage.die()
            storage.unmount()
    all_leave()


@pytest.mark.parametrize("fault", ["hangs", "dead"])
def test_a_mount_is_given_up_where_the_site_allows_it(watched: Watched, fault: str) -> None:
    watched.visit()
    if fault == "hangs":
        watched.storage.hang()
    else:
        watched.storage.die()
    assert "given up, to be mounted again" in watched.look("remount")
    assert not os.path.ismount(watched.place)
    all_leave()
    watched.storage.die()
    watched.storage.mount()
    assert watched.look("remount") == ""
    assert watched.measured()["up"] == 1
