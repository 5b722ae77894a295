"""The programs beside hub and proxy: restore_routes and backup_database, and revoke, which administrators run."""

from __future__ import annotations

import hashlib
import http.server
import json
import re
import socket
import stat
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from tests.settings.validation import ROOT

from campushub_hub.bin import backup_database, check_room, restore_routes, revoke

from .conftest import merged

Request = tuple[str, str, str | None]


@contextmanager
def server(status: int | None = 200, garbage: bytes = b"") -> Iterator[tuple[int, list[Request]]]:
    """A stand-in for the proxy's or the hub's interface: real HTTP, which answers with one status, or not at all."""
    seen: list[Request] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append((self.command, self.path, self.headers["Authorization"]))
            if status is None:
                self.wfile.write(garbage)
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        threading.Thread(target=listener.serve_forever, args=(0.01,), daemon=True).start()
        yield listener.server_port, seen
        listener.shutdown()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def restore(monkeypatch: pytest.MonkeyPatch, proxy: int, hub: int) -> int:
    monkeypatch.setenv("PROXY_API_PORT", str(proxy))
    monkeypatch.setenv("HUB_PORT", str(hub))
    monkeypatch.setenv("CONFIGPROXY_AUTH_TOKEN", "token-of-the-proxy")
    monkeypatch.setenv("CAMPUSHUB_ROUTES_TOKEN", "token-of-the-hub")
    # The site's way out must not see these requests; nothing listens there.
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    return restore_routes.main()


def test_hub_and_proxy_are_asked_each_with_its_own_token(monkeypatch: pytest.MonkeyPatch) -> None:
    with server() as (proxy, asked), server(202) as (hub, told):
        assert restore(monkeypatch, proxy, hub) == 0
    assert asked == [("GET", "/api/routes", "token token-of-the-proxy")]
    assert told == [("POST", "/hub/api/proxy", "token token-of-the-hub")]


@pytest.mark.parametrize(
    ("status", "garbage"), [(403, b""), (500, b""), (None, b""), (None, b"SSH-2.0-OpenSSH\r\n")], ids=str
)
def test_a_hub_that_does_not_do_it_is_no_fault_of_the_proxy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], status: int | None, garbage: bytes
) -> None:
    with server() as (proxy, _), server(status, garbage) as (hub, told):
        assert restore(monkeypatch, proxy, hub) == 0
        assert len(told) == 1
    assert "it will when it starts" in capsys.readouterr().out


def test_a_hub_that_is_down_is_no_fault_of_the_proxy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with server() as (proxy, _):
        assert restore(monkeypatch, proxy, free_port()) == 0
    assert "Connection refused" in capsys.readouterr().out


def test_a_proxy_that_comes_up_late_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    with server() as (proxy, asked), server() as (hub, told):
        monkeypatch.setenv("HUB_PORT", str(hub))
        late = free_port()

        def sleep(seconds: float) -> None:
            waits.append(seconds)
            monkeypatch.setenv("PROXY_API_PORT", str(proxy))

        # Nothing ever listens on the first port; the clock says so soon.
        clock = iter([0.0, 5.0, 11.0])
        monkeypatch.setattr(restore_routes, "time", SimpleNamespace(monotonic=lambda: next(clock), sleep=sleep))
        assert restore(monkeypatch, late, hub) == 1
        assert (waits, asked, told) == ([0.05], [], [])


@pytest.mark.parametrize(
    ("url", "address", "password"),
    [
        ("postgresql+psycopg://hub:secret@db/hub", "postgresql://hub@db/hub", "secret"),
        ("postgresql+psycopg://hub:p%40ss%2Fw%3Ard%25@db:5433/hub", "postgresql://hub@db:5433/hub", "p@ss/w:rd%"),
        ("postgresql+psycopg://h%40b:x@[2001:db8::1]:5432/h", "postgresql://h%40b@[2001:db8::1]:5432/h", "x"),
        ("postgresql+psycopg://hub@db/hub?sslmode=require", "postgresql://hub@db/hub?sslmode=require", None),
        ("postgresql+psycopg:///hub?host=/run/postgresql", "postgresql:///hub?host=/run/postgresql", None),
    ],
)
def test_address_of_a_database_has_no_password(url: str, address: str, password: str | None) -> None:
    found, environment = backup_database.connection(url)
    assert found == address
    assert environment.get("PGPASSWORD") == password


