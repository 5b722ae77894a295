"""The spawners, with real processes and sockets; sudo and systemd's programs are stand-ins where they are named so."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest
from jupyterhub import orm
from jupyterhub.app import JupyterHub
from jupyterhub.objects import Server
from systemdspawner import systemd
from tests.unit.conftest import Storage
from traitlets.config import Config

from campushub_hub import configuration
from campushub_hub.host import look, mediator, user_session
from campushub_hub.host.stop import is_server
from campushub_hub.spawners import CampusSudoSpawner, CampusSystemdSpawner, ServerStartError, base, transient_unit
from campushub_hub.spawners import sudo as sudo_spawner
from campushub_hub.spawners import systemd as systemd_spawner
from campushub_hub.spawners.lifetime import Condition
from campushub_hub.spawners.listeners import socket_owners
from campushub_hub.spawners.systemd import escape_unit_name

from .conftest import give_up_start, merged

ME = pwd.getpwuid(os.getuid()).pw_name
NOBODY = 65534

# Which user a socket belongs to


def listener(family: int, address: str, port: int = 0, listens: bool = True) -> socket.socket:
    opened = socket.socket(family)
    if family == socket.AF_INET6:
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    opened.bind((address, port))
    if listens:
        opened.listen()
    return opened


def other_users_listener() -> socket.socket:
    """Open a socket as another user of this machine."""
    if os.getuid() != 0:
        pytest.skip("only root can open a socket as another user")
    os.seteuid(NOBODY)
    try:
        return listener(socket.AF_INET, "127.0.0.1")
    finally:
        os.seteuid(0)


@pytest.mark.parametrize(
    ("family", "address"),
    [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::1"), (socket.AF_INET6, "::")],
    ids=str,
)
def test_owner_of_a_port(family: int, address: str) -> None:
    with listener(family, address) as opened:
        port = opened.getsockname()[1]
        assert socket_owners(port) == {os.getuid()}
        assert socket_owners(port ^ 1) == set()
    assert socket_owners(port) == set()


def test_both_families_on_one_port_are_seen() -> None:
    with listener(socket.AF_INET, "127.0.0.1") as first:
        port = first.getsockname()[1]
        if os.getuid() != 0:
            pytest.skip("only root can open a socket as another user")
        os.seteuid(NOBODY)
        try:
            second = listener(socket.AF_INET6, "::1", port)
        finally:
            os.seteuid(0)
        with second:
            assert socket_owners(port) == {os.getuid(), NOBODY}


def test_one_among_many_listeners_is_found() -> None:
    opened = [listener(socket.AF_INET, "127.0.0.1") for _ in range(700)]
    try:
        assert all(socket_owners(one.getsockname()[1]) == {os.getuid()} for one in opened[::50])
    finally:
        for one in opened:
            one.close()


def test_a_port_that_is_bound_or_connected_is_not_listening() -> None:
    with listener(socket.AF_INET, "127.0.0.1", listens=False) as bound:
        assert socket_owners(bound.getsockname()[1]) == set()
    with listener(socket.AF_INET, "127.0.0.1") as opened, socket.create_connection(opened.getsockname()) as connected:
        assert socket_owners(connected.getsockname()[1]) == set()


def test_another_users_port_is_the_other_users() -> None:
    with other_users_listener() as opened:
        assert socket_owners(opened.getsockname()[1]) == {NOBODY}


# Names of units

NASTY = [
    *("", "a", "A", "a.b", "a.2eb", "a-b", "a_b", "a b", "a/b", "..", ".", "~", "-a", "a@b", "a\\b", "a:b", "a%b"),
    *("é", "é".encode().hex(), ".c3a9", "ру", "a\n", "a\0", "名", "a.h", "a.s-b", "s-b", "ö" * 30, "ö" * 31),
    *("x" * 80, "x" * 81, "x" * 200, "x" * 199 + "y", "/" * 200, "x" * 60 + ".h0123456789abcdef"),
]


def test_names_of_units_are_distinct_and_valid() -> None:
    parts = [escape_unit_name(name) for name in NASTY]
    assert len(set(parts)) == len(set(NASTY)) == len(NASTY)
    for part in parts:
        assert re.fullmatch(r"[a-zA-Z0-9._-]{0,80}", part), part


def spawner_of(user: str, server: str = "", **settings: Any) -> CampusSystemdSpawner:
    return CampusSystemdSpawner(
        user=SimpleNamespace(name=user, id=1, settings={}),
        orm_spawner=SimpleNamespace(name=server, server=None),
        **settings,
    )


def test_no_two_servers_share_a_unit() -> None:
    servers = [(user, server) for user in ["a", "a.s-b", "a-b", "a.b"] for server in NASTY]
    units = [spawner_of(user, server).unit_name for user, server in servers]
    assert len(set(units)) == len(servers)
    for unit in units:
        assert len(f"{unit}.service") <= 255
        # The name is a directory of /run, too.
        assert re.fullmatch(r"jupyterhub-user-[a-zA-Z0-9][a-zA-Z0-9._-]*", unit)
    assert spawner_of("alice").unit_name == "jupyterhub-user-alice"
    assert spawner_of("alice", "second").unit_name == "jupyterhub-user-alice.s-second"


@pytest.mark.parametrize("runs", [False, True])
def test_a_renamed_server_has_a_unit_of_its_own(runs: bool) -> None:
    """A further server of the former name has that unit. One that runs keeps what it was started as."""
    state = spawner_of("alice", "a").get_state()
    renamed = spawner_of("alice", "b")
    renamed.orm_spawner.server = Server() if runs else None
    renamed.load_state(state)
    assert renamed.unit_name == f"jupyterhub-user-alice.s-{'a' if runs else 'b'}"


def test_a_server_is_confined_unless_its_user_may_use_sudo() -> None:
    def properties(**settings: Any) -> dict[str, str]:
        found: dict[str, str] = spawner_of("alice", config=Config(SystemdSpawner=settings)).unit_extra_properties
        return found

    assert properties(disable_user_sudo=True)["CapabilityBoundingSet"] == "CAP_NET_RAW"
    assert properties(disable_user_sudo=False) == {}
    # What a site has set counts.
    site = properties(disable_user_sudo=True, unit_extra_properties={"SystemCallFilter": "~@swap", "Nice": "5"})
    assert (site["SystemCallFilter"], site["Nice"], site["RestrictRealtime"]) == ("~@swap", "5", "yes")


# What a unit leaves behind


class ServiceManager:
    """
    A stand-in for systemctl(1) and the service manager's files.

    It writes down what it is told. On `stop` it forgets the unit a little later, as the service manager does, or never.
    """

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.run, self.calls, self.program = directory / "run", directory / "calls", directory / "manager" / "systemctl"
        self.transient = self.run / "systemd" / "transient"
        self.transient.mkdir(parents=True)
        self.program.parent.mkdir()
        monkeypatch.setattr(systemd, "RUN_ROOT", str(self.run))
        monkeypatch.setattr(systemd_spawner, "TRANSIENT_UNITS", self.transient)
        monkeypatch.setenv("PATH", f"{self.program.parent}:{os.environ['PATH']}")
        self.forgets(True)

    def forgets(self, forgets: bool) -> None:
        unit = f'"{self.run}/${{2%.service}}" "{self.transient}/$2"'
        last = f'[ "$1" != stop ] || {{ sleep 0.3; rm -rf {unit}; }} &\n' if forgets else ""
        self.program.write_text(
            f'#!/bin/sh\necho "$*" >>{self.calls}\n{last}case $1 in is-active) exit 3 ;; is-failed) exit 1 ;; esac\n'
        )
        self.program.chmod(0o755)

    def told(self) -> list[str]:
        lines = self.calls.read_text().splitlines() if self.calls.exists() else []
        # Asked once by each process that imports SystemdSpawner.
        return [line for line in lines if line != "--version"]


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ServiceManager:
    return ServiceManager(tmp_path, monkeypatch)


UNIT = "jupyterhub-user-alice"


def test_a_start_asks_nothing_when_nothing_is_left(manager: ServiceManager) -> None:
    asyncio.run(spawner_of("alice").clean_up_stale_unit())
    assert manager.told() == []


@pytest.mark.parametrize("left", ["directory", "definition"])
def test_a_stale_unit_is_forgotten_before_the_next_start(manager: ServiceManager, left: str) -> None:
    """Be it one that does not end, or one that was killed: while it is known, its directory may still be removed."""
    directory, definition = manager.run / UNIT, manager.transient / f"{UNIT}.service"
    if left == "directory":
        directory.mkdir()
        (directory / f"{UNIT}.env").symlink_to("/etc/shadow")
    else:
        definition.touch()
    asyncio.run(spawner_of("alice").clean_up_stale_unit())
    commands = ["kill --signal=SIGKILL", "stop", "reset-failed"]
    assert manager.told() == [f"{command} {UNIT}.service" for command in commands]
    assert not directory.exists()
    assert not definition.exists()


@pytest.mark.parametrize("left", [UNIT, f"systemd/transient/{UNIT}.service"])
def test_no_server_is_started_over_what_cannot_be_ended(manager: ServiceManager, left: str) -> None:
    manager.forgets(False)
    (manager.run / left).mkdir()
    spawner = spawner_of("alice")
    spawner.clean_up_timeout = 0.2
    with pytest.raises(ServerStartError, match=r"has not quite ended\. Please try again in a minute\.") as raised:
        asyncio.run(spawner.clean_up_stale_unit())
    assert str(raised.value) == f"{raised.value.jupyterhub_message} Reference: {raised.value.reference}"


@pytest.mark.parametrize(("status", "running"), [(0, True), (3, False), (4, False), (1, True), (127, True)])
def test_a_silent_service_manager_ends_no_server(manager: ServiceManager, status: int, running: bool) -> None:
    manager.program.write_text(f"#!/bin/sh\nexit {status}\n")
    assert (asyncio.run(spawner_of("alice").poll()) is None) == running


def test_a_host_that_starts_no_process_ends_no_server(manager: ServiceManager, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that has no memory left: a hub that restarts would forget the servers that it cannot ask for."""
    spawner = spawner_of("alice")
    assert asyncio.run(spawner.poll()) == 1
    monkeypatch.setenv("PATH", str(manager.run))
    assert asyncio.run(spawner.poll()) is None


