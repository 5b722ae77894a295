"""The life of a centre: installed, backed up, upgraded, restored and removed, with a user at work all the time.

The tests build on each other, in the order in which they stand.
"""

from __future__ import annotations

import re
import shlex
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.playbooks import ROOT, run_playbook

if TYPE_CHECKING:
    from testinfra.host import Host

VERSION = (ROOT / "VERSION").read_text().strip()


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("centre")


@pytest.fixture(scope="module")
def settings(scratch: Path) -> dict[str, Any]:
    hashed = subprocess.run(["openssl", "passwd", "-6", "alice-secret"], check=True, capture_output=True, text=True)
    return {
        "accounts_users": [{"name": "alice", "password_hash": hashed.stdout.strip()}],
        "backup_directory": str(scratch / "backups"),
    }


def succeed(host: Host, scratch: Path, playbook: str, *options: str, **settings: Any) -> str:
    status, output, _ = run_playbook(host, scratch, playbook, *options, **settings)
    assert status == 0, output
    return output


def act(host: Host, action: str, *arguments: str) -> str:
    """Do something at the hub as alice."""
    client = (ROOT / "tests/hub_client.py").read_text()
    host.run(f"cat >/opt/hub_client.py <<'END_OF_CLIENT'\n{client}\nEND_OF_CLIENT\n")
    words = shlex.join(["http://127.0.0.1:980", "alice", "alice-secret", action, *arguments])
    return str(host.check_output(f"/opt/campushub/hub/bin/python /opt/hub_client.py {words}"))


def database(host: Host, statement: str) -> str:
    """Ask the hub's database."""
    program = "import sqlite3, sys; [print(*row, sep='|') for row in sqlite3.connect(sys.argv[1]).execute(sys.argv[2])]"
    return str(host.check_output("python3 -c %s /var/lib/jupyterhub/jupyterhub.sqlite %s", program, statement)).strip()


def postgresql(host: Host, name: str, statement: str) -> str:
    """Ask a database of the host's PostgreSQL server as its administrator."""
    command = ["runuser", "-u", "postgres", "--", "psql", "-qtA", "-c", statement, name]
    return str(host.check_output(shlex.join(command)))


def server(host: Host) -> str:
    """Process of alice's server; a new one would be another."""
    return str(host.check_output("pgrep -u alice -o -f jupyterhub-singleuser"))


def backups(scratch: Path) -> list[Path]:
    return sorted((scratch / "backups").glob("*/server.tar.gz"))


def test_install(host: Host, scratch: Path, settings: dict[str, Any]) -> None:
    succeed(host, scratch, "site.yml", **settings)
    act(host, "start")
    assert server(host)


def test_status_shows_what_runs(host: Host, scratch: Path, settings: dict[str, Any]) -> None:
    output = succeed(host, scratch, "playbooks/status.yml", **settings)
    for sentence in (
        rf"campushub +{re.escape(VERSION)}",
        r"jupyterhub active since",
        r"jupyterhub-proxy active since",
        r"nginx active since",
        r"hub answers in \d+ ms",
        r"through nginx answers in \d+ ms",
        r"certificate server until 20\d\d-\d\d-\d\d \(\d+ days\)",
        r"servers 1 running",
        r"hub env jupyterhub \d+\.\d+\.\d+ \(hub-\w+",
        r"user env jupyterlab 4\.\S+, notebook 7\.",
    ):
        assert re.search(sentence, output), sentence


@pytest.mark.chaos
def test_status_fails_and_says_why_when_something_is_not_well(
    host: Host, scratch: Path, settings: dict[str, Any]
) -> None:
    host.check_output("systemctl stop jupyterhub.service")
    status, output, _ = run_playbook(host, scratch, "playbooks/status.yml", **settings)
    host.check_output("systemctl start jupyterhub.service")
    assert status != 0
    assert (
        "NOT WELL: jupyterhub.service is inactive. Its journal says why: journalctl -u jupyterhub.service -n 50"
        in output
    )
    assert "hub does not answer (Connection refused) at http://127.0.0.1:982/hub/api/." in output