class Centre:
    """Files of a hub, and a stand-in for pg_dump(1) that writes down how it was called."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.url, self.hub, self.state = directory / "database_url", directory / "hub", directory / "state"
        self.calls, self.program = directory / "calls", directory / "pg_dump"
        self.state.mkdir()
        self.hub.symlink_to("hub-1")
        self.url.write_text("# Managed by CampusHub\npostgresql+psycopg://hub:sec%40ret@db/hub\n")
        self.dumps()
        real = backup_database.connection

        def connection(url: str) -> tuple[str, dict[str, str]]:
            address, environment = real(url)
            return address, {**environment, "PATH": f"{directory}:{environment['PATH']}"}

        monkeypatch.setattr(backup_database, "connection", connection)
        for name, value in (("URL", self.url), ("HUB", self.hub), ("STATE", self.state)):
            monkeypatch.setattr(backup_database, name, value)

    def dumps(self, succeeds: bool = True) -> None:
        self.program.write_text(
            f'#!/bin/sh\necho "$PGPASSWORD $*" >>{self.calls}\n'
            + ('for word; do case $word in --file=*) echo dump >"${word#--file=}" ;; esac; done\n' if succeeds else "")
            + ("" if succeeds else "echo half >/dev/null; echo 'server version mismatch' >&2; exit 1\n")
        )
        self.program.chmod(0o755)

    def called(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []


@pytest.fixture
def centre(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Centre:
    return Centre(tmp_path, monkeypatch)


def test_database_is_copied_once_a_version(centre: Centre) -> None:
    assert backup_database.main() == 0
    assert backup_database.main() == 0
    dump = centre.state / "before-hub-1.dump"
    assert centre.called() == [f"sec@ret --format=custom --file={dump}.new --dbname=postgresql://hub@db/hub"]
    assert stat.S_IMODE(dump.stat().st_mode) == 0o600
    centre.hub.unlink()
    centre.hub.symlink_to("/opt/campushub/hub-2")
    assert backup_database.main() == 0
    assert sorted(path.name for path in centre.state.iterdir()) == [
        "before-hub-1.dump",
        "before-hub-2.dump",
        "last-version",
    ]


def test_a_database_that_cannot_be_copied_is_not_touched(centre: Centre, capsys: pytest.CaptureFixture[str]) -> None:
    centre.dumps(succeeds=False)
    assert backup_database.main() == 1
    assert "server version mismatch" in capsys.readouterr().err
    assert list(centre.state.iterdir()) == []
    centre.dumps()
    assert backup_database.main() == 0


def test_sqlite_is_left_to_the_hub(centre: Centre) -> None:
    centre.url.write_text("# Managed by CampusHub\nsqlite:////srv/hub.sqlite\n")
    assert backup_database.main() == 0
    centre.url.unlink()
    assert backup_database.main() == 0
    assert centre.called() == []
    assert list(centre.state.iterdir()) == []


@contextmanager
def hub_with_servers(servers: dict[str, Any]) -> Iterator[tuple[int, list[str]]]:
    """A stand-in for the hub: as JupyterHub, it deletes nobody of whom a server runs, and servers take time to stop."""
    seen: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(200, {"name": "ann", "servers": servers})
            for name in [name for name, server in servers.items() if server["pending"] == "stop"]:
                del servers[name]

        def do_DELETE(self) -> None:
            seen.append(self.path)
            _, found, name = self.path.partition("/servers/")
            if found:
                servers[name]["pending"] = "stop"
            self.answer(204 if found or not servers else 500)

        def answer(self, status: int, body: Any = None) -> None:
            assert self.headers["Authorization"] == "token s3cret"
            self.send_response(status)
            self.end_headers()
            if body:
                self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        threading.Thread(target=listener.serve_forever, args=(0.01,), daemon=True).start()
        yield listener.server_port, seen
        listener.shutdown()


def test_who_is_taken_out_has_no_server_left_whatever_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    servers = {"": {"pending": None}, "two": {"pending": "spawn"}}
    with hub_with_servers(servers) as (port, seen):
        assert revoke.revoke("ann", port, "s3cret") == ""
    user = "/hub/api/users/ann"
    assert seen == [f"{user}/servers/", f"{user}/servers/two", user]
    monkeypatch.setattr(revoke, "PATIENCE_SECONDS", -1.0)
    with hub_with_servers({"": {"pending": "stop"}}) as (port, seen):
        assert revoke.revoke("ann", port, "s3cret") == "their servers do not stop"
    assert seen == []
    assert "the hub does not answer" in revoke.revoke("ann", free_port(), "s3cret")


def test_the_command_finds_the_hub_and_its_secret(
    rendered: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    with hub_with_servers({}) as (port, seen):
        settings = merged(rendered["sudo"]["settings"], JupyterHub={"hub_bind_url": f"http://127.0.0.1:{port}"})
        (tmp_path / "settings.json").write_text(json.dumps(settings))
        (tmp_path / "hub.env").write_text('CAMPUSHUB_REVOKE_TOKEN="s3cret"\n')
        monkeypatch.setattr(revoke, "SETTINGS", tmp_path / "settings.json")
        monkeypatch.setattr(revoke, "SECRETS", tmp_path / "hub.env")
        monkeypatch.setattr("sys.argv", ["campushub-revoke", "ann"])
        assert revoke.main() == 0
    assert seen == ["/hub/api/users/ann"]
    assert capsys.readouterr().out == "ann: out\n"


# Room on the disk


def test_a_start_on_a_full_disk_gets_what_was_held_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The size of the disk is a stand-in; what is held back is a real file."""
    reserve = tmp_path / check_room.RESERVE
    megabytes = 1000

    def free(_directory: Path) -> int:
        return (megabytes << 20) - (check_room.RESERVED if reserve.exists() else 0)

    monkeypatch.setattr(check_room, "free", free)
    assert check_room.main(tmp_path) == 0
    assert reserve.stat().st_size == check_room.RESERVED
    assert reserve.stat().st_blocks * 512 >= check_room.RESERVED, "the room is taken"
    megabytes = 70
    assert check_room.main(tmp_path) == 0
    assert not reserve.exists()
    assert f"The disk of {tmp_path} is full" in capsys.readouterr().out
    assert check_room.main(tmp_path) == 0
    assert not reserve.exists(), "the last is not taken from others"
    megabytes = 5
    assert check_room.main(tmp_path) == 1
    assert capsys.readouterr().err == (
        f"No room on the disk of {tmp_path}: 5 MB are free, 32 MB are needed. Make room.\n"
    )


