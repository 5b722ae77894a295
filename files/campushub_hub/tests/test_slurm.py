"""Servers as jobs of Slurm: what its answers mean, whose reports count, and who can speak to whom."""

from __future__ import annotations

import asyncio
import contextlib
import grp
import json
import logging
import os
import pwd
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jinja2
import pytest
from jupyterhub.utils import utcnow
from tornado.web import Application, RequestHandler
from traitlets.config import Config

import campushub_hub
from campushub_hub import translation
from campushub_hub.bin import make_certificates
from campushub_hub.certificates import Certificates
from campushub_hub.certificates import fingerprint as cluster_fingerprint
from campushub_hub.host import job as job_script
from campushub_hub.host import mediator, user_session
from campushub_hub.profiles import ChoiceError
from campushub_hub.proxy import NOWHERE, CampusProxy
from campushub_hub.spawners import CampusSlurmSpawner, ServerStartError, answers, cluster
from campushub_hub.spawners.cluster import (
    GONE,
    Free,
    Key,
    ReportError,
    SlurmCluster,
    parse_credential,
    parse_free,
    parse_jobs,
    parse_positions,
)
from campushub_hub.spawners.slurm import ANSWER_SIZE, HeldConnection, Resources

from .conftest import give_up_start

ME = pwd.getpwuid(os.getuid())
# As squeue of Debian 13 (24.11) has printed it, with SLURM_TIME_FORMAT=%s.
RUNNING = f"12|RUNNING|{ME.pw_uid}|alice|slurm-node|main|1764471600|None"
PENDING = f"13|PENDING|{ME.pw_uid}|bob|n/a|main|1764475200|Resources"
WITHOUT_TIME = f"14|PENDING|{ME.pw_uid}|carol|n/a|main|N/A|Priority"
KILLED = f"11|OUT_OF_MEMORY|{ME.pw_uid}|alice|slurm-node|main|1764471000|OutOfMemory"
# Of a hub that is root, in front of a command as a user.
SYSTEMD_RUN = ["--quiet", "--wait", "--pipe", "--collect", "--property=KillMode=process"]
SYSTEMD_RUN += ["--property=RuntimeMaxSec=30", "--property=TimeoutStopSec=2"]
# And unmunge.
CREDENTIAL = """STATUS:          Success (0)
ENCODE_HOST:     slurm-node (10.89.0.12)
ENCODE_TIME:     2026-11-30 03:00:00 +0000 (1796007600)
UID:             {name} ({uid})
GID:             {name} ({uid})
LENGTH:          {length}

{payload}"""


class Slurm:
    """Programs of Slurm and munge, in their own words."""

    def __init__(self) -> None:
        self.jobs: str | None = RUNNING
        self.free = "10.89.0.12\n"
        self.calls: list[tuple[str, ...]] = []
        # Users whom PAM gives no session, and what Slurm refuses others.
        self.closed: set[str] = set()
        self.problem = ""
        self.given: list[dict[str, Any]] = []

    async def run(self, *command: str, given: str = "", timeout: float = 30) -> str:  # noqa: ARG002
        self.calls.append(command)
        if command[0] == "squeue":
            if self.jobs is None:
                raise OSError("slurm_load_jobs error: Unable to contact slurm controller (connect failure)")
            return self.jobs
        if command[0] == "munge":
            return f"{command[1]} {given}"
        if command[0] == "sinfo":
            return self.free
        return given

    async def ask(self, *command: str, given: bytes = b"", **_: Any) -> tuple[int, bytes]:
        """Be the mediator."""
        self.calls.append(command)
        user = command[-3] if command[0] == "sudo" else command[-4].removeprefix("--uid=")
        if user in self.closed:
            return 1, b""
        self.given.append(json.loads(given))
        return 0, json.dumps({"ok": True, "problem": self.problem}).encode()


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> Slurm:
    programs = Slurm()
    monkeypatch.setattr(cluster, "run", programs.run)
    monkeypatch.setattr(answers, "ask", programs.ask)
    # The hub of a test that does not say otherwise has a user of its own, whoever runs the tests.
    monkeypatch.setattr(os, "geteuid", lambda: 999)
    return programs


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What role jupyterhub has made, once."""
    directory = tmp_path_factory.mktemp("certificates") / "nodes"
    group = grp.getgrgid(os.getgid()).gr_name
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fchown", lambda *_: None)
        make_certificates.main(str(directory), group, group, "localhost")
    return directory


@pytest.fixture
def hub(slurm: Slurm, certificates: Path, tmp_path: Path) -> Iterator[SlurmCluster]:  # noqa: ARG001 (nothing real is called)
    """The hub's view of a cluster."""
    settings = {
        "certificates": str(certificates),
        "job_name": "campushub-test",
        "name_file": str(tmp_path / "slurm_job_name"),
        "address": "hub",
    }
    SlurmCluster.clear_instance()
    yield SlurmCluster.instance(config=Config(SlurmCluster=settings))
    SlurmCluster.clear_instance()


@pytest.fixture
def spawner(hub: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> CampusSlurmSpawner:  # noqa: ARG001
    """A server of whoever runs the tests, as job 12."""
    made = CampusSlurmSpawner(
        user=SimpleNamespace(name=ME.pw_name, id=1, settings={}, db=SimpleNamespace(commit=lambda: None)),
        orm_spawner=SimpleNamespace(name="", server=None, state=None, started=None),
        db=SimpleNamespace(commit=lambda: None),
    )
    made._limits = {"memory": None, "cpu": None, "tasks": 512}  # noqa: SLF001 (as a look-up finds them)
    monkeypatch.setattr(made, "get_env", lambda: {"JUPYTERHUB_API_TOKEN": "secret"})
    monkeypatch.setattr(made, "get_args", lambda: ["--port=1"])
    made.job, made.uid = 12, ME.pw_uid
    made.cluster.claim(made.key, made)
    return made


def mine(number: int) -> Key:
    """A job of whoever runs the tests."""
    return Key(ME.pw_uid, number)


# What Slurm says


def test_states_of_jobs_are_read() -> None:
    found = parse_jobs(f"{RUNNING}\n{PENDING}\n{WITHOUT_TIME}\n{KILLED}")
    assert {key.uid for key in found} == {ME.pw_uid}
    jobs = {key.number: job for key, job in found.items()}
    assert (jobs[12].ended, jobs[12].node, jobs[12].user) == (False, "slurm-node", "alice")
    assert (jobs[13].node, jobs[13].start, jobs[13].reason) == ("", 1764475200.0, "Resources")
    assert jobs[14].start is None
    assert jobs[11].ended


def test_other_lines_of_squeue_count_for_nothing() -> None:
    assert parse_jobs("slurm_load_jobs error: x\n\n7_1|RUNNING|1|alice|n|p|1|None\n8|RUNNING\n") == {}


def test_what_is_asked_has_nothing_that_users_write() -> None:
    # Names of jobs (%j), comments (%k), directories (%Z) and commands (%o) may have line breaks in them.
    assert not {"%j", "%k", "%Z", "%o", "%n", "%f"} & set(cluster.FORMAT.split("|"))


def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, **settings: str) -> str:
    """Return the name of the jobs of a hub that begins on a host."""
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    path = str(tmp_path / "slurm_job_name")
    return SlurmCluster(config=Config(SlurmCluster={"name_file": path, **settings})).name


def test_jobs_keep_their_name_when_the_host_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the hub would take servers that run for gone, and start them again."""
    assert named(tmp_path, monkeypatch, "hub1.example.org") == "campushub-hub1"
    assert (tmp_path / "slurm_job_name").stat().st_mode & 0o777 == 0o600
    assert named(tmp_path, monkeypatch, "hub2") == "campushub-hub1"
    # What a line of config.d says wins, and is what others on this host find.
    assert named(tmp_path, monkeypatch, "hub2", job_name="campushub-west") == "campushub-west"
    assert named(tmp_path, monkeypatch, "hub2") == "campushub-west"


@pytest.mark.parametrize("text", ["", "\n", "a\nb\n", "campushub-x --user=ann\n", "a,b\n", "ü\n"])
def test_what_is_no_name_of_jobs_counts_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (tmp_path / "slurm_job_name").write_text(text)
    assert named(tmp_path, monkeypatch, "hub1") == "campushub-hub1"
    assert (tmp_path / "slurm_job_name").read_text() == "campushub-hub1\n"


def test_a_name_that_cannot_be_written_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert named(tmp_path / "missing", monkeypatch, "hub1") == "campushub-hub1"


def test_place_in_the_queue_counts_its_partition() -> None:
    assert parse_positions("5|main\n9|short\n6_[1-3]|main\n13|main\n") == {5: 1, 9: 1, 13: 3}


def test_what_is_free_is_summed_up_by_partition() -> None:
    # As sinfo has it: a line for each node, the default partition with a star.
    printed = """