@pytest.mark.attack
def test_backup_is_for_administrators_only(host: Host, scratch: Path, settings: dict[str, Any]) -> None:
    succeed(host, scratch, "playbooks/backup.yml", **settings)
    (backup,) = backups(scratch)
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert stat.S_IMODE(backup.parent.stat().st_mode) == 0o700
    assert host.run("ls /var/lib/.campushub-*").rc != 0


def test_upgrade_stops_nobodys_server(host: Host, scratch: Path, settings: dict[str, Any]) -> None:
    before = server(host)
    old = host.file("/opt/campushub/user").linked_to
    # The place of the hub's code in former releases, as they have left it; files of no content stand in for theirs.
    former = "/usr/local/lib/campushub/campushub_hub"
    host.check_output(f"mkdir -p {former}/templates {former}/__pycache__")
    host.check_output(f"touch {former}/mediator.py {former}/templates/page.html {former}/__pycache__/mediator.pyc")
    host.check_output("touch /etc/jupyterhub/secrets/door.conf")
    output = succeed(
        host,
        scratch,
        "playbooks/upgrade.yml",
        **settings,
        jupyter_extra_packages=["cowsay"],
        jupyterhub_site_name="New",
    )
    assert server(host) == before
    assert host.file("/opt/campushub/user").linked_to != old
    assert host.file(old).is_directory
    assert host.check_output(f"find {former} -mindepth 1") == f"{former}/revoke.py"
    assert not host.file("/etc/jupyterhub/secrets/door.conf").exists
    assert host.check_output(f"readlink -f {former}/revoke.py").endswith("/bin/campushub-revoke")
    assert host.run(f"{former}/revoke.py nobody-here").stdout.strip() == "nobody-here: the hub does not know them"
    assert len(backups(scratch)) == 2
    assert f"-e restore_file={backups(scratch)[-1]} -e confirm=yes" in output
    assert f"git checkout v{VERSION}" in output
    assert "(" in act(host, "get", "/hub/login") or "New" in host.check_output("curl -s http://127.0.0.1:980/hub/login")


def test_way_back_is_a_switch(host: Host, scratch: Path, settings: dict[str, Any]) -> None:
    before = server(host)
    new = host.file("/opt/campushub/user").linked_to
    succeed(host, scratch, "site.yml", **settings)
    assert host.file("/opt/campushub/user").linked_to != new
    assert server(host) == before


def test_restore_must_be_meant(host: Host, scratch: Path, settings: dict[str, Any]) -> None:
    status, output, _ = run_playbook(
        host, scratch, "playbooks/restore.yml", "-e", f"restore_file={backups(scratch)[0]}", **settings
    )
    assert status != 0
    assert "say that you mean it: -e restore_file=FILE -e confirm=yes" in output
    assert "Nothing was changed." in output


def test_restore_brings_the_database_back_and_stops_no_server(
    host: Host, scratch: Path, settings: dict[str, Any]
) -> None:
    before = server(host)
    database(host, "INSERT INTO groups (name) VALUES ('later')")
    secrets = host.check_output("sha256sum /etc/jupyterhub/secrets/*")
    kept = len(backups(scratch))
    host.check_output("sed -i 's/=.*/=00/' /etc/jupyterhub/secrets/hub.env")
    output = succeed(
        *(host, scratch, "playbooks/restore.yml", "-e", f"restore_file={backups(scratch)[0]}", "-e", "confirm=yes"),
        **settings,
    )
    assert len(backups(scratch)) == kept + 1
    assert f"What it was before is in {backups(scratch)[-1]}: restore that to go back." in output
    assert database(host, "SELECT name FROM groups") == ""
    assert host.check_output("sha256sum /etc/jupyterhub/secrets/*") == secrets
    assert host.file("/var/lib/jupyterhub.before-restore/jupyterhub.sqlite").exists
    assert server(host) == before
    # The server is known to the hub and the proxy again, with the token it has had all the time.
    assert act(host, "run", "print(6 * 7)").strip() == "42"


