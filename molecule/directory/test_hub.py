"""The hub with the accounts of a university's directory, which now and then fails."""

from __future__ import annotations

import runpy
import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from testinfra.host import Host

MADE = runpy.run_path(str(Path(__file__).with_name("server.py")))
PASSWORDS = {name: password for name, _, password in MADE["PEOPLE"] + MADE["HOSTILE"]}
CLIENT = Path(__file__).resolve().parents[2] / "tests" / "hub_client.py"
UNITS = "slapd@main slapd@replica krb5-kdc"
SILENT = "user directory does not answer"

Client = Callable[..., str]

# A page of the hub, asked for again and again; prints the longest time it took.
CLICK = """
import time, urllib.request
worst, end = 0, time.monotonic() + 12
while time.monotonic() < end:
    begin = time.monotonic()
    urllib.request.urlopen("http://127.0.0.1:980/hub/login", timeout=30).read()
    worst = max(worst, time.monotonic() - begin)
    time.sleep(0.1)
print(worst)
"""


@pytest.fixture(scope="module")
def client(hub: Host) -> Client:
    """Act at the hub as a user: `client("ann", "start")` returns what the client printed, be it good or bad."""
    # Nobody has been here.
    hub.check_output("systemctl stop sssd; rm -f /var/lib/sss/db/*; systemctl reset-failed sssd; systemctl start sssd")
    hub.run(f"cat >/opt/hub_client.py <<'END_OF_CLIENT'\n{CLIENT.read_text()}\nEND_OF_CLIENT\n")

    def act(user: str, action: str, *arguments: str, password: str = "") -> str:
        words = ["http://127.0.0.1:980", user, password or PASSWORDS[user], action, *arguments]
        done = hub.run(f"/opt/campushub/hub/bin/python /opt/hub_client.py {shlex.join(words)}")
        return str(done.stdout + done.stderr)

    return act


@pytest.fixture
def directory(hub: Host, server: Host) -> Iterator[Callable[[str], None]]:
    """Return how to do something to the servers of the directory; they are well again afterwards."""

    def does(what: str) -> None:
        commands = {"stop": f"systemctl stop {UNITS}", "freeze": f"systemctl kill --signal=SIGSTOP {UNITS}"}
        server.check_output(commands[what])
        hub.check_output("sss_cache -E")

    yield does
    server.check_output(f"systemctl kill --signal=SIGCONT {UNITS}; systemctl start {UNITS}")
    time.sleep(12)


def member(server: Host, action: str, name: str) -> None:
    """Put somebody into the group of those who may log in, or out of it."""
    change = (
        f"dn: cn=hub-users,ou=groups,{MADE['SUFFIX']}\nchangetype: modify\n{action}: memberUid\nmemberUid: {name}\n"
    )
    admin = f"-H ldap://localhost -D cn=admin,{MADE['SUFFIX']} -w admin"
    server.check_output(f"printf %s {shlex.quote(change)} | ldapmodify -x {admin}")


def test_somebody_of_the_directory_works_in_a_home_of_their_own_with_the_limits_of_their_group(
    hub: Host, client: Client
) -> None:
    hub.run("rm -rf /home/u10002")
    client("bob", "start")
    try:
        assert "bob:700:bob" in client("bob", "shell", "stat -c %U:%a:$(id -un) ~")
        limit = hub.check_output("systemctl show --value --property=MemoryMax jupyterhub-10002.slice")
        assert int(limit) == 2**30
    finally:
        client("bob", "stop")


def test_a_group_of_the_directory_makes_administrators(client: Client) -> None:
    assert '"admin": true' in client("carl", "get", "/hub/api/user")
    assert '"admin": false' in client("bob", "get", "/hub/api/user")


def test_who_may_not_come_in_is_told_why(client: Client) -> None:
    assert "You may not use this service" in client("dora", "login")
    for name in ("..", "a/b", "two words", "иван", "l" * 64, "*)(uid=*"):
        assert "This is no user name that can be used here" in client(name, "login")
    assert "Invalid username or password" in client("root", "login")
    assert "Invalid username or password" in client("lowly", "login")


def test_every_character_and_any_case(client: Client) -> None:
    assert "/hub/home" in client("ann", "login")
    assert "/hub/home" in client("EMIL", "login", password=PASSWORDS["Emil"])


def test_with_the_directory_down_some_get_in_and_others_read_why_not(
    client: Client, directory: Callable[[str], None], hub: Host
) -> None:
    assert "/hub/home" in client("student11", "login")
    directory("stop")
    for name, password, wanted in (
        ("student11", "", "/hub/home"),
        ("student12", "", SILENT),
        ("student11", "wrong", SILENT),
    ):
        started = time.monotonic()
        assert wanted in client(name, "login", password=password)
        assert time.monotonic() - started < 10
    assert "Connection refused" in hub.check_output("journalctl -u jupyterhub --since=-60s --no-pager")


def test_a_directory_that_hangs_holds_up_nobody_else(
    hub: Host, client: Client, directory: Callable[[str], None]
) -> None:
    directory("freeze")
    hub.check_output(f"nohup python3 -c {shlex.quote(CLICK)} >/run/clicks 2>&1 </dev/null & true")
    begin = started = time.monotonic()
    assert SILENT in client("student14", "login")
    assert time.monotonic() - started < 10
    time.sleep(max(0.0, 13 - (time.monotonic() - begin)))
    assert float(hub.check_output("cat /run/clicks")) < 1


def test_who_is_removed_from_the_group_is_out_at_the_next_request_and_the_server_stops(
    hub: Host, server: Host, client: Client
) -> None:
    client("student15", "start")
    assert "running" in hub.check_output("systemctl list-units --no-legend 'jupyterhub-user-student15*'")
    member(server, "delete", "student15")
    try:
        # A kernel that talks to the hub, or a page, is a request.
        end = time.monotonic() + 40
        while "You may not use this service" not in client("student15", "login"):
            assert time.monotonic() < end
            time.sleep(2)
        hub.check_output("/usr/local/lib/campushub/campushub_hub/revoke.py student15")
        assert hub.check_output("systemctl list-units --no-legend 'jupyterhub-user-student15*'") == ""
    finally:
        member(server, "add", "student15")


def test_passwords_are_in_no_log_and_addresses_that_guess_are_closed_out(hub: Host, client: Client) -> None:
    for _ in range(7):
        last = client("student16", "login", password="wr0ng-4711")
    assert "Too many failed attempts" in last
    log = hub.check_output("journalctl --no-pager -u jupyterhub")
    assert "Failed login of student16 from 127.0.0.1" in log
    assert "wr0ng-4711" not in log
    # The jail itself never closes the host's own address out.
    found = hub.check_output("fail2ban-regex systemd-journal /etc/fail2ban/filter.d/campushub.conf")
    assert " 0 matched" not in found
    assert hub.run("fail2ban-client status campushub").rc == 0