main*|up|2/6/0/8|gpu:2|gpu:1(IDX:0)|
main*|up|0/0/8/8|gpu:2|gpu:0|
main*|up|1/1/0/2|(null)|(null)|
main*|up|8/0/0/8|gpu:2|gpu:1(IDX:1)|
big|up|16/48/0/64|shard:8,gpu:a100:4(S:0-1),gpu:t4:2|shard:1,gpu:a100:3(IDX:0,2-3),gpu:t4:0(IDX:N/A)|
big|up|0/2/0/2|gpu:1|gpu:(null):0(IDX:N/A)|
old|inact|0/4/0/4|gpu:4|gpu:0|
error
"""
    assert parse_free(printed) == {"main": Free(7, 1), "": Free(7, 1), "big": Free(50, 4), "old": Free(0, 0)}


def test_what_is_free_is_asked_once_for_all_pages(hub: SlurmCluster, slurm: Slurm, spawner: CampusSlurmSpawner) -> None:
    async def scenario() -> None:
        assert await spawner.free_in_cluster() == {}
        await hub.refresh()
        slurm.free = "main*|up|2/6/0/8|(null)|(null)|\nbig|up|0/64/0/64|gpu:2|gpu:0|\n"
        found = await asyncio.gather(*(spawner.free_in_cluster() for _ in range(10)))
        assert found == [{"main": Free(6), "": Free(6), "big": Free(64, 2)}] * 10
        assert len([call for call in slurm.calls if call[0] == "sinfo"]) == 1
        hub.partition = "big"
        assert (await spawner.free_in_cluster())[""] == Free(64, 2)
        hub.partition = "elsewhere"
        assert "" not in await spawner.free_in_cluster()
        slurm.jobs = None
        await hub.refresh()
        assert await spawner.free_in_cluster() == {}

    asyncio.run(scenario())


def test_servers_that_start_on_a_node_ask_for_its_address_once(
    hub: SlurmCluster, slurm: Slurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> list[str]:
        found = [await hub.node_address("slurm-node") for _ in range(3)]
        slurm.free = "10.89.0.99\n"
        monkeypatch.setattr(cluster, "ADDRESS_SECONDS", -1)
        return [*found, await hub.node_address("slurm-node")]

    assert asyncio.run(scenario()) == ["10.89.0.12"] * 3 + ["10.89.0.99"]
    assert len(slurm.calls) == 2


def test_a_silent_slurm_ends_no_server(hub: SlurmCluster, slurm: Slurm, spawner: CampusSlurmSpawner) -> None:
    async def scenario() -> None:
        assert await spawner.poll() is None
        slurm.jobs = None
        await hub.refresh()
        assert hub.look(mine(12)) is None
        assert await spawner.poll() is None
        slurm.jobs = ""
        assert await spawner.poll() == 0

    asyncio.run(scenario())


def test_a_job_is_not_gone_before_slurm_was_asked(hub: SlurmCluster, slurm: Slurm) -> None:
    async def scenario() -> None:
        slurm.jobs = ""
        await hub.refresh()
        hub.claim(mine(99), SimpleNamespace())  # type: ignore[arg-type]
        assert hub.look(mine(99)) is None
        await hub.refresh()
        assert hub.look(mine(99)) == GONE

    asyncio.run(scenario())


def end_of(spawner: CampusSlurmSpawner) -> str:
    """What the page says of the end of a server that has run."""

    async def scenario() -> str:
        spawner.note_start()
        assert await spawner.poll() == 1
        spawner.clear_state()
        assert spawner.last_end
        return spawner.last_end["reason"]

    return asyncio.run(scenario())


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("OUT_OF_MEMORY", "memory"),
        ("TIMEOUT", "time_limit"),
        ("NODE_FAIL", "node"),
        ("CANCELLED", "cancelled"),
        ("PREEMPTED", "preempted"),
        ("FAILED", "ended"),
    ],
)
def test_why_a_server_ended(slurm: Slurm, spawner: CampusSlurmSpawner, state: str, reason: str) -> None:
    slurm.jobs = RUNNING.replace("RUNNING", state)
    assert end_of(spawner) == reason


def test_the_user_who_stops_a_server_is_the_reason(
    slurm: Slurm, spawner: CampusSlurmSpawner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spawner, "_ending", {"reason": "self", "message": ""})
    slurm.jobs = RUNNING.replace("RUNNING", "CANCELLED")
    assert end_of(spawner) == "self"


def test_a_server_that_nobody_reaches_is_ended(spawner: CampusSlurmSpawner, monkeypatch: pytest.MonkeyPatch) -> None:
    spawner.answer_interval, spawner.unreachable_timeout = 0.01, 0.05
    ended: list[str] = []
    farewells: list[str] = []

    async def say_goodbye() -> None:
        farewells.append(spawner.name)

    monkeypatch.setattr(spawner, "begin_end", ended.append)
    monkeypatch.setattr(spawner, "_say_goodbye", say_goodbye)

    async def scenario() -> None:
        await asyncio.wait_for(spawner.watch_answers(), 5)
        await spawner.announce_end("unreachable")

    asyncio.run(scenario())
    assert ended == ["unreachable"]
    assert farewells == [], "nobody would hear it"


class Routes(CampusProxy):
    """The hub's side of its proxy; a stand-in for the proxy itself."""

    def __init__(self, spawner: CampusSlurmSpawner) -> None:
        super().__init__(auth_token="secret")
        self.spawner, self.deleted, self.target = spawner, list[str](), ""
        # What a proxy that is busy waits for before it takes the next target, or why it does not.
        self.busy: list[asyncio.Event | Exception] = []

    async def add_user(self, user: Any, server_name: str = "") -> None:
        # JupyterHub's users have them by name.
        await super().add_user(SimpleNamespace(name=user.name, spawners={server_name: self.spawner}), server_name)

    async def add_route(self, _routespec: str, target: str, _data: Any) -> None:
        for reason in [self.busy.pop(0)] if self.busy else []:
            if isinstance(reason, Exception):
                raise reason
            await reason.wait()
        self.target = target

    async def delete_user(self, user: Any, server_name: str = "") -> None:
        self.deleted.append(f"{user.name}/{server_name}")
        self.target = ""


@pytest.fixture
def watched(spawner: CampusSlurmSpawner, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], Routes]:
    """Ends that the watch of a server begins, and routes that it takes away."""
    ended: list[str] = []
    routes = Routes(spawner)
    monkeypatch.setattr(spawner, "begin_end", ended.append)
    monkeypatch.setattr(CampusSlurmSpawner, "proxy_spec", "/user/me/", raising=False)
    spawner.user.settings["proxy"] = routes
    return ended, routes