def test_postgresql_is_saved_before_an_upgrade_and_restored(
    host: Host, scratch: Path, settings: dict[str, Any]
) -> None:
    """A database server instead of the file, with a password that must be quoted in a URL."""
    act(host, "stop")
    host.check_output("DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends postgresql")
    postgresql(host, "postgres", "CREATE ROLE hub LOGIN PASSWORD 's@cret'")
    postgresql(host, "postgres", "CREATE DATABASE hub OWNER hub")
    settings = {**settings, "jupyterhub_database_url": "postgresql+psycopg://hub:s%40cret@localhost/hub"}
    assert "s%40cret" not in succeed(host, scratch, "site.yml", "--diff", "-vvv", **settings)
    act(host, "start")
    before = server(host)
    assert postgresql(host, "hub", "SELECT name FROM users") == "alice"
    (dump,) = host.check_output("ls /var/lib/jupyterhub/before-*.dump").splitlines()
    assert host.run(f"pg_restore --list {dump}").rc == 0

    succeed(host, scratch, "playbooks/backup.yml", **settings)
    postgresql(host, "hub", "INSERT INTO groups (name) VALUES ('later')")
    backup = ("-e", f"restore_file={backups(scratch)[-1]}", "-e", "confirm=yes")
    succeed(host, scratch, "playbooks/restore.yml", *backup, **settings)
    assert postgresql(host, "hub", "SELECT name FROM groups") == ""
    assert server(host) == before
    assert act(host, "run", "print(6 * 7)").strip() == "42"
    # What was replaced can be restored, too.
    backup = ("-e", f"restore_file={backups(scratch)[-1]}", "-e", "confirm=yes")
    succeed(host, scratch, "playbooks/restore.yml", *backup, **settings)
    assert postgresql(host, "hub", "SELECT name FROM groups") == "later"
    assert server(host) == before


def test_restore_names_servers_that_it_would_lose(host: Host, scratch: Path, settings: dict[str, Any]) -> None:
    settings = {**settings, "jupyterhub_database_url": "postgresql+psycopg://hub:s%40cret@localhost/hub"}
    hub = "systemctl show --value --property=MainPID jupyterhub.service"
    running, kept = host.check_output(hub), len(backups(scratch))
    status, output, _ = run_playbook(
        *(host, scratch, "playbooks/restore.yml", "-e", f"restore_file={backups(scratch)[0]}", "-e", "confirm=yes"),
        **settings,
    )
    assert status != 0
    assert "the hub would not know them: jupyterhub-user-alice.service. It would cancel" in output
    assert host.check_output(hub) == running
    assert len(backups(scratch)) == kept
    assert not host.file("/var/lib/.campushub-restore.tar.gz").exists


def test_removal_must_be_meant(host: Host, scratch: Path, settings: dict[str, Any]) -> None:
    status, output, _ = run_playbook(host, scratch, "playbooks/remove.yml", **settings)
    assert status != 0
    assert "and deletes the accounts and groups that the inventory lists." in output
    assert "If you mean it: -e confirm=yes" in output
    assert "Nothing was changed." in output
    assert host.service("jupyterhub").is_running


def test_removal_leaves_homes_and_nothing_that_runs(host: Host, scratch: Path, settings: dict[str, Any]) -> None:
    host.check_output("sh -c 'echo precious >/home/alice/thesis'")
    output = succeed(host, scratch, "playbooks/remove.yml", "-e", "confirm=yes", **settings)
    assert "Stays: homes;" in output
    assert host.file("/home/alice/thesis").content_string == "precious\n"
    # What a restore has replaced, and the database of now.
    assert host.file("/var/lib/jupyterhub.before-restore").is_directory
    assert postgresql(host, "hub", "SELECT name FROM users") == "alice"
    for unit in ("jupyterhub", "jupyterhub-proxy"):
        assert not host.service(unit).exists
    for path in (
        "/etc/jupyterhub",
        "/etc/jupyterhub.before-restore",
        "/etc/campushub",
        "/etc/uv",
        "/opt/campushub/hub",
        "/opt/campushub/user",
        "/opt/campushub/uv",
        "/etc/pip.conf",
        "/var/lib/campushub/version",
    ):
        assert not host.file(path).exists, path
    assert host.run("pgrep -f '[s]ingleuser'").rc != 0
    assert host.run("ss -ltnH 'sport = :980 or sport = :982'").stdout == ""