def test_a_unit_that_does_not_end_is_stopped_again(manager: ServiceManager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "STOP_INTERVAL", 0.1)
    left = manager.calls.with_name("left")
    left.write_text("xx")
    again = f"case $1 in stop) truncate -s -1 {left} ;; is-active) [ -s {left} ] || exit 3 ;; esac"
    manager.program.write_text(f'#!/bin/sh\necho "$*" >>{manager.calls}\n{again}\n')
    asyncio.run(spawner_of("alice").stop())
    assert manager.told().count(f"stop {UNIT}") == 2


def test_a_start_given_up_while_it_is_submitted_leaves_no_unit(
    tmp_path: Path, manager: ServiceManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start ends at once, however often it is given up, and the stop waits until there is a unit to stop."""
    run = manager.program.with_name("systemd-run")
    unit = tmp_path / "unit"
    run.write_text(f"#!/bin/sh\nsleep 1\ntouch {unit}\n")
    run.chmod(0o755)
    manager.program.write_text(
        "#!/bin/sh\ncase $1 in --version) echo 'systemd 252' ;;\n"
        f"stop) rm -f {unit} ;; *) [ -e {unit} ] || exit 3 ;; esac\n"
    )
    spawner = spawner_of(ME)
    spawner.cmd = ["/bin/true"]

    async def nothing() -> None:
        pass

    for name in ("prepare", "prepare_session"):
        monkeypatch.setattr(spawner, name, nothing)
    monkeypatch.setattr(spawner, "get_env", dict)
    monkeypatch.setattr(spawner, "get_args", list)

    async def scenario() -> None:
        await give_up_start(spawner)
        await asyncio.wait_for(spawner.stop(), 10)
        assert await spawner.poll() == 1
        await asyncio.sleep(1.2)
        assert not unit.exists()

    asyncio.run(scenario())


# A server's life under SudoSpawner

SERVER = """
import http.server, os, sys, time, urllib.parse


time.sleep(0.2)
address = urllib.parse.urlsplit(os.environ["JUPYTERHUB_SERVICE_URL"])
http.server.HTTPServer((address.hostname, address.port), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


SUDO = """#!/bin/sh
echo "$*" >>{directory}/sudo.log
echo "$CAMPUSHUB_SERVER_LIMITS" >>{directory}/limits.log
if [ "$4" = {stop} ]; then
    [ ! -e {directory}/refuses ] || exit 1
    [ -e "{directory}/units/$5" ] || exit 0
    pid=$(cat "{directory}/units/$5")
    kill "$pid" && kill -CONT "$pid"
    for _ in 1 2 3 4 5 6 7 8 9 10; do [ -e "{directory}/units/$5" ] || exit 0; sleep 0.1; done
    kill -KILL "$pid"
    while [ -e "{directory}/units/$5" ]; do sleep 0.1; done
    exit
fi
[ ! -e {directory}/closed ] || {{ echo 'User account has expired' >&2; exit 1; }}
shift 3
if [ "$2" = spawn ]; then
    unit={directory}/units/jupyterhub-user-$(id -u)-${{CAMPUSHUB_SERVER_UNIT% *}}.service
    (sh -c "echo \\$\\$ >$unit; exec {mediator} receive {directory}/receiver"; rm -f $unit) </dev/null >/dev/null 2>&1 &
fi
exec "$@"
"""

SYSTEMCTL = """#!/bin/sh
case $1 in
--version) echo 'systemd 252 (252)' ;;
show)
    for unit; do :; done
    case $3 in
    *=MainPID) cat "{directory}/units/$unit" 2>/dev/null || echo 0 ;;
    *=ActiveState) [ -e "{directory}/units/$unit" ] && echo active || echo deactivating ;;
    esac ;;
esac
"""


class Centre:
    """A hub with SudoSpawner whose users are those who run the tests."""

    def __init__(self, directory: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        (directory / "server.py").write_text(SERVER)
        self.command = directory / "command.json"
        self.serve(sys.executable, str(directory / "server.py"))
        # The real mediator, with another place for the socket between the session and the server's unit.
        self.mediator = directory / "mediator"
        self.mediator.write_text(
            f"#!{sys.executable} -I\nimport pathlib, sys\nsys.path.insert(0, {str(configuration.LIBRARY.parent)!r})\n"
            f"from campushub_hub.host import mediator\nmediator.COMMAND = pathlib.Path({str(self.command)!r})\n"
            f"mediator.receiver = lambda: {str(directory / 'receiver')!r}\n"
            "sys.exit(mediator.receive(sys.argv[2]) if sys.argv[1] == 'receive' else mediator.main(sys.argv[1]))\n"
        )
        self.mediator.chmod(0o755)
        # A stand-in for sudo(8), the session that starts a unit, and the service manager. It runs the command as who it
        # is. A unit is known by a file with the number of its process, as long as that runs.
        self.units = directory / "units"
        self.units.mkdir()
        self.sudo = directory / "bin" / "sudo"
        self.sudo.parent.mkdir()
        self.sudo.write_text(SUDO.format(directory=directory, mediator=self.mediator, stop=sudo_spawner.STOP))
        systemctl = self.sudo.with_name("systemctl")
        systemctl.write_text(SYSTEMCTL.format(directory=directory))
        for program in (self.sudo, systemctl):
            program.chmod(0o755)
        self.asked = directory / "sudo.log"
        monkeypatch.setattr(systemd_spawner, "TRANSIENT_UNITS", self.units)
        monkeypatch.setenv("PATH", f"{self.sudo.parent}:{os.environ['PATH']}")
        for secret in ("JPY_COOKIE_SECRET", "CONFIGPROXY_AUTH_TOKEN", "CAMPUSHUB_ROUTES_TOKEN"):
            monkeypatch.setenv(secret, "0123456789abcdef" * 4)
        monkeypatch.setattr(configuration, "STATE_DIRECTORY", directory)
        monkeypatch.setattr(configuration, "SITE_DIRECTORY", directory / "etc")
        monkeypatch.setattr(
            configuration, "read_settings", lambda: merged(settings, Authenticator={"admin_users": [ME]})
        )
        self.pids: list[int] = []

    def replace_mediator(self, script: str) -> None:
        """Put a program in the place of the mediator, which its user has a say in; REAL in it is the mediator."""
        real = self.mediator.with_name("real-mediator")
        self.mediator.rename(real)
        self.mediator.write_text("#!/bin/sh\n" + script.replace("REAL", str(real)) + "\n")
        self.mediator.chmod(0o755)

    def end_mediator_with(self, end: str) -> None:
        """Have the mediator do what it is asked, and then this in the place of its answer."""
        self.replace_mediator(f'[ $1 != receive ] || exec REAL "$@"\nREAL "$@" >/dev/null\n{end}')

    def serve(self, *command: str) -> None:
        """Set what a server is."""
        self.command.write_text(json.dumps(command))

    def run(self, act: Callable[[Any], Awaitable[None]]) -> None:
        """Do something with the spawner of a hub that has just been set up."""

        async def whole() -> None:
            app = JupyterHub(config_file=f"{configuration.LIBRARY}/jupyterhub_config.py")
            await app.initialize([])
            user = app.db.query(orm.User).filter(orm.User.name == ME).one()
            spawner = app.users[user].spawners[""]
            spawner.mediator_path = str(self.mediator)
            # Whoever runs the tests, which may be root.
            spawner.uid_minimum = 0
            try:
                await act(spawner)
            finally:
                for unit in self.units.iterdir():
                    # One may be about to begin or to end.
                    with suppress(FileNotFoundError, ValueError):
                        self.pids.append(int(unit.read_text()))
                if spawner._explanation:  # noqa: SLF001 (nothing else tells)
                    # A loop that ends while a program is being started waits indefinitely (Python 3.11 to 3.13).
                    await asyncio.wait([spawner._explanation], timeout=10)  # noqa: SLF001

        asyncio.run(whole())

    def end(self) -> None:
        """Leave nothing running."""
        for pid in filter(None, self.pids):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def centre(
    tmp_path: Path,
    rendered: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    adoption: None,  # noqa: ARG001 (it only has to be there)
) -> Iterator[Centre]:
    made = Centre(tmp_path, rendered["sudo"]["settings"], monkeypatch)
    yield made
    made.end()


def test_a_server_starts_runs_and_stops(centre: Centre) -> None:
    async def act(spawner: CampusSudoSpawner) -> None:
        begin = time.monotonic()
        address, port = await spawner.start()
        assert time.monotonic() - begin < 5
        assert address == "127.0.0.1"
        assert socket_owners(port) == {os.getuid()}
        assert await spawner.poll() is None
        state = spawner.get_state()
        pid = state["pid"]
        # A hub that starts again knows the server, and does not take another process of the same number for it.
        spawner.clear_state()
        assert await spawner.poll() == 0
        spawner.load_state(state)
        assert await spawner.poll() is None
        spawner.load_state(state | {"pid_started": "1"})
        assert await spawner.poll() == 0
        spawner.load_state(state)
        await spawner.stop()
        assert socket_owners(port) == set()
        assert await spawner.poll() == 0
        assert not Path(f"/proc/{pid}").exists()  # noqa: ASYNC240
        units.append(state["unit"])

    units: list[str] = []
    centre.run(act)
    start, stop = centre.asked.read_text().splitlines()
    assert start == f"-u {ME} -nH {centre.mediator} spawn"
    assert stop == f"-n -u root {sudo_spawner.STOP} {units[0]}"
    assert is_server(units[0])


# Servers whose users are in the way of their end


def test_a_server_of_a_closed_account_is_stopped(centre: Centre) -> None:
    """As of whoever has left the allowed groups: sudo runs nothing as them."""

    async def act(spawner: CampusSudoSpawner) -> None:
        _, port = await spawner.start()
        (centre.units.parent / "closed").touch()
        spawner.user.orm_user.name = "nobody-has-this-name"
        await spawner.stop()
        assert socket_owners(port) == set()

    centre.run(act)
    assert not list(centre.units.iterdir())


def record(spawner: CampusSudoSpawner) -> None:
    """Write down where a server listens, as JupyterHub does."""
    server = orm.Server(ip="127.0.0.1", port=spawner.port, base_url="/user/me/")
    # With the values that the database adds.
    spawner.user.db.add(server)
    spawner.user.db.commit()
    spawner.server = Server(orm_server=server)


def test_the_hub_forgets_no_server_that_has_not_ended(
    centre: Centre, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """JupyterHub's own stop forgets it whatever comes of it; a hub that starts meanwhile knows that the server runs."""
    monkeypatch.setattr(base, "STOP_INTERVAL", 0.1)
    refuses = centre.units.parent / "refuses"

    async def act(spawner: CampusSudoSpawner) -> None:
        spawner.log.addHandler(caplog.handler)
        refuses.touch()
        await spawner.start()
        record(spawner)
        spawner.keep_state()
        stop = asyncio.ensure_future(spawner.user.stop(""))
        await asyncio.sleep(1)
        assert not stop.done()
        assert (spawner.pending, spawner.server is None) == ("stop", False)
        restarted = type(spawner)(user=spawner.user, orm_spawner=spawner.orm_spawner, hub=spawner.hub)
        restarted.load_state(spawner.orm_spawner.state)
        assert await restarted.poll() is None
        refuses.unlink()
        await asyncio.wait_for(stop, 20)
        assert (spawner.pending, spawner.server) == (None, None)
        assert "unit" not in spawner.orm_spawner.state

    centre.run(act)
    assert not list(centre.units.iterdir())
    assert f"The server {ME} has not ended; it is tried again in 0.1 s" in caplog.messages


@pytest.mark.attack
@pytest.mark.parametrize("answer", ['{"ok": true, "pid": 1}', "[[", "endless", "stopped"])
def test_a_mediator_cannot_hide_a_server_from_the_hub(
    centre: Centre, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    """Its user can have it name another process, kill it when the server runs, or stop it."""
    ends = {"endless": "exec yes", "stopped": "kill -STOP $$"}
    centre.end_mediator_with(ends.get(answer, f"echo '{answer}'"))
    monkeypatch.setitem(user_session.ACTION_SECONDS, "spawn", 2)
    monkeypatch.setattr(user_session, "SESSION_SECONDS", 0)

    async def act(spawner: CampusSudoSpawner) -> None:
        if answer.startswith("{"):
            await spawner.start()
            assert spawner.pid == int((centre.units / spawner.unit).read_text())
        else:
            with pytest.raises(ServerStartError, match="Your session could not be prepared"):
                await spawner.start()
        assert await spawner.poll() is None
        await spawner.stop()

    centre.run(act)
    assert not list(centre.units.iterdir())


@pytest.mark.attack
def test_no_start_that_is_given_up_hides_a_server(centre: Centre) -> None:
    """The number that the mediator has said counts for nothing, in that moment either."""
    answer = '{"ok": true, "pid": 4194303}'
    centre.end_mediator_with(f"sleep 0.5\necho '{answer}'")

    async def act(spawner: CampusSudoSpawner) -> None:
        start = asyncio.ensure_future(spawner.start())
        while not list(centre.units.iterdir()):  # noqa: ASYNC110 (files of other processes)
            await asyncio.sleep(0.05)
        start.cancel()
        await asyncio.wait([start], timeout=0.3)
        assert start.cancelled()
        await asyncio.sleep(2)
        assert await spawner.poll() is None, "the hub would forget it"
        await spawner.stop()

    centre.run(act)
    assert not list(centre.units.iterdir())


@pytest.mark.attack
@pytest.mark.parametrize("answer", ["1", "[]", "{}", '"ok"', '{"ok": true}', '{"ok": true, "home": 1}', '{"ok": 0}'])
@pytest.mark.parametrize("answered", ["spawn", "create-home", "explain"])
def test_what_is_no_answer_is_no_fault_of_the_hub(
    centre: Centre, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answered: str, answer: str
) -> None:
    """JupyterHub counts exceptions in starts that say nothing to a user, and may end for their number."""
    centre.replace_mediator(f"[ $1 != {answered} ] || exec echo '{answer}'\nexec REAL \"$@\"")
    if answered == "explain":
        centre.serve("/bin/false")
    else:
        network_homes(monkeypatch, tmp_path / "local", f"{tmp_path}/net", create_command=["make-home"])

    async def act(spawner: CampusSudoSpawner) -> None:
        with pytest.raises(ServerStartError):
            await spawner.start()

    centre.run(act)


@pytest.mark.attack
@pytest.mark.parametrize("probed", [True, False])
def test_a_home_that_nobody_has_asked_for_is_no_answer(
    centre: Centre, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, probed: bool
) -> None:
    """Nor is it one to the second unit of a start, which looks at no home."""
    answer = '{"ok": true, "home": "ok", "problem": ""}'
    centre.mediator.write_text(f"#!/bin/sh\n[ $1 = receive ] || echo '{answer}'\n")
    if probed:
        network_homes(monkeypatch, tmp_path / "local", f"{tmp_path}/net")

    async def act(spawner: CampusSudoSpawner) -> None:
        with pytest.raises(ServerStartError, match="Your session could not be prepared"):
            await spawner.start()

    centre.run(act)
    assert centre.asked.read_text().count(" spawn") == 1 + probed


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.attack
def test_a_stopped_mediator_holds_up_nothing(centre: Centre, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even when its user has handed on its end of the pipe; nothing stays open in the hub."""
    centre.mediator.write_text("#!/bin/sh\nsleep 60 &\nkill -STOP $$\n")
    monkeypatch.setattr(user_session, "OTHER_SECONDS", 0.5)
    monkeypatch.setattr(user_session, "SESSION_SECONDS", 0.5)

    async def act(spawner: CampusSudoSpawner) -> None:
        await spawner.why_ended(0)
        before, begin = open_files(), time.monotonic()
        ends = [spawner.why_ended(0) for _ in range(5)]
        assert await asyncio.gather(*ends) == [{"reason": "ended", "message": ""}] * 5
        assert time.monotonic() - begin < 10
        await asyncio.sleep(0.1)
        assert open_files() <= before

    centre.run(act)


@pytest.mark.parametrize("unit", ["17.service", "17.scope", "17-0.scope"])
def test_a_server_of_a_former_release_is_stopped_by_its_unit(
    centre: Centre, monkeypatch: pytest.MonkeyPatch, unit: str
) -> None:
    """Its name is not in the state; what the kernel says of the process counts if the unit is one of the user's."""
    asked: list[str] = []

    async def ask(*command: str, **_: Any) -> tuple[int, bytes]:
        asked.append(command[-1])
        return 0, b""

    monkeypatch.setattr(sudo_spawner, "ask", ask)
    real, uid, groups = Path.read_text, os.getuid(), list[str]()

    def read_text(path: Path, *arguments: Any, **keywords: Any) -> str:
        return groups[-1] if path.name == "cgroup" else real(path, *arguments, **keywords)

    monkeypatch.setattr(Path, "read_text", read_text)

    async def act(spawner: CampusSudoSpawner) -> None:
        spawner.pid = os.getpid()
        spawner._pid_started = spawner._start_time()  # noqa: SLF001 (as in the state of such a server)
        for owner in (uid + 1, uid):
            groups.append(f"0::/jupyterhub.slice/jupyterhub-{owner}.slice/jupyterhub-user-{owner}-{unit}\n")
            assert await spawner.end_unit() == (owner == uid)

    centre.run(act)
    assert asked == [f"jupyterhub-user-{uid}-{unit}"]
    assert is_server(asked[0])


@pytest.mark.parametrize(("patience", "seconds"), [(0, 1), (0.4, 1), (1, 1), (20, 20)])
def test_a_server_always_has_an_end(centre: Centre, patience: float, seconds: int) -> None:
    async def act(spawner: CampusSudoSpawner) -> None:
        spawner.stop_patience, spawner.unit = patience, user_session.unit_name(2001, 17)
        assert spawner.session_variables("spawn") == {user_session.SERVER_UNIT: f"17 {seconds}"}

    centre.run(act)


def test_a_profile_says_what_the_mediator_starts(centre: Centre, tmp_path: Path) -> None:
    """And how much it gets, in a variable that the session reads. What is not offered never comes so far."""
    lab = json.loads(centre.command.read_text())
    centre.command.write_text(json.dumps({"": ["/bin/false"], "desktop": ["/bin/false"], "lab": lab}))

    async def act(spawner: CampusSudoSpawner) -> None:
        spawner.programs = {"": "/default", "desktop": "/desktop", "lab": "/lab"}
        spawner.profiles = [
            {"name": "desk", "interface": "desktop"},
            {"name": "lab", "interface": "lab", "memory": ["1G", "512M"], "cpu": 0.25},
        ]
        for options in ({"profile": "nosuch"}, {"profile": "lab", "memory": "2G"}, {"memory": "1G"}):
            spawner.user_options = options
            with pytest.raises(ServerStartError) as refused:
                await spawner.start()
            assert refused.value.status_code == 400
        assert not centre.asked.exists()
        spawner.user_options = {"profile": "lab", "memory": "512M"}
        await spawner.start()
        assert await spawner.poll() is None
        assert spawner.orm_spawner.user_options == {"profile": "lab", "memory": "512M"}
        await spawner.stop()

    centre.run(act)
    assert f"{2**29} 25" in (tmp_path / "limits.log").read_text().splitlines()


def test_the_hub_learns_at_once_that_a_server_has_ended(centre: Centre) -> None:
    async def act(spawner: CampusSudoSpawner) -> None:
        told = asyncio.Event()
        await spawner.start()
        spawner.start_polling()
        # The hub waits to be called back only after it has seen the server answer.
        os.kill(spawner.pid, signal.SIGKILL)
        await asyncio.sleep(3 * spawner.listen_interval)
        spawner.add_poll_callback(told.set)
        assert spawner.poll_interval > 10
        await asyncio.wait_for(told.wait(), 2)

    centre.run(act)


def test_a_server_that_ends_without_a_proxy_is_cleared_up(centre: Centre) -> None:
    """JupyterHub gives up, and would have a route made to the port, whoever listens there, when the proxy is back."""

    async def without_a_proxy() -> None:
        raise OSError("There is no proxy.")

    async def act(spawner: CampusSudoSpawner) -> None:
        await spawner.start()
        record(spawner)
        spawner.start_polling()
        spawner.add_poll_callback(without_a_proxy)
        os.kill(spawner.pid, signal.SIGKILL)
        end = time.monotonic() + 5
        while spawner.active:
            assert time.monotonic() < end
            await asyncio.sleep(0.05)
        assert spawner.orm_spawner.server is None
        assert spawner.user.spawners.get("") is not spawner, "the next start has another one"

    centre.run(act)


def test_an_end_before_the_hub_has_its_callbacks_is_no_secret(centre: Centre) -> None:
    """As while it waits for the proxy: it polls no more when it has been told."""

    async def act(spawner: CampusSudoSpawner) -> None:
        told = asyncio.Event()
        await spawner.start()
        start = spawner._spawn_future = asyncio.get_running_loop().create_future()  # noqa: SLF001 (as JupyterHub sets it)
        spawner.start_polling()
        os.kill(spawner.pid, signal.SIGKILL)
        await asyncio.sleep(3 * spawner.listen_interval)
        assert await spawner.poll_and_notify() == 0
        spawner.add_poll_callback(told.set)
        start.set_result(None)
        await asyncio.wait_for(told.wait(), 2)

    centre.run(act)


def test_a_server_that_does_not_answer_is_noted_until_it_does(
    centre: Centre, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(spawner: CampusSudoSpawner) -> None:
        spawner.answer_interval, spawner.answer_timeout = 0.1, 0.5
        spawner.log.addHandler(caplog.handler)
        address, port = await spawner.start()
        server = SimpleNamespace(ip=address, port=port, base_url="/user/me/")
        monkeypatch.setattr(CampusSudoSpawner, "server", server)
        spawner.start_polling()
        await asyncio.sleep(0.5)
        assert not spawner.unresponsive
        for number, expected in ((signal.SIGSTOP, True), (signal.SIGCONT, False)):
            os.kill(spawner.pid, number)
            end = time.monotonic() + 5
            while spawner.unresponsive != expected:
                assert time.monotonic() < end
                await asyncio.sleep(0.05)
        os.kill(spawner.pid, signal.SIGSTOP)
        spawner.stop_polling()
        spawner.stop_patience = 1
        await spawner.stop()
        assert await spawner.poll() == 0, "it cannot be stopped"
        assert not spawner.unresponsive

    centre.run(act)
    said = [record.getMessage() for record in caplog.records if "answer" in record.getMessage()]
    assert said == [f"The server {ME} runs, but does not answer within 0.5 s", f"The server {ME} answers again"]


def test_a_server_that_the_hub_stops_is_not_reported(centre: Centre) -> None:
    async def act(spawner: CampusSudoSpawner) -> None:
        told = asyncio.Event()
        await spawner.start()
        spawner.start_polling()
        spawner.add_poll_callback(told.set)
        await asyncio.sleep(spawner.listen_interval)
        spawner.stop_polling()
        await spawner.stop()
        await asyncio.sleep(3 * spawner.listen_interval)
        assert not told.is_set()
        assert len(asyncio.all_tasks()) == 1, "a watch that nobody needs any more"

    centre.run(act)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda centre: centre.serve(sys.executable, "-c", "raise SystemExit(3)"),
            "Your server ended while it was starting.",
        ),
        (
            lambda centre: centre.serve("/nonexistent/jupyterhub-singleuser"),
            "The server could not be started. Please tell your administrator.",
        ),
        (
            # As sudo says it of a user whom the rule does not name.
            lambda centre: centre.sudo.write_text("#!/bin/sh\necho 'not allowed to execute' >&2\nexit 1\n"),
            "Your session could not be prepared. Please tell your administrator.",
        ),
        (
            lambda centre: centre.mediator.write_text("#!/bin/sh\nprintf '{\"ok\": tru'\nexit 1\n"),
            "Your session could not be prepared. Please tell your administrator.",
        ),
    ],
    ids=["ends", "missing", "refused", "broken"],
)
def test_a_server_that_does_not_start_tells_its_user(
    centre: Centre, spoil: Callable[[Centre], Any], message: str
) -> None:
    spoil(centre)

    async def act(spawner: CampusSudoSpawner) -> None:
        with pytest.raises(ServerStartError) as raised:
            await asyncio.wait_for(spawner.start(), 10)
        assert raised.value.jupyterhub_message == message

    centre.run(act)


def test_a_server_that_ends_is_quoted_with_its_place(
    centre: Centre, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the session finds in the journal is written by the test; the mediator that reads it is the real one."""
    output = tmp_path / "output"
    centre.serve(sys.executable, "-c", "raise SystemExit(3)")
    monkeypatch.setattr(user_session, "output_file", lambda _uid: output)
    home = pwd.getpwuid(os.getuid()).pw_dir

    async def act(spawner: CampusSudoSpawner) -> None:
        real = spawner.run_mediator

        async def noted(action: str, **request: Any) -> dict[str, Any]:
            if action == "explain":
                place = f'  File "{home}/.jupyter/jupyter_server_config.py", line 3, in <module>'
                lines = [(request["pid"], place), (request["pid"], "NameError: \x1b[1mno"), (1, "of another server")]
                output.write_text(json.dumps(lines))
            return await real(action, **request)

        monkeypatch.setattr(spawner, "run_mediator", noted)
        with pytest.raises(ServerStartError) as raised:
            await asyncio.wait_for(spawner.start(), 10)
        error = raised.value
        assert (error.line, error.number) == ("NameError: [1mno", 3)
        assert str(error) == (
            f"Your server ended while it was starting. NameError: [1mno ({home}/.jupyter/jupyter_server_config.py:3) "
            f"Reference: {error.reference}"
        )

    centre.run(act)


def test_a_home_that_is_gone_is_told_in_the_words_of_homes(
    centre: Centre, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = pwd.getpwuid(os.getuid())
    account = pwd.struct_passwd((*entry[:5], f"{tmp_path}/gone", *entry[6:]))
    monkeypatch.setattr(pwd, "getpwnam", lambda _name: account)

    async def act(spawner: CampusSudoSpawner) -> None:
        for _ in range(2):
            with pytest.raises(ServerStartError) as raised:
                await asyncio.wait_for(spawner.start(), 10)
            told.append(raised.value.jupyterhub_message)
            (tmp_path / "gone").touch()

    told: list[str] = []
    centre.run(act)
    # A file in its place is no home either.
    assert told == [f"There is no home directory {tmp_path}/gone for you. Please tell your administrator."] * 2


def test_a_start_without_settings_counts_once(centre: Centre) -> None:
    async def act(spawner: CampusSudoSpawner) -> None:
        spawner.user_options = spawner.orm_spawner.user_options = {"without_settings": ["1"], "other": "kept"}
        await spawner.start()
        found = environment_of(spawner)
        assert found["JUPYTER_CONFIG_DIR"] == f"/run/jupyterhub-users/{os.getuid()}/without-settings"
        assert found["PYTHONNOUSERSITE"] == "1"
        assert spawner.orm_spawner.user_options == {"other": "kept"}
        await spawner.stop()
        spawner.user_options = spawner.orm_spawner.user_options
        await spawner.start()
        assert not {"JUPYTER_CONFIG_DIR", "PYTHONNOUSERSITE"} & set(environment_of(spawner))

    centre.run(act)


@pytest.mark.parametrize("uid_minimum", [1, 1000])
def test_an_account_of_the_system_is_told_so(centre: Centre, uid_minimum: int) -> None:
    async def act(spawner: CampusSudoSpawner) -> None:
        spawner.user.orm_user.name, spawner.uid_minimum = "root", uid_minimum
        with pytest.raises(ServerStartError, match=r"^root is an account of the system") as raised:
            await spawner.start()
        assert raised.value.status_code == 403

    centre.run(act)
    assert not centre.asked.exists()


def test_a_browser_is_not_sent_to_a_port_that_somebody_else_took(centre: Centre) -> None:
    async def act(spawner: CampusSudoSpawner) -> None:
        spawner.port = port = taken.getsockname()[1]
        with pytest.raises(ServerStartError, match=r"^Somebody else holds the port of this server\."):
            await asyncio.wait_for(spawner.wait_until_listening(), 10)
        # Not even when the user's own server is on it, too, at another address.
        with (
            listener(socket.AF_INET, "127.0.0.2", port),
            pytest.raises(ServerStartError, match=r"^Somebody else holds the port of this server\."),
        ):
            await asyncio.wait_for(spawner.wait_until_listening(), 10)

    with other_users_listener() as taken:
        centre.run(act)


def test_a_link_that_a_user_left_behind_leads_root_nowhere(
    tmp_path: Path,
    centre: Centre,
    rendered: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    manager: ServiceManager,
) -> None:
    """What a unit that would not end has kept for its user: the place where root writes the next environment."""
    settings = merged(rendered["systemd"]["settings"], Authenticator={"admin_users": [ME]})
    monkeypatch.setattr(configuration, "read_settings", lambda: settings)
    # Stand-ins: the session is not prepared, and systemd-run(1) starts nothing but tells what it was given.
    monkeypatch.setattr(user_session, "make_directories", lambda _account, _settings: None)
    monkeypatch.setattr(user_session, "limit_slice", lambda _uid, _limits: None)
    program = manager.program.with_name("systemd-run")
    copy = f"cp -p {manager.run}/jupyterhub-user-{ME}/*.env {tmp_path}/environment"
    # What the hub asks afterwards, where the host has a journal, is not looked at.
    program.write_text(f'#!/bin/sh\n[ ! -e {tmp_path}/unit ] || exit 1\nprintf "%s\\n" "$@" >{tmp_path}/unit\n{copy}\n')
    program.chmod(0o755)
    token = "feed" * 8
    victim = tmp_path / "victim"
    victim.write_text("root's own\n")
    directory = manager.run / f"jupyterhub-user-{ME}"
    directory.mkdir(mode=0o700)
    (directory / f"jupyterhub-user-{ME}.env").symlink_to(victim)

    async def act(spawner: CampusSystemdSpawner) -> None:
        spawner.api_token = token
        with pytest.raises(ServerStartError, match=r"^Your server ended while it was starting\."):
            await asyncio.wait_for(spawner.start(), 10)

    centre.run(act)
    assert victim.read_text() == "root's own\n"
    words = (tmp_path / "unit").read_text().splitlines()
    assert f"--slice=jupyterhub-{os.getuid()}.slice" in words
    assert "--property=NoNewPrivileges=yes" in words
    assert f"--property=MemoryMax={2 * 2**30}" in words
    assert f"--property=EnvironmentFile={directory}/jupyterhub-user-{ME}.env" in words
    environment = tmp_path / "environment"
    assert f"JUPYTERHUB_API_TOKEN={token}\n" in environment.read_text()
    assert environment.stat().st_mode & 0o777 == 0o400
    assert not directory.exists(), "the service manager does not remove it, because the unit was refused"
    assert not [word for word in words if token in word], "arguments are for everybody to read"


def test_a_user_without_an_account_is_told_so(centre: Centre) -> None:
    async def act(spawner: CampusSudoSpawner) -> None:
        spawner.user.orm_user.name = "nobody-has-this-name"
        with pytest.raises(ServerStartError, match=r"^There is no Unix account nobody-has-this-name on this host\."):
            await spawner.start()

    centre.run(act)
    assert not centre.asked.exists(), "a name like #0 must not reach sudo"


def test_path_of_servers_has_nothing_of_the_hubs(rendered: dict[str, Any]) -> None:
    places = rendered["systemd"]["settings"]["Spawner"]["environment"]["PATH"].split(":")
    assert places[0] == "/opt/campushub/user/bin"
    assert not [place for place in places if "hub/bin" in place.removeprefix("/opt/campushub") or "proxy" in place]


# Homes on a network file system


def network_homes(monkeypatch: pytest.MonkeyPatch, local: Path, layout: str, **others: Any) -> None:
    """Say where homes are, as role `homes` would."""
    homes = {
        "layout": layout,
        "mount_point": "",
        "check_timeout": 0.7,
        "on_unavailable": "refuse",
        "create_command": [],
    }
    homes |= {"local_directory": str(local), **others}
    monkeypatch.setattr(user_session, "homes_of_site", lambda: homes)
    monkeypatch.setattr(user_session, "kerberos_ccache", lambda uid: f"FILE:/run/krb5cc/{uid}/krb5cc")
    # The session of sudo makes it.
    (local / str(os.getuid())).mkdir(parents=True)


async def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.05)


def environment_of(spawner: CampusSudoSpawner) -> dict[str, str]:
    words = Path(f"/proc/{spawner.pid}/environ").read_text().split("\0")
    return dict(word.split("=", 1) for word in words if word)


def test_a_network_home_with_databases_on_the_local_disk(
    centre: Centre, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "net").mkdir()
    network_homes(monkeypatch, tmp_path / "local", f"{tmp_path}/net")

    async def act(spawner: CampusSudoSpawner) -> None:
        spawner.notebook_dir = "~/work"
        await spawner.start()
        local, home = f"{tmp_path}/local/{os.getuid()}", f"{tmp_path}/net"
        found = environment_of(spawner)
        assert Path(f"/proc/{spawner.pid}/cwd").samefile(home)  # noqa: ASYNC240
        assert found["HOME"] == home
        assert found["IPYTHONDIR"] == f"{local}/ipython"
        assert found["JUPYTER_DATA_DIR"] == f"{local}/jupyter"
        assert found["JUPYTER_PATH"] == f"{home}/.local/share/jupyter"
        assert found["KRB5CCNAME"] == f"FILE:/run/krb5cc/{os.getuid()}/krb5cc"
        assert found["JUPYTERHUB_ROOT_DIR"] == "~/work"
        assert found["JUPYTERHUB_DEFAULT_URL"] == "/lab"

    centre.run(act)


def test_the_look_at_a_home_has_the_token_of_the_login(
    centre: Centre, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "net").mkdir()
    network_homes(monkeypatch, tmp_path / "local", f"{tmp_path}/net")
    monkeypatch.setattr(user_session, "runtime_directory", lambda _uid: tmp_path)

    async def token_of(*_: Any) -> str:
        return "oauth2:t0ken:hub.example.org"

    async def act(spawner: CampusSudoSpawner) -> None:
        monkeypatch.setattr(type(spawner.authenticator), "token_of", token_of, raising=False)
        asked: dict[str, dict[str, Any]] = {}
        real = spawner.run_mediator

        async def noted(action: str, **request: Any) -> dict[str, Any]:
            asked[action] = request
            return await real(action, **request)

        monkeypatch.setattr(spawner, "run_mediator", noted)
        await spawner.start()
        # No session of its own for the look.
        assert list(asked) == ["store-token", "spawn"]
        token = f"FILE:{tmp_path}/oauth2_token"
        assert asked["spawn"]["home"]["env"]["OAUTH2_TOKEN"] == environment_of(spawner)["OAUTH2_TOKEN"] == token

    centre.run(act)


def test_storage_that_hangs_is_told_and_the_hub_works(
    centre: Centre, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network_homes(monkeypatch, tmp_path / "local", str(storage.directory))
    storage.hang()

    async def act(spawner: CampusSudoSpawner) -> None:
        begin = time.monotonic()
        start = asyncio.ensure_future(spawner.start())
        longest = 0.0
        while not start.done():
            before = time.monotonic()
            await asyncio.sleep(0.01)
            longest = max(longest, time.monotonic() - before)
        assert longest < 0.5, "the hub stood still"
        with pytest.raises(ServerStartError) as raised:
            await start
        assert time.monotonic() - begin < 3
        assert raised.value.jupyterhub_message == (
            f"Your home directory {storage.directory} cannot be used at the moment: it does not answer. "
            "Please try again in a few minutes; your server starts when it is back."
        )
        storage.go_on()
        await spawner.start()
        assert environment_of(spawner)["HOME"] == str(storage.directory)

    centre.run(act)


def test_an_end_and_a_silence_name_a_home_that_is_gone(
    centre: Centre, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """On storage that hangs, and where nothing is mounted any more, also by a hub that has been restarted."""
    network_homes(monkeypatch, tmp_path / "local", str(storage.directory), check_timeout=3)

    async def act(spawner: CampusSudoSpawner) -> None:
        spawner.answer_interval, spawner.answer_timeout = 0.1, 0.5
        spawner.log.addHandler(caplog.handler)
        address, port = await spawner.start()
        state = spawner.get_state()
        monkeypatch.setattr(CampusSudoSpawner, "server", SimpleNamespace(ip=address, port=port, base_url="/user/me/"))
        spawner.start_polling()
        storage.hang()
        os.kill(spawner.pid, signal.SIGSTOP)
        await until(lambda: spawner.home_problem == "it does not answer")
        assert spawner.unresponsive
        storage.go_on()
        os.kill(spawner.pid, signal.SIGCONT)
        await until(lambda: not spawner.unresponsive)
        assert spawner.home_problem == ""
        spawner.stop_polling()
        storage.hang()
        assert await spawner.why_ended(spawner.pid) == {"reason": "home", "message": "it does not answer"}
        storage.go_on()
        await spawner.stop()
        storage.die()
        storage.unmount()
        mounts = str(storage.directory.parent)
        again = tmp_path / "again"
        # The look has its time on a busy machine, too.
        network_homes(monkeypatch, again, str(storage.directory), mount_point=mounts, check_timeout=60)
        restarted = type(spawner)(user=spawner.user, orm_spawner=spawner.orm_spawner, hub=spawner.hub)
        restarted.mediator_path = spawner.mediator_path
        restarted.load_state(state)
        gone = {"reason": "home", "message": f"nothing is mounted at {mounts}"}
        assert await restarted.why_ended(0) == gone
        storage.mount()

    centre.run(act)
    said = [record.getMessage() for record in caplog.records]
    assert f"The home of {ME}, {storage.directory}: it does not answer" in said
    assert f"The server {ME} ended, and its home, {storage.directory}: it does not answer" in said


def test_pages_are_told_of_a_silent_server_and_its_home(
    centre: Centre, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """However many ask, the hub looks once."""
    network_homes(monkeypatch, tmp_path / "local", str(storage.directory), check_timeout=2)
    monkeypatch.setattr(base, "PAGE_TIMEOUT", 0.5)
    monkeypatch.setattr(base, "PAGE_INTERVAL", 0.1)

    async def ask(spawner: CampusSudoSpawner) -> Condition:
        (told,) = {json.dumps(one) for one in await asyncio.gather(*(spawner.condition_of_run() for _ in range(5)))}
        found: Condition = json.loads(told)
        return found

    async def act(spawner: CampusSudoSpawner) -> None:
        spawner.log.addHandler(caplog.handler)
        address, port = await spawner.start()
        monkeypatch.setattr(CampusSudoSpawner, "server", SimpleNamespace(ip=address, port=port, base_url="/user/me/"))
        monkeypatch.setattr(CampusSudoSpawner, "ready", True)
        assert (await ask(spawner))["reason"] == ""
        storage.hang()
        os.kill(spawner.pid, signal.SIGSTOP)
        await asyncio.sleep(0.2)
        assert (await ask(spawner))["reason"] == "silent"
        await until(lambda: bool(spawner.home_problem))
        assert await ask(spawner) == {"reason": "silent", "message": "it does not answer", "final": False}
        storage.go_on()
        os.kill(spawner.pid, signal.SIGCONT)
        await asyncio.sleep(0.2)
        assert (await ask(spawner)) == {"reason": "", "message": "", "final": False}
        await spawner.stop()

    centre.run(act)
    said = [record.getMessage() for record in caplog.records]
    assert said.count(f"The server {ME} runs, but does not answer within 0.5 s") == 1
    assert said.count(f"The home of {ME}, {storage.directory}: it does not answer") == 1


def test_a_scratch_home_while_storage_is_unavailable(
    centre: Centre, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network_homes(monkeypatch, tmp_path / "local", str(storage.directory), on_unavailable="scratch")
    storage.die()

    async def act(spawner: CampusSudoSpawner) -> None:
        spawner.notebook_dir = "~/work"
        await spawner.start()
        scratch = f"{tmp_path}/local/{os.getuid()}/home"
        found = environment_of(spawner)
        assert (found["HOME"], found["JUPYTERHUB_ROOT_DIR"]) == (scratch, scratch)
        # What people see first is why.
        assert found["JUPYTERHUB_DEFAULT_URL"] == f"/lab/tree/{mediator.NOTICE}"
        assert "Transport endpoint is not connected" in Path(scratch, mediator.NOTICE).read_text()  # noqa: ASYNC240
        await spawner.stop()
        storage.unmount()
        storage.mount()
        await spawner.start()
        assert environment_of(spawner)["HOME"] == str(storage.directory)

    centre.run(act)


@pytest.mark.parametrize("command", [[], ["make-home", "{login}"]])
def test_a_missing_home_is_made_by_the_session_of_sudo_or_told(
    centre: Centre, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    network_homes(monkeypatch, tmp_path / "local", f"{tmp_path}/net", create_command=command)

    async def act(spawner: CampusSudoSpawner) -> None:
        with pytest.raises(ServerStartError, match=r"There is no home directory .*/net for you\. Please tell"):
            await spawner.start()

    centre.run(act)
    asked = centre.asked.read_text().splitlines()
    words = ["STOP" if sudo_spawner.STOP in line else line.split()[-1] for line in asked]
    # The unit that has looked is no server. The stand-in for sudo has no session, so the home is still missing.
    assert words == (["spawn", "create-home"] if command else ["spawn"])


@pytest.mark.parametrize("on_unavailable", ["refuse", "scratch"])
def test_what_a_home_blocks_is_not_waited_for(
    centre: Centre, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_unavailable: str
) -> None:
    """The unit that has looked ends by itself, however long that takes; who asks for its end waits."""
    network_homes(monkeypatch, tmp_path / "local", str(storage.directory), on_unavailable=on_unavailable)
    storage.die()
    (centre.units.parent / "refuses").touch()

    async def act(spawner: CampusSudoSpawner) -> None:
        if on_unavailable == "scratch":
            await spawner.start()
            (centre.units.parent / "refuses").unlink()
        else:
            with pytest.raises(ServerStartError, match="cannot be used at the moment"):
                await spawner.start()
        await asyncio.wait_for(spawner.stop(), 5)

    centre.run(act)
    assert not list(centre.units.iterdir())


@pytest.mark.attack
def test_a_mediator_cannot_hide_a_server_behind_a_home(
    centre: Centre, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its user can have it say that the home is missing when the unit has become a server."""
    answer = '{"ok": true, "home": "missing", "problem": ""}'
    centre.end_mediator_with(f"echo '{answer}'")
    (tmp_path / "net").mkdir()
    network_homes(monkeypatch, tmp_path / "local", f"{tmp_path}/net")
    monkeypatch.setattr(sudo_spawner, "EXIT_SECONDS", 0.2)

    async def act(spawner: CampusSudoSpawner) -> None:
        with pytest.raises(ServerStartError, match="There is no home directory"):
            await spawner.start()

    centre.run(act)
    assert sudo_spawner.STOP in centre.asked.read_text()
    assert not list(centre.units.iterdir())


def stand_in_for_the_service_manager(directory: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """
    Have units and systemd-run(1) run the command as who it is, and nobody wait for a unit; return what was asked for.

    What the service manager is really told is in test_transient_unit.py.
    """
    told: list[dict[str, Any]] = []

    def start_unit(name: str, command: list[str], output: int, properties: dict[str, Any]) -> None:
        told.append({**properties, "name": name, "command": command})
        environment = dict(entry.split("=", 1) for entry in properties["Environment"])
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, env=environment, start_new_session=True)

    monkeypatch.setattr(transient_unit, "start_unit", start_unit)
    program = directory / "bin" / "systemd-run"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\nshift\n"$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return told


@pytest.mark.parametrize("on_unavailable", ["refuse", "scratch"])
def test_a_hub_that_is_root_waits_for_no_storage(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_unavailable: str
) -> None:
    network_homes(monkeypatch, tmp_path / "local", str(storage.directory), on_unavailable=on_unavailable)
    stand_in_for_the_service_manager(tmp_path, monkeypatch)
    spawner = spawner_of(ME)
    asyncio.run(spawner.resolve_home())
    assert spawner.get_state()["home"] == str(storage.directory)
    storage.hang()
    begin = time.monotonic()
    if on_unavailable == "scratch":
        asyncio.run(spawner.resolve_home())
        assert spawner.get_state()["home"] == f"{tmp_path}/local/{os.getuid()}/home"
        assert "it does not answer" in Path(spawner.get_state()["home"], mediator.NOTICE).read_text()
    else:
        with pytest.raises(ServerStartError, match="cannot be used at the moment: it does not answer"):
            asyncio.run(spawner.resolve_home())
    assert time.monotonic() - begin < 3
    storage.go_on()
    asyncio.run(spawner.resolve_home())
    assert spawner.get_state()["home"] == str(storage.directory)
    storage.die()
    network_homes(monkeypatch, tmp_path / "others", str(storage.directory))
    with pytest.raises(ServerStartError, match=r"at the moment: Transport endpoint is not connected\. Please try"):
        asyncio.run(spawner.resolve_home())


@pytest.mark.attack
def test_a_look_that_its_user_stops_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network_homes(monkeypatch, tmp_path / "local", f"{tmp_path}/net")
    stand_in_for_the_service_manager(tmp_path, monkeypatch)
    monkeypatch.setattr(user_session, "OTHER_SECONDS", 0.3)
    program = tmp_path / "stopped"
    number = tmp_path / "number"
    program.write_text(f"#!/bin/sh\necho $$ >{number}\nkill -STOP $$\n")
    program.chmod(0o755)
    monkeypatch.setattr(look, "__file__", str(program))
    begin = time.monotonic()
    with pytest.raises(ServerStartError, match="cannot be used at the moment: it does not answer"):
        asyncio.run(spawner_of(ME).resolve_home())
    assert time.monotonic() - begin < 5
    os.kill(int(number.read_text()), signal.SIGKILL)


@pytest.mark.parametrize("program", ["/nonexistent", "/bin/true"])
def test_a_look_that_nobody_could_take_is_no_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    network_homes(monkeypatch, tmp_path / "local", f"{tmp_path}/net")
    stand_in_for_the_service_manager(tmp_path, monkeypatch)
    spawner = spawner_of(ME)
    monkeypatch.setattr(look, "__file__", program)
    with pytest.raises(ServerStartError, match="Your session could not be prepared"):
        asyncio.run(spawner.resolve_home())


def test_a_hub_that_is_root_asks_the_service_manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network_homes(monkeypatch, tmp_path / "local", f"{tmp_path}/net", create_command=["make-home", "{login}"])
    told = stand_in_for_the_service_manager(tmp_path, monkeypatch)
    made: list[str] = []

    def make(account: pwd.struct_passwd, _homes: user_session.Homes) -> None:
        made.append(account.pw_name)
        (tmp_path / "net").mkdir()

    monkeypatch.setattr(user_session, "make_network_home", make)
    spawner = spawner_of(ME)
    asyncio.run(spawner.resolve_home())
    assert made == [ME]
    first, second = told
    # Two units at once must not have one name.
    assert first.pop("name") != second.pop("name")
    assert first == second
    assert first == {
        "Description": f"Look at the home of {ME}",
        "Slice": f"jupyterhub-{os.getuid()}.slice",
        "User": str(os.getuid()),
        "Group": str(os.getgid()),
        "Environment": [f"KRB5CCNAME=FILE:/run/krb5cc/{os.getuid()}/krb5cc"],
        "CollectMode": "inactive-or-failed",
        "RuntimeMaxUSec": 30_700_000,
        "TimeoutStopUSec": 2_000_000,
        "command": [look.__file__, f"{tmp_path}/net", ""],
    }


def test_slow_storage_and_many_files_leave_threads_to_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a site's command takes for a home, and the removal of what a user has left in /tmp."""
    released = threading.Event()
    monkeypatch.setattr(user_session, "make_network_home", lambda *_: released.wait(60))

    def systemctl(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        state = "inactive" if released.is_set() else "deactivating"
        return subprocess.CompletedProcess(command, 0, f"ActiveState={state}\n")

    monkeypatch.setattr(subprocess, "run", systemctl)
    for step in ("make_directories", "limit_slice"):
        monkeypatch.setattr(user_session, step, lambda *_: None)
    spawner, other = spawner_of(ME), spawner_of(ME)
    monkeypatch.setattr(spawner, "probe_home", AsyncMock(return_value={"home": "ok"}))
    monkeypatch.setattr(other, "resolve_home", AsyncMock())
    other._limits = {"memory": None, "cpu": None, "tasks": None}  # noqa: SLF001 (as a look-up finds them)

    async def act() -> None:
        homes = [asyncio.ensure_future(spawner.create_network_home({})) for _ in range(50)]  # type: ignore[typeddict-item]
        sessions = [asyncio.ensure_future(other.prepare_session()) for _ in range(50)]
        await asyncio.sleep(0.1)
        try:
            await asyncio.wait_for(asyncio.to_thread(int), 5)
            assert not any(one.done() for one in (*homes, *sessions))
        finally:
            released.set()
            await asyncio.gather(*homes, *sessions)

    asyncio.run(act())


def test_many_ends_leave_threads_to_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the journal takes for the last words of each server."""
    released = threading.Event()
    monkeypatch.setattr(user_session, "write_output", lambda *_: released.wait(60))

    async def act() -> None:
        readers = [asyncio.ensure_future(spawner_of(ME).store_output()) for _ in range(100)]
        await asyncio.sleep(0)
        try:
            await asyncio.wait_for(asyncio.to_thread(int), 30)
            assert not any(reader.done() for reader in readers)
        finally:
            released.set()
            await asyncio.gather(*readers)

    asyncio.run(act())


def test_a_service_manager_that_starts_anew_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "systemctl"
    program.write_text(f"#!/bin/sh\n[ -e {tmp_path}/asked ] && echo 4711 || {{ : >{tmp_path}/asked; exit 1; }}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert asyncio.run(systemd_spawner.main_pid_of("some.service")) == 4711
