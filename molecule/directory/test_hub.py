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


# All students log in at once; prints the longest time it took.
STORM = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
sys.path.insert(0, "/opt")
from hub_client import Hub

def enter(name):
    begin = time.monotonic()
    Hub("http://127.0.0.1:980", name).login(f"{name}-secret")
    return time.monotonic() - begin

with ThreadPoolExecutor(30) as pool:
    print(max(pool.map(enter, [f"student{number:02}" for number in range(1, 31)])))
"""

# Somebody with a server, a page of the hub and a token; prints after how many seconds each is of no use any more.
STAY = """
import sys, time
sys.path.insert(0, "/opt")
from hub_client import Hub, HubError

user, password = sys.argv[1:]
page, script = Hub("http://127.0.0.1:980", user), Hub("http://127.0.0.1:980", user)
page.login(password)
page.start()
token = page.api(f"/hub/api/users/{user}/tokens", "POST", {})["token"]
header = {"Authorization": f"token {token}"}
ways = {
    "page": lambda: "/hub/home" in page.request("/hub/home")[1],
    "token": lambda: script.request("/hub/api/user", headers=header)[0] == 200,
    "server": lambda: page.request(f"/user/{user}/api/status")[0] == 200,
}
assert all(way() for way in ways.values())
print("in", flush=True)
begin = time.monotonic()
while ways and time.monotonic() - begin < 110:
    time.sleep(1)
    for name, way in list(ways.items()):
        if not way():
            print(name, round(time.monotonic() - begin), flush=True)
            del ways[name]
"""


@pytest.fixture(scope="module")
def client(hub: Host, at: Callable[[Host], Client]) -> Client:
    """Act at the hub as a user: `client("ann", "start")` returns what the client printed, be it good or bad."""
    # Nobody has been here.
    hub.check_output("systemctl stop sssd; rm -f /var/lib/sss/db/*; systemctl reset-failed sssd; systemctl start sssd")
    return at(hub)


@pytest.fixture
def directory(hub: Host, server: Host) -> Iterator[Callable[[str], None]]:
    """Return how to do something to the servers of the directory; they are well again afterwards."""

    def does(what: str) -> None:
        commands = {"stop": f"systemctl stop {UNITS}", "freeze": f"systemctl kill --signal=SIGSTOP {UNITS}"}
        server.check_output(commands[what])
        hub.check_output("sss_cache -E")

    yield does
    server.check_output(f"systemctl kill --signal=SIGCONT {UNITS}; systemctl start {UNITS}")
    # By itself it asks the directory again after some seconds, and until then takes whom it does not know for nobody.
    hub.check_output("systemctl restart sssd")
    end = time.monotonic() + 30
    while hub.run("sss_cache -E; getent passwd student30").rc != 0:
        assert time.monotonic() < end, "the directory is back, and the host has not noticed"
        time.sleep(0.5)


def member(server: Host, action: str, name: str) -> None:
    """Put somebody into the group of those who may log in, or out of it."""
    change = (
        f"dn: cn=hub users,ou=groups,{MADE['SUFFIX']}\nchangetype: modify\n{action}: memberUid\nmemberUid: {name}\n"
    )
    admin = f"-x -D cn=admin,{MADE['SUFFIX']} -w admin"
    server.check_output(f"printf %s {shlex.quote(change)} | ldapmodify {admin} -H ldap://localhost")
    # The hub may be asking the other server, since the first one was away.
    group = f"-b 'cn=hub users,ou=groups,{MADE['SUFFIX']}' -s base '(memberUid={name})' dn"
    end = time.monotonic() + 30
    while bool(server.check_output(f"ldapsearch {admin} -LLL -H ldap://localhost:1389 {group}")) != (action == "add"):
        assert time.monotonic() < end, "the second server of the directory does not follow the first one"
        time.sleep(0.2)


def test_directory_user_works_in_own_home_with_limits_of_group(host: Host, at: Callable[[Host], Client]) -> None:
    client = at(host)
    host.run("rm -rf /home/u10002 /home/u10101")
    for name, number, memory in (("bob", 10002, 2**30), ("student01", 10101, 700 * 2**20)):
        client(name, "start")
        try:
            assert f"{name}:700:{name}:{number}" in client(name, "shell", "stat -c %U:%a:$(id -un):$(id -u) ~")
            limit = host.check_output(f"systemctl show --value --property=MemoryMax jupyterhub-{number}.slice")
            assert int(limit) == memory
        finally:
            client(name, "stop")


def test_thirty_log_in_at_once(host: Host, at: Callable[[Host], Client]) -> None:
    at(host)
    host.check_output("sss_cache -E")
    assert float(host.check_output(f"/opt/campushub/hub/bin/python -c {shlex.quote(STORM)}")) < 15


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


@pytest.mark.chaos
def test_directory_down_known_users_get_in_others_read_why_not(
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


@pytest.mark.chaos
def test_a_directory_that_hangs_holds_up_nobody_else(
    hub: Host, client: Client, directory: Callable[[str], None]
) -> None:
    assert "/hub/home" in client("student13", "login")
    directory("freeze")
    hub.check_output(f"nohup python3 -c {shlex.quote(CLICK)} >/run/clicks 2>&1 </dev/null & true")
    begin = started = time.monotonic()
    assert SILENT in client("student14", "login")
    assert time.monotonic() - started < 10
    for _ in range(3):
        started = time.monotonic()
        assert "/hub/home" in client("student13", "login"), "who was here before gets in"
        assert time.monotonic() - started < 10
        time.sleep(5)
    time.sleep(max(0.0, 13 - (time.monotonic() - begin)))
    # Whoever waits for the directory waits longer.
    assert float(hub.check_output("cat /run/clicks")) < 5


def test_user_removed_from_group_is_out_and_the_server_stops(hub: Host, server: Host, client: Client) -> None:
    assert "/hub/home" in client("student15", "login")
    words = shlex.join([STAY, "student15", PASSWORDS["student15"]])
    hub.check_output(f"nohup /opt/campushub/hub/bin/python -c {words} >/run/stay 2>&1 </dev/null & true")
    end = time.monotonic() + 30
    while (said := hub.check_output("cat /run/stay")) != "in":
        assert time.monotonic() < end, said
        time.sleep(0.5)
    member(server, "delete", "student15")
    try:
        end = time.monotonic() + 110
        while len(hub.check_output("cat /run/stay").splitlines()) < 4:
            assert time.monotonic() < end, hub.check_output("cat /run/stay")
            time.sleep(1)
        after = dict(line.split() for line in hub.check_output("cat /run/stay").splitlines()[1:])
        assert max(int(after["page"]), int(after["token"])) < 45
        assert "You may not use this service" in client("student15", "login")
        end = time.monotonic() + 60
        while hub.check_output("systemctl list-units --no-legend 'jupyterhub-user-student15*'"):
            assert time.monotonic() < end
            time.sleep(1)
    finally:
        member(server, "add", "student15")


def test_revoke_command_ends_a_user_and_all_servers_at_once(hub: Host, server: Host, client: Client) -> None:
    client("student17", "start")
    client("student17", "start", "second")
    units = "systemctl list-units --no-legend 'jupyterhub-user-student17*'"
    assert len(hub.check_output(units).splitlines()) == 2
    member(server, "delete", "student17")
    try:
        assert hub.check_output("campushub-revoke student17") == "student17: out"
        assert hub.check_output(units) == ""
        assert "You may not use this service" in client("student17", "login")
    finally:
        member(server, "add", "student17")


@pytest.mark.attack
def test_no_password_is_logged_and_guessing_addresses_are_banned(hub: Host, client: Client) -> None:
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