def test_a_server_that_hangs_is_not_ended(
    spawner: CampusSlurmSpawner, watched: tuple[list[str], Routes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on storage that does not answer. Its port is open, nobody is there who would say a word."""
    spawner.answer_interval, spawner.unreachable_timeout = 0.01, 0.05
    monkeypatch.setattr("campushub_hub.spawners.slurm.CONNECT_SECONDS", 0.2)

    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            place = SimpleNamespace(ip="127.0.0.1", port=listener.getsockname()[1], base_url="/")
            monkeypatch.setattr(CampusSlurmSpawner, "server", place)
            watch = asyncio.ensure_future(spawner.watch_answers())
            await asyncio.sleep(1)
            assert watched[0] == []
        await asyncio.wait_for(watch, 5)

    asyncio.run(scenario())
    assert watched[0] == ["unreachable"]


@pytest.fixture
def own(hub: SlurmCluster, spawner: CampusSlurmSpawner, tmp_path: Path) -> ssl.SSLContext:
    """What the server listens with whose certificate the spawner has made."""
    context = server_context(hub.tls, tmp_path / "own", ssl.Purpose.CLIENT_AUTH)
    spawner.fingerprint = cluster_fingerprint(ssl.PEM_cert_to_DER_cert((tmp_path / "own" / "certificate").read_text()))
    return context


@pytest.fixture
def other(hub: SlurmCluster, tmp_path: Path) -> ssl.SSLContext:
    """What another server of the same node listens with."""
    return server_context(hub.tls, tmp_path / "other", ssl.Purpose.CLIENT_AUTH)


@pytest.mark.attack
def test_another_server_at_the_port_is_found_out(
    spawner: CampusSlurmSpawner,
    watched: tuple[list[str], Routes],
    other: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a certificate of its own for the same node; a browser must not be sent there for two minutes."""
    spawner.answer_interval = 0.01

    async def scenario() -> None:
        listener = await asyncio.start_server(lambda _, writer: writer.close(), "localhost", 0, ssl=other)
        async with listener:
            place = SimpleNamespace(ip="localhost", port=listener.sockets[0].getsockname()[1], base_url="/")
            monkeypatch.setattr(CampusSlurmSpawner, "server", place)
            with pytest.raises(ServerStartError, match="Somebody else"):
                await spawner.wait_until_reachable(place.ip, place.port)
            await asyncio.wait_for(spawner.watch_answers(), 5)

    asyncio.run(scenario())
    assert watched[0] == ["unreachable"]
    assert watched[1].deleted == [f"{ME.pw_name}/"], "before anything else is sent there"


@pytest.mark.attack
def test_who_takes_the_port_of_an_ended_server_is_found(
    spawner: CampusSlurmSpawner,
    watched: tuple[list[str], Routes],
    own: ssl.SSLContext,
    other: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At once, not at the next of the looks that are 20 seconds apart: its connection to the hub has ended."""
    spawner.answer_interval = 20

    async def scenario() -> None:
        connected = asyncio.Event()
        ends = asyncio.Event()
        connections = 0

        async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            connected.set()
            await ends.wait()
            writer.close()

        first = await asyncio.start_server(serve, "localhost", 0, ssl=own)
        port = first.sockets[0].getsockname()[1]
        monkeypatch.setattr(
            CampusSlurmSpawner, "server", SimpleNamespace(ip="localhost", port=port, base_url="/"), raising=False
        )
        watch = asyncio.ensure_future(spawner.watch_answers())
        await asyncio.wait_for(connected.wait(), 5)
        await asyncio.sleep(1.1)
        assert connections == 1, "it costs the hub nothing while the server runs"
        first.close()
        ends.set()
        second = await asyncio.start_server(lambda _, writer: writer.close(), "localhost", port, ssl=other)
        async with second:
            await asyncio.wait_for(watch, 5)

    asyncio.run(scenario())
    assert watched[1].deleted == [f"{ME.pw_name}/"]


def place_of(port: int) -> SimpleNamespace:
    """Where a server listens, as JupyterHub has it."""
    return SimpleNamespace(ip="localhost", port=port, base_url="/", host=f"https://localhost:{port}")


async def until(condition: Callable[[], bool], seconds: float = 5) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.02)


@pytest.mark.attack
def test_who_stalls_at_the_port_of_an_ended_server_gets_nobody(
    spawner: CampusSlurmSpawner,
    watched: tuple[list[str], Routes],
    own: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever listens there shows the hub no certificate at all; when the server is back, so are its pages."""
    spawner.answer_interval, routes = 20, watched[1]

    async def scenario() -> None:
        ends, connected = asyncio.Event(), asyncio.Event()

        async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connected.set()
            await ends.wait()
            writer.close()

        server = await asyncio.start_server(serve, "localhost", 0, ssl=own)
        place = place_of(server.sockets[0].getsockname()[1])
        monkeypatch.setattr(CampusSlurmSpawner, "server", place, raising=False)
        watch = asyncio.ensure_future(spawner.watch_answers())
        await asyncio.wait_for(connected.wait(), 5)
        await asyncio.sleep(1.1)
        assert routes.target == "", "the route is as JupyterHub has made it"
        server.close()
        ends.set()
        with socket.create_server(("localhost", place.port)):
            await until(lambda: routes.target == NOWHERE, 1.5)
            # As JupyterHub does every few minutes, and for a new proxy.
            await routes.add_user(spawner.user)
            assert (routes.target, watched[0], await spawner.exchange()) == (NOWHERE, [], None)
        ends.clear()
        server = await asyncio.start_server(serve, "localhost", place.port, ssl=own)
        await until(lambda: routes.target == place.host, 10)
        watch.cancel()
        ends.set()
        server.close()

    asyncio.run(scenario())
    assert routes.deleted == []


def test_a_route_is_changed_after_jupyterhub_has_made_it(
    spawner: CampusSlurmSpawner, watched: tuple[list[str], Routes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else that of a start would count, whatever was found meanwhile."""
    with socket.create_server(("localhost", 0)) as free:
        place = place_of(free.getsockname()[1])
    monkeypatch.setattr(CampusSlurmSpawner, "server", place, raising=False)
    monkeypatch.setattr(spawner, "_spawn_pending", True)

    async def scenario() -> None:
        watch = asyncio.ensure_future(spawner.watch_answers())
        await asyncio.sleep(0.3)
        assert not spawner.withheld
        spawner._spawn_pending = False  # noqa: SLF001 (as JupyterHub sets it)
        await until(lambda: watched[1].target == NOWHERE)
        watch.cancel()

    asyncio.run(scenario())


def test_nobody_is_led_to_a_job_that_is_ending(
    hub: SlurmCluster,
    slurm: Slurm,
    spawner: CampusSlurmSpawner,
    watched: tuple[list[str], Routes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its port may be free, however long Slurm takes to call it ended."""
    monkeypatch.setattr(CampusSlurmSpawner, "server", place_of(4000), raising=False)

    async def scenario() -> None:
        watch = asyncio.ensure_future(spawner.watch())
        await asyncio.sleep(0)
        slurm.jobs = RUNNING
        await hub.refresh()
        await asyncio.sleep(0)
        assert watched[1].target == ""
        slurm.jobs = RUNNING.replace("RUNNING", "COMPLETING")
        await hub.refresh()
        await until(lambda: watched[1].target == NOWHERE)
        watch.cancel()

    asyncio.run(scenario())


@pytest.mark.attack
@pytest.mark.parametrize("sequence", [[True, False], [True, False, True], [None, True], [None, True, False]])
def test_a_busy_proxy_learns_last_what_holds(
    spawner: CampusSlurmSpawner,
    watched: tuple[list[str], Routes],
    monkeypatch: pytest.MonkeyPatch,
    sequence: list[bool | None],
) -> None:
    """Whether the hub or JupyterHub (None) changes the route while an earlier change is on its way."""
    place, routes, free = place_of(4000), watched[1], asyncio.Event()
    monkeypatch.setattr(CampusSlurmSpawner, "server", place, raising=False)
    routes.busy = [free]

    async def scenario() -> None:
        comparison = None
        for withheld in sequence:
            if withheld is None:
                comparison = asyncio.ensure_future(routes.add_user(spawner.user))
            else:
                spawner.withhold(withheld)
            await asyncio.sleep(0.02)
        assert routes.target == ""
        free.set()
        await until(lambda: not spawner._routing)  # noqa: SLF001 (nothing else tells)
        assert comparison is None or comparison.done()

    asyncio.run(scenario())
    assert routes.target == (NOWHERE if sequence[-1] else place.host)


@pytest.mark.attack
def test_the_end_of_a_doubt_does_not_leave_the_route_open(
    spawner: CampusSlurmSpawner, watched: tuple[list[str], Routes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a job that is ending: nobody says again that its server is to be withheld."""
    monkeypatch.setattr(CampusSlurmSpawner, "server", place_of(4000), raising=False)
    free = asyncio.Event()
    watched[1].busy = [free]

    async def scenario() -> None:
        spawner.begin_doubt(0)
        await until(lambda: spawner.withheld)
        spawner.end_doubt()
        free.set()
        spawner.withhold(True)
        await until(lambda: watched[1].target == NOWHERE, 1)

    asyncio.run(scenario())


def test_a_proxy_that_has_failed_is_told_again(
    spawner: CampusSlurmSpawner, watched: tuple[list[str], Routes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the next look at the server, which are a second apart, not when JupyterHub compares the routes."""
    monkeypatch.setattr(CampusSlurmSpawner, "server", place_of(4000), raising=False)
    watched[1].busy = [TimeoutError("the proxy does not answer")]

    async def scenario() -> None:
        spawner.withhold(True)
        await until(lambda: not spawner._routing)  # noqa: SLF001 (nothing else tells)
        assert watched[1].target == ""
        spawner.withhold(True)
        await until(lambda: watched[1].target == NOWHERE, 1)

    asyncio.run(scenario())


@pytest.mark.attack
@pytest.mark.parametrize("withheld", [True, False])
def test_a_route_is_compared_with_what_holds(
    spawner: CampusSlurmSpawner,
    watched: tuple[list[str], Routes],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    withheld: bool,
) -> None:
    """What is right is not set again and warned of every few minutes, and what is not is."""
    place, routes = place_of(4000), watched[1]
    monkeypatch.setattr(CampusSlurmSpawner, "server", place, raising=False)
    spawner.withheld = withheld
    users = {1: SimpleNamespace(name=ME.pw_name, spawners={"": spawner})}
    routes.hub = SimpleNamespace(host="http://127.0.0.1:8081", routespec="/")
    routes.app = SimpleNamespace(hub=routes.hub)
    routes.log = logging.getLogger("proxy")
    hub_route = {"routespec": "/", "target": routes.hub.host, "data": {"hub": True}}

    async def scenario(target: str) -> str:
        route = {"routespec": spawner.proxy_spec, "target": target, "data": {"user": ME.pw_name}}
        await routes.check_routes(users, {}, {"/": hub_route, spawner.proxy_spec: route})
        return routes.target

    right, wrong = (NOWHERE, place.host) if withheld else (place.host, NOWHERE)
    assert (asyncio.run(scenario(right)), caplog.records) == ("", [])
    assert asyncio.run(scenario(wrong)) == right
    assert "Updating route" in caplog.text


class Answering:
    """A server that answers questions on a connection that stays open, as long as it is well."""

    def __init__(self) -> None:
        self.connections = self.questions = 0
        self.well = True
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        while await reader.readuntil(b"\r\n\r\n"):
            self.questions += 1
            if self.well:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    def end(self) -> None:
        for writer in self.writers:
            writer.transport.abort()


def test_the_hub_asks_a_server_on_one_connection(
    spawner: CampusSlurmSpawner,
    watched: tuple[list[str], Routes],
    own: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A connection for each question would cost the hub of hundreds of servers most of what it does."""
    spawner.answer_interval, spawner.answer_timeout, server = 0.05, 0.2, Answering()
    monkeypatch.setattr(spawner, "look_at_home", asyncio.Event().wait)

    async def scenario() -> None:
        listener = await asyncio.start_server(server.serve, "localhost", 0, ssl=own)
        async with listener:
            place = place_of(listener.sockets[0].getsockname()[1])
            monkeypatch.setattr(CampusSlurmSpawner, "server", place)
            watch = asyncio.ensure_future(spawner.watch_answers())
            await until(lambda: server.questions > 3)
            assert (server.connections, spawner.unresponsive) == (1, False)
            server.well = False
            await until(lambda: spawner.unresponsive)
            asked = server.questions
            await asyncio.sleep(0.5)
            assert server.questions <= asked + 1, "a server that hangs is not asked more and more"
            watch.cancel()
            await asyncio.sleep(0)

    asyncio.run(scenario())
    assert watched[0] == []


def test_a_server_that_has_answered_is_asked_less_often(
    spawner: CampusSlurmSpawner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that does not is asked as often as the setting says, and one whose connection has ended."""
    spawner.answer_interval = 20
    monkeypatch.setattr(spawner, "_held", HeldConnection(None))  # type: ignore[arg-type]
    for now, pause in ((0, 60), (30, 30), (45, 75), (59, 61)):
        with monkeypatch.context() as clock:
            clock.setattr(time, "monotonic", lambda now=now: now)
            assert spawner.answer_pause == pause
    spawner.unresponsive = True
    assert spawner.answer_pause == 20
    spawner.unresponsive, spawner._held = False, None  # noqa: SLF001
    assert spawner.answer_pause == 20


@pytest.mark.attack
@pytest.mark.parametrize("asked", [False, True])
def test_a_server_that_says_too_much_is_not_heard(asked: bool) -> None:
    """It is a program of its user's, who could keep the hub busy."""

    class Writer:
        def write(self, data: bytes) -> None:
            pass

    class Endless:
        said = 0

        async def read(self, most: int) -> bytes:
            self.said += most
            await asyncio.sleep(0)
            return b"x" * most

    async def scenario() -> int:
        held, reader = HeldConnection(Writer()), Endless()  # type: ignore[arg-type]
        question = asyncio.ensure_future(held.ask(b"")) if asked else None
        await asyncio.sleep(0)
        await asyncio.wait_for(held.listen(reader), 5)  # type: ignore[arg-type]
        assert question is None or await question
        return reader.said

    assert asyncio.run(scenario()) <= 2 * ANSWER_SIZE


def test_only_who_waits_for_the_end_of_a_job_is_told(hub: SlurmCluster, slurm: Slurm) -> None:
    """Not the watches of all the other servers, every few seconds."""

    async def scenario() -> None:
        slurm.jobs = f"{RUNNING}\n{PENDING}"
        for number in (12, 13):
            hub.claim(mine(number), SimpleNamespace())  # type: ignore[arg-type]
        ends = [asyncio.ensure_future(hub.wait_for_end(mine(number))) for number in (12, 13)]
        await hub.refresh()
        await asyncio.sleep(0)
        assert [end.done() for end in ends] == [False, False]
        slurm.jobs = f"{RUNNING.replace('RUNNING', 'FAILED')}\n{PENDING}"
        await hub.refresh()
        await asyncio.sleep(0.01)
        assert [end.done() for end in ends] == [True, False]
        await asyncio.wait_for(hub.wait_for_end(mine(12)), 1)
        ends[1].cancel()

    asyncio.run(scenario())


def looks(slurm: Slurm) -> int:
    return len([call for call in slurm.calls if call[0] == "squeue"])


def test_slurm_is_asked_often_only_while_a_job_changes(
    slurm: Slurm,
    spawner: CampusSlurmSpawner,
    watched: tuple[list[str], Routes],
    own: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While it waits, begins, and after its connection has ended, so that the end is known with its reason."""
    hub, spawner.answer_interval = spawner.cluster, 20
    hub.query_interval = 0.02
    monkeypatch.setattr(spawner, "_spawn_pending", True)

    async def scenario() -> None:
        server = Answering()
        listener = await asyncio.start_server(server.serve, "localhost", 0, ssl=own)
        place = place_of(listener.sockets[0].getsockname()[1])
        monkeypatch.setattr(CampusSlurmSpawner, "server", place)
        tasks = [asyncio.ensure_future(task) for task in (hub.watch(), spawner.watch_answers(), spawner.watch())]
        await until(lambda: looks(slurm) > 5, 2)
        spawner._spawn_pending = False  # noqa: SLF001 (as JupyterHub sets it)
        await until(lambda: spawner.settled)
        await asyncio.sleep(0.1)
        before = looks(slurm)
        await asyncio.sleep(0.5)
        assert looks(slurm) == before
        # Another one is submitted.
        hub.claim(mine(13), spawner)
        await until(lambda: looks(slurm) == before + 1, 1)
        # It was given up, and is cancelled if it is still there.
        hub.release(mine(13))
        await until(lambda: looks(slurm) == before + 2, 1)
        # This one is killed, which Slurm knows a moment later.
        listener.close()
        server.end()
        await until(lambda: looks(slurm) > before + 6, 2)
        slurm.jobs = KILLED.replace("11|", "12|")
        await asyncio.wait_for(hub.wait_for_end(mine(12)), 2)
        assert (hub.jobs[mine(12)].state, watched[0]) == ("OUT_OF_MEMORY", [])
        for task in tasks:
            task.cancel()

    asyncio.run(scenario())


def test_a_silent_slurm_is_asked_again_soon(hub: SlurmCluster, slurm: Slurm) -> None:
    hub.query_interval, slurm.jobs = 0.02, None

    async def scenario() -> None:
        watch = asyncio.ensure_future(hub.watch())
        await until(lambda: looks(slurm) > 5, 2)
        watch.cancel()

    asyncio.run(scenario())


@pytest.mark.attack
def test_a_number_of_somebody_elses_job_is_of_no_use(
    hub: SlurmCluster, slurm: Slurm, spawner: CampusSlurmSpawner
) -> None:
    """The mediator has run as its user, who could have it answer with any number."""
    other = Key(ME.pw_uid + 1, 12)

    async def scenario() -> None:
        hub.claim(other, SimpleNamespace())  # type: ignore[arg-type]
        slurm.jobs = RUNNING
        await hub.refresh()
        assert hub.look(other) == GONE
        assert await spawner.poll() is None
        hub.release(other)
        await hub.cancel_orphans()

    asyncio.run(scenario())
    assert cancelled(slurm) == []


# Jobs that belong to no server


def cancelled(slurm: Slurm) -> list[tuple[str, ...]]:
    return [call for call in slurm.calls if call[-1] == "cancel"]


@pytest.mark.parametrize(
    ("uid", "outside"),
    [
        (999, ["sudo", "-nH", "-u", "bob"]),
        (0, ["systemd-run", *SYSTEMD_RUN, "--uid=bob", "--"]),
    ],
)
def test_a_job_of_no_server_is_cancelled_as_its_user(
    hub: SlurmCluster, slurm: Slurm, monkeypatch: pytest.MonkeyPatch, uid: int, outside: list[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)

    async def scenario() -> None:
        slurm.jobs = f"{RUNNING}\n{PENDING}\n{KILLED}"
        hub.claim(mine(12), SimpleNamespace())  # type: ignore[arg-type]
        await hub.refresh()
        await hub.cancel_orphans()
        await hub.cancel_orphans()

    asyncio.run(scenario())
    assert cancelled(slurm) == [(*outside, cluster.MEDIATOR, "cancel")]


@pytest.mark.attack
def test_many_jobs_with_the_hubs_name_take_one_call(hub: SlurmCluster, slurm: Slurm) -> None:
    async def scenario() -> None:
        slurm.jobs = "\n".join(RUNNING.replace("12|", f"{number}|", 1) for number in range(1000, 6000))
        await hub.refresh()
        await hub.cancel_orphans()

    asyncio.run(scenario())
    assert len(cancelled(slurm)) == 1


def test_a_job_of_a_closed_account_is_cancelled_as_slurm(hub: SlurmCluster, slurm: Slurm) -> None:
    slurm.closed = {"bob"}

    async def scenario() -> None:
        slurm.jobs = f"{PENDING}"
        await hub.refresh()
        await hub.cancel_orphans()

    asyncio.run(scenario())
    assert [call[3] for call in cancelled(slurm)] == ["bob", "slurm"]
    assert slurm.given[-1] == {"jobs": [13], "name": "campushub-test", "user": "bob"}


def test_what_slurm_refuses_a_user_is_not_asked_as_slurm(hub: SlurmCluster, slurm: Slurm) -> None:
    slurm.problem = "Access/permission denied"

    async def scenario() -> None:
        slurm.jobs = PENDING
        await hub.refresh()
        await hub.cancel_orphans()

    asyncio.run(scenario())
    assert [call[3] for call in cancelled(slurm)] == ["bob"]


@pytest.mark.attack
@pytest.mark.parametrize("said", ["endless", "much", "nested", "nothing"])
def test_a_mediator_that_cancels_cannot_fill_the_hub(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: str
) -> None:
    """Its user can write into what the hub reads. Any program is in the place of sudo here."""
    commands = {"endless": "exec yes", "much": "yes | head -c 2000000", "nothing": "exit 0"}
    commands["nested"] = f"head -c {answers.ANSWER_SIZE - 1} /dev/zero | tr '\\0' '['"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\n{commands[said]}\n")
    program.chmod(0o755)
    monkeypatch.setattr(cluster, "user_command", lambda *_: [str(program)])
    with pytest.raises(OSError, match=r"^the mediator of ann has"):
        asyncio.run(asyncio.wait_for(cluster.act("ann", "cancel"), 10))


def test_a_stop_that_is_refused_does_not_keep_the_server(
    slurm: Slurm, spawner: CampusSlurmSpawner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of an account that is closed, where Slurm's user may not either: the hub goes on to try."""
    monkeypatch.setattr(spawner.user, "name", "alice")
    spawner.stop_timeout = 0.1
    slurm.closed = {"alice", "slurm"}

    async def scenario() -> None:
        await spawner.stop()
        spawner.clear_state()
        await spawner.cluster.refresh()
        await spawner.cluster.cancel_orphans()

    asyncio.run(scenario())
    assert [call[3] for call in cancelled(slurm)] == ["alice", "slurm", "alice", "slurm"]


@pytest.mark.parametrize("uid", [999, 0])
def test_a_job_is_cancelled_outside_of_its_users_limits(
    slurm: Slurm, spawner: CampusSlurmSpawner, monkeypatch: pytest.MonkeyPatch, uid: int
) -> None:
    """A user who has used up all processes can still stop a server, whoever the hub runs as."""
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    slurm.jobs = RUNNING.replace("RUNNING", "COMPLETING")
    spawner.cluster.claims[spawner.key] = spawner, 0.0
    asyncio.run(spawner.stop())
    (call,) = cancelled(slurm)
    assert not [word for word in call if word.startswith("--slice")]
    assert slurm.given == [{"jobs": [12], "name": "campushub-test", "user": ME.pw_name}]


@pytest.mark.parametrize("accepted", [True, False])
def test_a_start_given_up_while_it_is_submitted_leaves_no_job(
    slurm: Slurm, spawner: CampusSlurmSpawner, monkeypatch: pytest.MonkeyPatch, accepted: bool
) -> None:
    """The start ends at once, however often it is given up, and the stop waits for the number of the job."""
    spawner.clear_state()

    async def mediator(action: str, **_: Any) -> dict[str, Any]:
        if action == "submit":
            await asyncio.sleep(1)
            return {"job": 12, "problem": ""} if accepted else {"job": 0, "problem": "no"}
        return {"problem": ""}

    async def nothing() -> None:
        pass

    for name in ("prepare", "resolve_home"):
        monkeypatch.setattr(spawner, name, nothing)
    monkeypatch.setattr(spawner, "run_mediator", mediator)
    monkeypatch.setattr(spawner.cluster, "begin", lambda: None)
    slurm.jobs = RUNNING if accepted else ""

    async def scenario() -> None:
        await give_up_start(spawner)
        spawner.stop_timeout = 0.1
        await asyncio.wait_for(spawner.stop(), 10)
        assert spawner.job == 12 * accepted
        spawner.clear_state()
        await spawner.cluster.refresh()
        await spawner.cluster.cancel_orphans()

    asyncio.run(scenario())
    assert bool(cancelled(slurm)) == accepted


def test_a_job_whose_number_is_on_its_way_stays(hub: SlurmCluster, slurm: Slurm) -> None:
    async def scenario() -> None:
        hub.submissions[ME.pw_uid] += 1
        await hub.refresh()
        await hub.cancel_orphans()

    asyncio.run(scenario())
    assert cancelled(slurm) == []


def test_nothing_is_cancelled_while_slurm_is_silent(hub: SlurmCluster, slurm: Slurm) -> None:
    async def scenario() -> None:
        await hub.refresh()
        slurm.jobs = None
        await hub.refresh()
        await hub.cancel_orphans()

    asyncio.run(scenario())
    assert cancelled(slurm) == []


@pytest.mark.parametrize("job", [PENDING.replace("13", "12"), RUNNING], ids=["waits", "has-not-reported"])
def test_a_job_that_a_killed_hub_was_starting_is_given_up(
    slurm: Slurm, spawner: CampusSlurmSpawner, monkeypatch: pytest.MonkeyPatch, job: str
) -> None:
    slurm.jobs = job
    monkeypatch.setattr(spawner, "_check_pending", True)

    async def scenario() -> None:
        assert await spawner.poll() == 1
        assert (spawner.job, spawner.cluster.claims) == (0, {})
        await spawner.cluster.refresh()
        await spawner.cluster.cancel_orphans()

    asyncio.run(scenario())
    assert spawner.orm_spawner.state["last_end"]["reason"] == "hub"
    assert len(cancelled(slurm)) == 1


def test_a_server_that_listened_outlives_the_hub(spawner: CampusSlurmSpawner, monkeypatch: pytest.MonkeyPatch) -> None:
    spawner.listens_at = "https://10.89.0.12:4000"
    again = CampusSlurmSpawner(user=spawner.user, orm_spawner=spawner.orm_spawner, db=spawner.db)
    again.load_state(spawner.get_state())
    monkeypatch.setattr(again, "_check_pending", True)
    assert asyncio.run(again.poll()) is None
    assert again.job == 12


@pytest.mark.parametrize("ran", [True, False])
def test_a_server_that_hangs_outlives_a_restart_of_the_hub(
    spawner: CampusSlurmSpawner, monkeypatch: pytest.MonkeyPatch, ran: bool
) -> None:
    """What JupyterHub waits for next, to end the server if it does not come."""
    monkeypatch.setattr("campushub_hub.spawners.lifetime.RESTART_SECONDS", 0.1)
    server = SimpleNamespace(base_url="/user/me/", url="", wait_up=lambda **_: asyncio.sleep(60))
    monkeypatch.setattr(CampusSlurmSpawner, "server", server)
    spawner.listens_at = "https://10.89.0.12:4000"

    async def scenario() -> Any:
        if ran:
            spawner.note_start()
        assert await spawner.get_url() == "https://10.89.0.12:4000/user/me/"
        return await asyncio.wait_for(server.wait_up(http=True), 2)

    if ran:
        assert asyncio.run(scenario()).headers == {}
    else:
        with pytest.raises(asyncio.TimeoutError):
            asyncio.run(scenario())


# Reports of jobs


def report(hub: SlurmCluster, uid: int, **values: Any) -> str:
    payload = json.dumps({"job": 12, "port": 4000, "directory": "/tmp/campushub-x", **values})
    text = CREDENTIAL.format(name="somebody", uid=uid, length=len(payload), payload=payload)

    class Reader:
        async def readline(self) -> bytes:
            return text.encode()

    return asyncio.run(hub.answer(Reader()))  # type: ignore[arg-type]


@pytest.fixture
def waiting(spawner: CampusSlurmSpawner) -> CampusSlurmSpawner:
    loop = asyncio.new_event_loop()
    spawner.report = loop.create_future()
    loop.close()
    spawner.cluster.claims[spawner.key] = spawner, 0.0
    return spawner


def test_a_job_gets_its_environment_for_its_user_alone(hub: SlurmCluster, waiting: CampusSlurmSpawner) -> None:
    answer = report(hub, ME.pw_uid)
    assert answer.startswith(f"--restrict-uid={ME.pw_uid} ")
    given = json.loads(answer.partition(" ")[2])
    assert (given["env"], given["tasks"]) == ({"JUPYTERHUB_API_TOKEN": "secret"}, 512)
    assert waiting.report
    assert waiting.report.result() == ("10.89.0.12", 4000)


@pytest.mark.attack
@pytest.mark.parametrize(
    ("uid", "values"),
    [
        (ME.pw_uid + 1, {}),
        (ME.pw_uid, {"job": 13}),
        (ME.pw_uid, {"port": 22}),
        (ME.pw_uid, {"port": 70000}),
    ],
    ids=["another user", "another job", "port of the system", "no port"],
)
@pytest.mark.usefixtures("waiting")
def test_other_reports_get_nothing(hub: SlurmCluster, uid: int, values: dict[str, int]) -> None:
    with pytest.raises(ReportError):
        report(hub, uid, **values)


@pytest.mark.attack
@pytest.mark.usefixtures("waiting")
def test_a_second_report_of_a_job_gets_nothing(hub: SlurmCluster) -> None:
    report(hub, ME.pw_uid)
    with pytest.raises(ReportError):
        report(hub, ME.pw_uid)


@pytest.mark.attack
def test_many_connections_of_one_host_keep_nobody_from_reporting(
    hub: SlurmCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All addresses of the hub's own host count as one, for its users have them all."""
    monkeypatch.setattr(cluster, "HOST_REPORTS", 3)
    asked: list[str] = []

    async def answer(reader: asyncio.StreamReader) -> str:
        asked.append((await reader.readline()).decode())
        return "answer"

    monkeypatch.setattr(hub, "answer", answer)

    async def scenario() -> None:
        listener = await asyncio.start_server(hub.receive, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]

        async def report_from(address: str, said: bytes) -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
            writer.write(said)
            try:
                return await reader.read()
            except OSError:
                return b""

        async with listener:
            held = [asyncio.ensure_future(report_from(f"127.0.0.{number}", b"")) for number in (2, 3, 4)]
            await until(lambda: hub._reporting["localhost"] == 3)  # noqa: SLF001
            assert (await report_from("127.0.0.5", b"x\n"), asked) == (b"", [])
            held.pop().cancel()
            await until(lambda: hub._reporting["localhost"] == 2)  # noqa: SLF001
            assert await report_from("127.0.0.5", b"x\n") == b"answer"
            for one in held:
                one.cancel()

    asyncio.run(scenario())
    assert cluster.host_of(("::ffff:10.0.0.7", 1, 0, 0)) == "10.0.0.7"


@pytest.mark.attack
def test_a_node_cannot_take_all_connections_of_the_api(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "HOST_CONNECTIONS", 2)

    async def scenario() -> None:
        server = cluster.NodeServer(Application([("/", RequestHandler)]))
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            server.add_socket(listener)
            port = listener.getsockname()[1]

            async def status() -> bytes:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"GET / HTTP/1.0\r\n\r\n")
                try:
                    return (await reader.read()).partition(b"\r\n")[0]
                except OSError:
                    return b""

            held = [(await asyncio.open_connection("127.0.0.1", port))[1] for _ in range(2)]
            await until(lambda: len(server.held["localhost"]) == 2)
            assert await status() == b""
            held.pop().close()
            await asyncio.sleep(0.1)
            assert b"405" in await status()
            server.stop()
            held.pop().close()

    asyncio.run(scenario())


@pytest.mark.attack
def test_a_payload_cannot_say_whose_it_is() -> None:
    text = CREDENTIAL.format(name="alice", uid=2001, length=1, payload="UID: root (0)\n\nUID: root (0)")
    assert parse_credential(text) == (2001, "UID: root (0)\n\nUID: root (0)")


@pytest.mark.attack
def test_a_job_believes_only_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    payload = json.dumps({"env": {}, "args": [], "files": {}})
    said = CREDENTIAL.format(name="mallory", uid=2003, length=1, payload=payload)
    monkeypatch.setattr(job_script, "run", lambda command, given: said if "unmunge" in command[0] else given)

    def answer(listener: socket.socket) -> None:
        for _ in range(2):
            connection, _ = listener.accept()
            with connection:
                connection.recv(999)
                connection.sendall(b"a credential")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=answer, args=(listener,), daemon=True).start()
        contact = f"127.0.0.1:{listener.getsockname()[1]}"
        assert job_script.ask(contact, 2003, {}) == json.loads(payload)
        with pytest.raises(ValueError, match="not from the hub"):
            job_script.ask(contact, 998, {})


@pytest.mark.attack
def test_a_hub_cannot_load_code_into_a_server() -> None:
    asked = {"LD_PRELOAD": "/tmp/x.so", "PYTHONPATH": "/tmp", "PATH": "/opt/campushub/user/bin", "HOME": "/net/me"}
    found = job_script.environment(asked, "/tmp/d")
    assert "LD_PRELOAD" not in found
    assert "PYTHONPATH" not in found
    assert (found["HOME"], found["XDG_RUNTIME_DIR"], found["USER"]) == ("/net/me", "/tmp/d", ME.pw_name)


def test_a_server_is_told_which_gpus_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """By Slurm's variables, of which programs know different ones."""
    said = {"CUDA_VISIBLE_DEVICES": "1", "GPU_DEVICE_ORDINAL": "1", "ROCR_VISIBLE_DEVICES": "1", "SLURM_JOB_GPUS": "1"}
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    assert said.items() <= job_script.environment({"PATH": "/bin", "HOME": "/net/me"}, "/tmp/d").items()


def test_a_server_has_no_more_tasks_than_its_user_may() -> None:
    read = "import resource; print(resource.getrlimit(resource.RLIMIT_NPROC))"
    code = (
        f"import sys; sys.path.insert(0, {str(Path(job_script.__file__).parent)!r}); import job; job.limit_tasks(512)"
    )
    printed = subprocess.run(
        [sys.executable, "-c", f"{code}; {read}"], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    assert printed.strip() == "(512, 512)"


def print_as_job(journal: Path) -> str:
    """What a job prints that is in nobody's journal."""
    code = f"""
import sys
sys.path.insert(0, {str(Path(job_script.__file__).parent)!r})
import job
job.JOURNAL = {str(journal)!r}
job.into_journal("alice")
print("hello", flush=True)
print("trouble", file=sys.stderr, flush=True)
"""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout


def test_what_a_job_prints_is_in_the_journal(tmp_path: Path) -> None:
    """A stand-in listens in the place of the journal."""
    with socket.socket(socket.AF_UNIX) as journal:
        journal.bind(str(tmp_path / "stdout"))
        journal.listen()
        assert print_as_job(tmp_path / "stdout") == ""
        connection, _ = journal.accept()
        with connection, connection.makefile() as stream:
            assert stream.read().split("\n") == [
                *("jupyterhub-user-alice", "", "6", "1", "0", "0", "0"),
                *("hello", "trouble", ""),
            ]


def test_a_job_prints_as_ever_where_there_is_no_journal(tmp_path: Path) -> None:
    assert print_as_job(tmp_path / "stdout") == "hello\ntrouble\n"


# Submission, as the user


def test_a_submission_has_nothing_of_the_hubs_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "command.json").write_text('["/usr/bin/setpriv", "jupyterhub-singleuser"]')
    monkeypatch.setattr(mediator, "COMMAND", str(tmp_path / "command.json"))
    monkeypatch.setenv("CONFIGPROXY_AUTH_TOKEN", "secret")
    monkeypatch.setenv("SUDO_UID", "998")
    seen: dict[str, Any] = {}

    def sbatch(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        seen.update(command=command, env=options["env"])
        return subprocess.CompletedProcess(command, 0, "42;centre\n", "")

    monkeypatch.setattr(subprocess, "run", sbatch)
    request = {"name": "campushub-hub", "interface": "", "minutes": 720, "cores": 2, "memory": 700}
    answer = mediator.submit({**request, "partition": "", "account": "", "qos": "", "contact": "hub:983"})
    assert answer == {"ok": True, "job": 42, "problem": ""}
    assert {"--no-requeue", "--mem=700M", "--cpus-per-task=2", "--time=720"} <= set(seen["command"])
    assert not [word for word in seen["command"] if word.startswith(("--partition", "--account", "--qos", "--g"))]
    assert seen["command"][-4:] == ["hub:983", "998", "/usr/bin/setpriv", "jupyterhub-singleuser"]
    assert set(seen["env"]) == {"PATH", "LANG", "HOME", "SHELL", "USER", "LOGNAME"}


def test_a_submission_says_what_was_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "command.json").write_text('{"": ["default"], "notebook": ["jupyterhub-singleuser"]}')
    monkeypatch.setattr(mediator, "COMMAND", str(tmp_path / "command.json"))
    commands: list[list[str]] = []

    def run(command: list[str]) -> tuple[str, str]:
        commands.append(command)
        return "7", ""

    monkeypatch.setattr(mediator, "run_slurm", run)
    request = {"name": "campushub-hub", "interface": "notebook", "minutes": 60, "cores": 1, "memory": 0}
    places = {"partition": "gpu", "account": "physics", "qos": "short", "contact": "hub:983"}
    mediator.submit({**request, **places, "gpus": 2})
    assert {"--partition=gpu", "--account=physics", "--qos=short", "--gres=gpu:2"} <= set(commands[0])
    assert commands[0][-1] == "jupyterhub-singleuser"
    for number in ("1,license:x", "tesla:1", [1]):
        with pytest.raises(ValueError, match="invalid literal"):
            mediator.submit({**request, **places, "gpus": number})
    assert len(commands) == 1


@pytest.mark.parametrize(("uid", "made"), [(999, []), (0, [ME.pw_name])])
def test_a_missing_home_is_made_before_a_job_is_submitted(
    spawner: CampusSlurmSpawner, monkeypatch: pytest.MonkeyPatch, uid: int, made: list[str]
) -> None:
    """By the session of the sudo rule, or by a hub that is root; what runs as the user has the user's limits."""
    found: list[str] = []
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setattr(user_session, "make_network_home", lambda account, _homes: found.append(account.pw_name))

    async def act(action: str, **_request: Any) -> dict[str, Any]:
        return {"home": action}

    monkeypatch.setattr(spawner, "run_mediator", act)
    answer = asyncio.run(spawner.create_network_home({}, home="/eos/u"))  # type: ignore[typeddict-item]
    assert (answer["home"], found) == ("probe" if made else "create-home", made)
    assert (f"--slice=jupyterhub-{ME.pw_uid}.slice" in spawner.user_command(30)) == bool(made)
    assert spawner.user_command(30)[-1] == ("--" if made else ME.pw_name)


# Accounts


def test_whoever_starts_a_server_is_added_to_its_account(hub: SlurmCluster, slurm: Slurm) -> None:
    """Once, by Slurm's own user."""
    hub.account = "campushub"

    async def scenario() -> None:
        for account in ("campushub", "physics", "campushub"):
            await hub.associate("alice", account)

    asyncio.run(scenario())
    assert slurm.calls == [("sudo", "-nH", "-u", "slurm", cluster.MEDIATOR, "associate")] * 2
    assert slurm.given == [{"user": "alice", "account": name} for name in ("campushub", "physics")]


def test_nobody_is_added_where_the_hub_has_no_account(hub: SlurmCluster, slurm: Slurm) -> None:
    asyncio.run(hub.associate("alice", "physics"))
    assert slurm.calls == []


def test_starts_do_not_wait_for_accounting_again_and_again(
    hub: SlurmCluster, slurm: Slurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.account = "campushub"
    slurm.problem = "slurm_persist_conn_open_without_init: failed to open persistent connection"

    async def scenario() -> None:
        await hub.associate("alice", "campushub")
        await hub.associate("alice", "campushub")
        monkeypatch.setattr(cluster, "ASSOCIATE_PAUSE", 0)
        await hub.associate("bob", "campushub")
        slurm.problem = ""
        await hub.associate("bob", "campushub")
        await hub.associate("bob", "campushub")

    asyncio.run(scenario())
    assert [request["user"] for request in slurm.given] == ["alice", "bob", "bob"]


def test_a_job_has_the_account_of_its_profile_or_the_hubs(spawner: CampusSlurmSpawner) -> None:
    spawner.cluster.account = "campushub"
    assert chosen(spawner, profile="small")["account"] == "campushub"
    assert chosen(spawner, profile="large", memory="4G", partition="main")["account"] == "physics"


@pytest.mark.attack
@pytest.mark.parametrize("name", ["alice,bob", "alice account=root", "alice\nbob", "", "-i", "adminlevel=admin"])
def test_a_name_adds_one_user_to_one_account(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def run(command: list[str]) -> tuple[str, str]:
        commands.append(command)
        return "", ""

    monkeypatch.setattr(mediator, "run_slurm", run)
    for user, account in ((name, "campushub"), ("alice", name)):
        assert "cannot be a name" in str(mediator.associate(user, account)["problem"])
    assert commands == []
    assert mediator.associate("ann.b_c@example.org", "campushub")["problem"] == ""
    assert commands[1][-3:] == ["user", "name=ann.b_c@example.org", "account=campushub"]


NO_ACCOUNT_24 = ("No account nosuch on cluster campushub, skipping.\nNothing added.", "status 1")
NO_ACCOUNT_22 = ("Nothing new added.", " This account 'nosuch' doesn't exist.")


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        ([("alice", "")], ""),
        ([("", ""), (" Adding User(s)", "")], ""),
        ([("", "Connection refused")], "Connection refused"),
        ([("", "status 124")], "status 124"),
        ([("", ""), NO_ACCOUNT_24], "No account nosuch on cluster campushub, skipping."),
        ([("", ""), NO_ACCOUNT_22], "This account 'nosuch' doesn't exist."),
    ],
)
def test_somebody_is_added_who_is_not_in_the_account(
    monkeypatch: pytest.MonkeyPatch, answers: list[tuple[str, str]], problem: str
) -> None:
    """By what sacctmgr of Debian 12 and 13 has answered."""
    left = list(answers)
    monkeypatch.setattr(mediator, "run_slurm", lambda _: left.pop(0))
    assert mediator.associate("alice", "campushub") == {"ok": True, "problem": problem}
    assert left == []


PROFILES: list[dict[str, Any]] = [
    {"name": "small", "title": "Small", "memory": "1G", "cpu": 1, "hours": 2},
    {"name": "large", "title": "Large", "memory": ["4G", "8G"], "partition": ["main", "big"], "account": "physics"},
    {"name": "card", "title": "Card", "gpus": [1, 0, 2], "qos": ["normal", "high"]},
]


def chosen(spawner: CampusSlurmSpawner, most: int | None = None, **options: Any) -> Any:
    """What a server asks the cluster for, with these options of its user's, who may have so much memory."""
    spawner.profiles, spawner.programs = PROFILES, {"": "/opt/server"}
    spawner._limits = {"memory": most, "cpu": 4.0, "tasks": None}  # noqa: SLF001
    spawner.user_options, spawner.default_url = options, "/lab"
    spawner.apply_choice()
    return spawner.resources()


def test_a_job_is_as_its_user_has_chosen(spawner: CampusSlurmSpawner) -> None:
    small = chosen(spawner)
    assert (small["memory"], small["cores"], small["minutes"], small["account"]) == (1024, 1, 120, "")
    large = chosen(spawner, profile="large", memory="8G", partition="big")
    assert (large["memory"], large["cores"], large["minutes"]) == (8192, 4, 720)
    assert (large["partition"], large["account"], large["qos"]) == ("big", "physics", "")
    assert spawner.user_options == {"profile": "large", "memory": "8G", "partition": "big"}
    assert (small["gpus"], large["gpus"]) == (0, 0)
    assert chosen(spawner, profile="card")["gpus"] == 1
    card = chosen(spawner, profile="card", gpus="2", qos="high")
    assert (card["gpus"], card["qos"]) == (2, "high")
    assert chosen(spawner, profile="card", gpus=0)["gpus"] == 0
    # What the site says of servers with no word of a profile.
    spawner.cluster.partition, spawner.hours, spawner.max_age, spawner.extension_limit = "short", 3, 3600, 1800
    small = chosen(spawner)
    assert (small["partition"], small["minutes"]) == ("short", 90)


def test_the_last_choice_is_remembered_with_its_place(spawner: CampusSlurmSpawner) -> None:
    chosen(spawner, profile="large", memory="8G", partition="big")
    last = spawner.last_choice()
    assert last
    assert (last.answers["memory"], last.answers["partition"]) == (2**33, "big")


def test_the_hub_ends_a_server_before_slurm_does(spawner: CampusSlurmSpawner, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that its pages are told; and however often a start has failed before."""
    asked: list[dict[str, Any]] = []

    async def mediator_of_user(_action: str, **request: Any) -> dict[str, Any]:
        asked.append(request)
        return {"ok": True, "job": 0, "problem": "Memory specification can not be satisfied"}

    async def nothing() -> None:
        pass

    monkeypatch.setattr(spawner, "run_mediator", mediator_of_user)
    for step in ("prepare", "prepare_session", "resolve_home"):
        monkeypatch.setattr(spawner, step, nothing)
    monkeypatch.setattr(spawner.cluster, "begin", lambda: None)
    spawner.hours = 2
    for _ in range(3):
        with pytest.raises(ServerStartError):
            asyncio.run(spawner.start())
        assert (asked[-1]["minutes"], spawner.age_limit) == (120, 7140)


def test_time_in_the_queue_is_no_part_of_the_age(spawner: CampusSlurmSpawner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a job of an hour that has waited for 50 minutes; also as counted again after the hub's host was restarted."""

    async def nothing(*_: Any) -> None:
        pass

    async def report() -> tuple[str, int]:
        return "10.89.0.12", 4000

    for step in ("prepare", "resolve_home", "submit", "wait_until_reachable"):
        monkeypatch.setattr(spawner, step, nothing)
    monkeypatch.setattr(spawner, "wait_for_report", report)
    monkeypatch.setattr(spawner.cluster, "begin", lambda: None)
    spawner.hours, spawner.orm_spawner.started = 1, utcnow(with_tz=False) - timedelta(minutes=50)
    asyncio.run(spawner.start())
    spawner.note_start()
    assert 3500 < (spawner.age_left() or 0) <= 3540
    monkeypatch.setattr("campushub_hub.spawners.lifetime.boot", lambda: "the next one")
    spawner.note_start()
    assert 3500 < (spawner.age_left() or 0) <= 3540


def test_nobody_gets_a_job_beyond_their_limits(spawner: CampusSlurmSpawner) -> None:
    assert chosen(spawner, 2**31, profile="large")["memory"] == 2048


@pytest.mark.attack
@pytest.mark.parametrize(
    "options",
    [
        {"profile": "large", "partition": "gpu"},
        {"profile": "large", "partition": "main\n--uid=0"},
        {"profile": "large", "partition": ["main", "big"]},
        {"profile": "large", "account": "chemistry"},
        {"profile": "small", "partition": "big"},
        {"profile": "small", "qos": "high"},
        {"profile": "large", "cores": 64},
        {"profile": "large", "gpus": 1},
        *({"profile": "card", "gpus": value} for value in (3, -1, "1\n--uid=0", "1,license:x", "1.5", True, None, "")),
        {"profile": "card", "qos": "root"},
    ],
    ids=str,
)
def test_no_place_that_is_not_offered(spawner: CampusSlurmSpawner, options: dict[str, Any]) -> None:
    with pytest.raises(ChoiceError):
        chosen(spawner, **options)


def test_who_looks_before_there_is_a_job_sees_the_queue(
    slurm: Slurm, spawner: CampusSlurmSpawner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As while a slow storage is asked for the home: the page opens before the cluster is asked for a place."""
    monkeypatch.setattr(spawner, "_spawn_pending", True)
    key, spawner.job = spawner.key, 0
    slurm.jobs = PENDING.replace("13|", "12|")

    async def scenario() -> list[str]:
        async with contextlib.aclosing(spawner._generate_progress()) as events:  # noqa: SLF001 (as JupyterHub)
            seen = [(await anext(events))["message"] for _ in range(2)]
            queue = asyncio.ensure_future(anext(events))
            await asyncio.sleep(0)
            spawner.job = key.number
            await spawner.cluster.refresh()
            event = await asyncio.wait_for(queue, 1)
            return [*seen, event["queue"]["reason"]]

    assert asyncio.run(scenario()) == ["Server requested", "Asking the cluster for a place", "Resources"]


@pytest.mark.parametrize("reason", ["PartitionTimeLimit", "InvalidAccount", "QOSMaxWallDurationPerJobLimit"])
def test_a_job_that_never_begins_ends_the_start(slurm: Slurm, spawner: CampusSlurmSpawner, reason: str) -> None:
    async def scenario() -> None:
        slurm.jobs = PENDING.replace("13|", "12|").replace("Resources", reason)
        await spawner.cluster.refresh()
        found = spawner.cluster.look(spawner.key)
        assert found
        with pytest.raises(ServerStartError, match=reason):
            spawner.check_job(found)
        spawner.check_job(found._replace(reason="Priority"))

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (
            [
                "Memory specification can not be satisfied",
                "Batch job submission failed: Requested node configuration is not available",
            ],
            "Memory specification can not be satisfied",
        ),
        (
            [
                "If munged is up, restart with --num-threads=10",
                'Munge encode failed: Failed to access "/run/munge/munge.socket.2": No such file or directory',
                "slurm_buffers_pack_msg: auth_g_create: REQUEST_SUBMIT_BATCH_JOB has authentication error",
                "Batch job submission failed: Protocol authentication error",
            ],
            'Munge encode failed: Failed to access "/run/munge/munge.socket.2": No such file or directory',
        ),
    ],
)
def test_of_what_slurm_says_one_sentence_is_the_problem(
    monkeypatch: pytest.MonkeyPatch, lines: list[str], problem: str
) -> None:
    said = "".join(f"sbatch: error: {line}\n" for line in lines)
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1, "", said))
    assert mediator.run_slurm(["sbatch"]) == ("", problem)


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        ("invalid partition specified: nosuch", "has not accepted your server: invalid partition"),
        # In our words, with the sentence of Slurm.
        ("Memory specification can not be satisfied", "has as much as you have chosen.* says: Memory"),
        ("Batch job submission failed: Requested node configuration is not available", "has as much as you have"),
        ("Invalid generic resource (gres) specification", "has as much as you have chosen"),
        ("Batch job submission failed: Invalid qos specification", "may not use the QOS “high”.* says: Batch"),
        ("Batch job submission failed: Job violates accounting/QOS policy", "beyond a limit"),
        # Of those that Slurm gives, the hub knows nothing.
        ("Invalid account or account/partition combination specified", "has not accepted your server: Invalid account"),
        ("Unable to contact slurm controller (connect failure)", "does not answer"),
        ("Batch job submission failed: Socket timed out on send/recv operation", "does not answer"),
        ("Munge encode failed: Failed to access ...", "does not answer"),
        ("Batch job submission failed: Protocol authentication error", "does not answer"),
    ],
)
def test_a_refused_start_says_why(spawner: CampusSlurmSpawner, problem: str, words: str) -> None:
    spawner.job = 0

    async def refuse(_action: str, **_: Any) -> dict[str, Any]:
        return {"ok": True, "job": 0, "problem": problem}

    spawner.run_mediator = refuse  # type: ignore[method-assign, assignment]
    wanted = Resources(partition="", account="", qos="high", memory=1, cores=1, gpus=0, minutes=1)
    with pytest.raises(ServerStartError, match=words):
        asyncio.run(spawner.submit(wanted))
    assert spawner.cluster.submissions[ME.pw_uid] == 0


def test_the_page_of_limits_says_what_holds_for_a_job(spawner: CampusSlurmSpawner) -> None:
    templates = Path(campushub_hub.__file__).parent / "templates"
    pages = jinja2.Environment(loader=jinja2.FileSystemLoader(templates), autoescape=True, **translation.extended({}))
    source = (templates / "limits.html").read_text().replace('{% extends "page.html" %}', "")
    spawner.hours = 3
    limits = {"memory": 2**31, "cpu": 2.0, "tasks": 512}
    page = pages.from_string(source).render(spawner=spawner, limits=limits, base_url="/hub/")
    assert "Each of your servers has so much memory" in page
    assert "over all your servers" not in page
    assert "<td>3 h</td>" in page
    spawner.profiles = [*PROFILES, {"name": "here", "title": "Here", "run_on": "local"}]
    page = pages.from_string(source).render(spawner=spawner, limits=limits, base_url="/hub/")
    assert "together, and for each of your servers in the cluster" in page


# Certificates


async def meet(server: ssl.SSLContext, client: ssl.SSLContext) -> bytes:
    """Return what a client gets from a server, which is nothing where one of them does not believe the other."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"welcome")
        writer.close()

    listener = await asyncio.start_server(serve, "localhost", 0, ssl=server)
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        try:
            reader, writer = await asyncio.open_connection("localhost", port, ssl=client)
            writer.write(b"hello\n")
            return await reader.read()
        except OSError:
            return b""


def server_context(certificates: Certificates, directory: Path, purpose: ssl.Purpose) -> ssl.SSLContext:
    """What a server on a node has."""
    directory.mkdir()
    pair = certificates.for_server("alice", "localhost")
    (directory / "key").write_text(pair.key)
    (directory / "certificate").write_text(pair.certificate)
    (directory / "ca").write_text(certificates.centre_authority)
    context = ssl.create_default_context(purpose, cafile=str(directory / "ca"))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(directory / "certificate", directory / "key")
    return context


def test_hub_and_server_know_each_other(hub: SlurmCluster, tmp_path: Path) -> None:
    server = server_context(hub.tls, tmp_path / "a", ssl.Purpose.CLIENT_AUTH)
    assert asyncio.run(meet(server, hub.tls.hub_context())) == b"welcome"
    client = server_context(hub.tls, tmp_path / "b", ssl.Purpose.SERVER_AUTH)
    assert asyncio.run(meet(hub.tls.hub_context(ssl.Purpose.CLIENT_AUTH), client)) == b"welcome"


@pytest.mark.attack
def test_a_server_of_another_user_is_not_let_in(hub: SlurmCluster, tmp_path: Path) -> None:
    mine = server_context(hub.tls, tmp_path / "a", ssl.Purpose.CLIENT_AUTH)
    other = server_context(hub.tls, tmp_path / "b", ssl.Purpose.SERVER_AUTH)
    # Even where it takes the other one for what it is.
    other.load_verify_locations(hub.tls.directory / "servers-ca.pem")
    assert asyncio.run(meet(mine, other)) == b""


@pytest.mark.attack
def test_who_has_no_certificate_is_not_let_in(hub: SlurmCluster) -> None:
    anybody = ssl.create_default_context(cafile=str(hub.tls.directory / "centre-ca.pem"))
    assert asyncio.run(meet(hub.tls.hub_context(ssl.Purpose.CLIENT_AUTH), anybody)) == b""


def test_keys_follow_the_user_that_the_hub_runs_as(
    certificates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another one than before; certificates of servers that run are believed as before."""
    directory = tmp_path / "nodes"
    shutil.copytree(certificates, directory)
    before = {path.name: path.read_text() for path in directory.iterdir()}
    given: dict[str, int] = {}
    monkeypatch.setattr(os, "chown", lambda path, _uid, gid: given.update({path.name: gid}))
    mine, other = (
        grp.getgrgid(os.getgid()).gr_name,
        next(group for group in grp.getgrall() if group.gr_gid != os.getgid()),
    )
    assert make_certificates.main(str(directory), mine, mine, "localhost") == 0
    assert (given, capsys.readouterr().out) == ({}, "")
    assert make_certificates.main(str(directory), other.gr_name, mine, "localhost") == 0
    assert given == {"servers-ca.key": other.gr_gid, "hub.key": other.gr_gid}
    assert capsys.readouterr().out == "made\n"
    assert {path.name: path.read_text() for path in directory.iterdir()} == before