def test_servers_of_the_host_are_known_by_their_spawner(tmp_path: Path) -> None:
    """By the names of units, as both spawners make them; the service manager is a stand-in."""
    units = [
        "jupyterhub-user-2001-1764471600123456789.service loaded active running /opt/campushub/hub/bin/python3",
        "jupyterhub-user-ann.service loaded active running /bin/bash -c cd /home/ann && exec …",
        "jupyterhub-user-2001-x.s-second.service loaded active running /bin/bash",
    ]
    program = tmp_path / "systemctl"
    program.write_text("#!/bin/sh\ncat <<'EOF'\n" + "\n".join(units) + "\nEOF\n")
    program.chmod(0o755)
    script = ROOT / "roles/jupyterhub/files/list-servers"
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    printed = subprocess.run(["sh", script], env=environment, capture_output=True, text=True, check=True).stdout
    assert printed.splitlines()[:3] == [
        "local sudo jupyterhub-user-2001-1764471600123456789.service",
        "local systemd jupyterhub-user-ann.service",
        "local systemd jupyterhub-user-2001-x.s-second.service",
    ]


@pytest.mark.parametrize(
    ("written", "name"),
    [("campushub-before\n", "campushub-before"), ("x y\n", "campushub-hub"), (None, "campushub-hub")],
)
def test_servers_in_a_cluster_are_known_by_their_jobs_name(tmp_path: Path, written: str | None, name: str) -> None:
    """As the hub has written it down; programs of the host and of Slurm are stand-ins."""
    script = (ROOT / "roles/jupyterhub/files/list-servers").read_text()
    for place in ("/etc/jupyterhub", "/var/lib/jupyterhub", "/etc/slurm"):
        script = script.replace(place, str(tmp_path))
    (tmp_path / "settings.json").write_text('{"SlurmCluster": {}}')
    (tmp_path / "slurm.conf").touch()
    if written is not None:
        (tmp_path / "slurm_job_name").write_text(written)
    for program, text in (("systemctl", ""), ("uname", "echo hub.example.org"), ("squeue", 'echo "asked $*"')):
        (tmp_path / program).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / program).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    command = ["sh", "-c", script, "list-servers", "x"]
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert printed.splitlines()[0] == f"asked --noheader --name={name} --format=slurm %u %i"


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("postgresql+psycopg://hub:new@db.example.org/hub", True),
        ("postgresql+psycopg://db.example.org/hub", True),
        ("postgresql+psycopg://hub:old@db.example.org/hub?sslmode=require", True),
        ("postgresql+psycopg://hub:old@db2.example.org/hub", False),
        ("postgresql+psycopg://hub:old@db.example.org/hub2", False),
        ("postgresql+psycopg://hub:old@db.example.org:5433/hub", False),
        ("postgresql+psycopg://hub:old@db.example.org/hub?options=-csearch_path%3Dother", False),
        ("sqlite:////var/lib/jupyterhub/jupyterhub.sqlite", False),
    ],
)
def test_another_password_is_not_another_database(tmp_path: Path, url: str, same: bool) -> None:
    """As the hub's host and the role see it, which never show the URL."""
    script = (ROOT / "roles/jupyterhub/files/list-servers").read_text().replace("/etc/jupyterhub", str(tmp_path))
    names = yaml.safe_load((ROOT / "roles/jupyterhub/vars/main.yml").read_text())
    pattern = names["__jupyterhub_database_access_pattern"]
    (tmp_path / "settings.json").touch()
    (tmp_path / "database_url").write_text("# Managed by CampusHub\npostgresql+psycopg://hub:old@db.example.org/hub\n")
    (tmp_path / "systemctl").write_text("#!/bin/sh\n")
    (tmp_path / "systemctl").chmod(0o755)
    command = ["sh", "-c", script, "list-servers", pattern]
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    # What `regex_replace` and `hash` of Ansible do.
    wanted = hashlib.sha256(re.sub(pattern, "", url).encode()).hexdigest()
    assert (printed == f"database {wanted}\n") == same
