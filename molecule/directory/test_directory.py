"""Logins with the accounts of a university's directory: who gets in, as whom, and what when the directory fails."""

from __future__ import annotations

import base64
import json
import re
import runpy
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

ApplyRole = Callable[..., subprocess.CompletedProcess[str]]
Client = Callable[..., str]

MADE = runpy.run_path(str(Path(__file__).with_name("server.py")))
DOMAIN = runpy.run_path(str(Path(__file__).with_name("domain.py")))
PASSWORDS = {name: password for name, _, password in MADE["PEOPLE"] + MADE["HOSTILE"]}
NUMBERS = {name.lower(): number for name, number, _ in MADE["PEOPLE"]}
UNITS = "slapd@main slapd@replica slapd@bis krb5-kdc"


def enter(host: Host, name: str, password: str, command: str = "id -un") -> tuple[bool, str]:
    """Have an ordinary user become another one with a password; return whether that went well, and what was printed."""
    done = host.run(
        f"printf '%s\\n' {shlex.quote(password)}"
        f" | setpriv --reuid 65534 --clear-groups su - {shlex.quote(name)} -c {shlex.quote(command)}"
    )
    return done.rc == 0, done.stdout.strip()


def forget(host: Host) -> None:
    """Have sssd ask again, as it would some seconds later."""
    host.check_output("sss_cache -E")


def forget_all(host: Host) -> None:
    """Have sssd forget what it knows, numbers among it, which it does not take to be changed."""
    host.check_output("systemctl stop sssd; rm -f /var/lib/sss/db/*; systemctl reset-failed sssd; systemctl start sssd")


def restored(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module", autouse=True)
def nobody_was_here(host: Host) -> None:
    """Who has logged in before is let in while the directory is down."""
    forget_all(host)


@pytest.fixture(scope="module")
def original(host: Host, apply_to: Callable[[str], ApplyRole]) -> Iterator[None]:
    """Bring the settings of the scenario back after the last test on a host that changes them."""
    yield
    restored(apply_to(host.check_output("hostname"))())


@pytest.fixture
def change(host: Host, apply_role: ApplyRole, original: None) -> ApplyRole:  # noqa: ARG001 (it comes afterwards)
    """Return how to change the settings, for tests that stand at the end, because they leave them changed."""
    # They restart sssd more often than the service manager finds healthy.
    host.check_output("systemctl reset-failed sssd")
    return apply_role


@pytest.fixture
def directory_down(host: Host, server: Host) -> Iterator[Callable[[], None]]:
    """Return how to take the directory down; it is back afterwards."""
    yield lambda: server.check_output(f"systemctl stop {UNITS}")
    server.check_output(f"systemctl start {UNITS}")
    end = time.monotonic() + 30
    while host.run("sss_cache -E; getent passwd student30").rc != 0:
        assert time.monotonic() < end, "the directory is back, and the host has not noticed"
        time.sleep(0.5)


def test_users_have_the_uid_of_the_directory_on_each_host(host: Host) -> None:
    listed = host.check_output(f"getent passwd {' '.join(NUMBERS)}").splitlines()
    assert {line.split(":")[0]: int(line.split(":")[2]) for line in listed} == NUMBERS


def test_groups_come_from_the_directory(host: Host) -> None:
    assert set(host.check_output("id -nGz bob | tr '\\0' ,").split(",")) == {"everybody", "hub users", "physics", ""}
    assert host.check_output("id -nG dora") == "everybody"


@pytest.mark.attack
def test_a_group_of_the_directory_gives_no_rights_on_the_host(host: Host) -> None:
    """Bob is in the directory's own groups sudo and docker."""
    assert enter(host, "bob", PASSWORDS["bob"])[0]
    assert "not allowed" in host.run("sudo -l -U bob").stdout
    assert host.run("getent group docker").rc != 0
    assert "sss" not in host.run("grep ^sudoers /etc/nsswitch.conf").stdout


def test_a_password_may_have_every_character(host: Host) -> None:
    assert enter(host, "ann", PASSWORDS["ann"]) == (True, "ann")
    assert not enter(host, "ann", PASSWORDS["ann"][:-1])[0]


def test_a_name_is_the_same_however_it_is_typed(host: Host) -> None:
    assert enter(host, "emil", PASSWORDS["Emil"]) == (True, "emil")
    assert enter(host, "EMIL", PASSWORDS["Emil"], "id -un; whoami") == (True, "emil\nemil")


@pytest.mark.attack
def test_who_is_in_no_allowed_group_stays_out(host: Host) -> None:
    assert not enter(host, "dora", PASSWORDS["dora"])[0]


@pytest.mark.attack
@pytest.mark.parametrize("name", [name for name, _, _ in MADE["HOSTILE"]])
def test_a_hostile_name_leads_nowhere(host: Host, name: str) -> None:
    assert not enter(host, name, PASSWORDS[name])[0]


@pytest.mark.attack
def test_root_and_the_systems_numbers_are_not_the_directorys(host: Host) -> None:
    assert host.check_output("getent passwd root").startswith("root:x:0:0:")
    assert host.run("getent passwd lowly").rc != 0
    assert host.run("getent passwd 999").stdout.partition(":")[0] != "lowly"


@pytest.mark.attack
@pytest.mark.parametrize("name", ["*", "*)(uid=*", "a*", "ann)(|(uid=*", "\\2a"])
def test_a_name_cannot_change_the_question_to_the_directory(host: Host, name: str) -> None:
    found = host.run(f"getent passwd {shlex.quote(name)}").stdout
    assert found == "" or found.startswith(f"{name}:"), found
    assert not enter(host, name, PASSWORDS["ann"])[0]


@pytest.mark.attack
def test_a_home_is_made_at_the_first_login_and_closed_to_others(host: Host) -> None:
    host.run("rm -rf /home/u10003")
    assert enter(host, "carl", PASSWORDS["carl"], "pwd; stat -c '%a %U' .") == (True, "/home/u10003\n700 carl")
    host.check_output("sudo -u carl sh -c 'echo secret >~/notes; chmod 644 ~/notes'")
    assert host.run("sudo -u bob cat /home/u10003/notes").rc != 0


def test_local_accounts_stand_beside_those_of_the_directory(host: Host) -> None:
    assert host.check_output("id -u local") == "2001"


@pytest.mark.attack
def test_the_secret_is_in_one_file_that_root_alone_can_read(host: Host) -> None:
    # In letters of its own, for sudo writes the commands of these tests into the journal.
    pattern = base64.b64encode(MADE["SECRET"].encode()).decode()
    host.check_output(f"echo {pattern} | base64 -d >/run/pattern")
    places = host.check_output("grep -rlFf /run/pattern /etc /var/log /usr/local || true").split()
    assert places == ["/etc/sssd/conf.d/campushub-secret.conf"]
    for path in (places[0], "/etc/sssd/sssd.conf"):
        file = host.file(path)
        assert (oct(file.mode), file.user, file.group) == ("0o600", "root", "root")
    assert host.run("{ journalctl --no-pager; ps -ef; } | grep -aFf /run/pattern").stdout == ""


@pytest.mark.chaos
def test_another_server_answers_when_the_first_is_down(host: Host, server: Host) -> None:
    if "directory-server:1389" not in host.file("/etc/sssd/sssd.conf").content_string:
        pytest.skip("this host asks one server")
    server.check_output("systemctl stop slapd@main")
    try:
        forget(host)
        started = time.monotonic()
        assert enter(host, "student29", PASSWORDS["student29"])[0], (
            "who never logged in here needs a server that answers"
        )
        assert time.monotonic() - started < 10
    finally:
        server.check_output("systemctl start slapd@main")


@pytest.mark.chaos
def test_sssd_that_is_killed_comes_back(host: Host) -> None:
    before = host.check_output("systemctl show --value --property=MainPID sssd")
    host.check_output(f"kill -KILL {before}")
    end = time.monotonic() + 30
    while host.check_output("systemctl show --value --property=MainPID sssd") in {"0", before}:
        assert time.monotonic() < end
        time.sleep(0.5)
    while not enter(host, "student01", PASSWORDS["student01"])[0]:
        assert time.monotonic() < end
        time.sleep(0.5)


@pytest.mark.chaos
def test_directory_down_known_users_get_in_others_told_in_time(host: Host, directory_down: Callable[[], None]) -> None:
    assert enter(host, "student01", PASSWORDS["student01"])[0]
    directory_down()
    forget(host)
    for name, password, wanted in (
        ("student01", PASSWORDS["student01"], True),
        ("student01", "wrong", False),
        ("student02", PASSWORDS["student02"], False),
    ):
        started = time.monotonic()
        assert enter(host, name, password)[0] is wanted
        assert time.monotonic() - started < 10
    status = host.run("/usr/local/lib/campushub/directory_status.py")
    assert status.rc == 1
    assert "Connection refused" in status.stdout


@pytest.mark.chaos
def test_with_the_directory_back_everybody_gets_in_at_once(
    host: Host, server: Host, directory_down: Callable[[], None]
) -> None:
    directory_down()
    forget(host)
    assert not enter(host, "student03", PASSWORDS["student03"])[0]
    server.check_output(f"systemctl start {UNITS}")
    started = time.monotonic()
    while not enter(host, "student03", PASSWORDS["student03"])[0]:
        assert time.monotonic() - started < 20
        time.sleep(0.5)


@pytest.mark.attack
@pytest.mark.one_host
def test_the_secret_is_in_no_output(host: Host, change: ApplyRole, monkeypatch: pytest.MonkeyPatch) -> None:
    host.check_output("rm /etc/sssd/conf.d/campushub-secret.conf")
    monkeypatch.setenv("ANSIBLE_VERBOSITY", "3")
    monkeypatch.setenv("ANSIBLE_DIFF_ALWAYS", "true")
    done = change(accounts_cache_seconds=11)
    assert done.returncode == 0
    assert "entry_cache_timeout = 11" in done.stdout, "what is no secret must be shown"
    for secret in (MADE["SECRET"], json.dumps(MADE["SECRET"])[1:-1], "reader's secret"):
        assert secret not in done.stdout + done.stderr


@pytest.mark.attack
@pytest.mark.one_host
def test_server_with_wrong_certificate_is_refused_with_reason(host: Host, change: ApplyRole) -> None:
    reasons = {
        3636: "certificate has expired",
        4636: "unable to get local issuer certificate",
        5636: "Hostname mismatch",
    }
    settings: dict[str, Any] = {"accounts_kerberos_realm": "", "accounts_kerberos_kdcs": []}
    done = change(accounts_ldap_uris=[f"ldaps://directory-server:{port}" for port in reasons], **settings)
    assert done.returncode != 0
    for port, reason in reasons.items():
        assert f"{port}: its certificate is refused: {reason}" in " ".join(done.stdout.split())
    forget(host)
    assert not enter(host, "student04", PASSWORDS["student04"])[0]
    assert "Could not start TLS encryption" in host.check_output("journalctl -u sssd --no-pager")


@pytest.mark.chaos
@pytest.mark.one_host
def test_a_group_that_nobody_knows_is_named(change: ApplyRole) -> None:
    done = change(accounts_allowed_groups=["hub users", "hub usres"])
    assert done.returncode != 0
    assert 'accounts_allowed_groups = "hub usres" is known neither to the directory' in " ".join(done.stdout.split())


#: The numbers of those of Active Directory on the host that was tested first.
MAPPED: set[str] = set()


def test_ad_by_computed_uids_posix_attributes_and_joined_hosts(host: Host, change: ApplyRole) -> None:
    settings: dict[str, Any] = {
        "accounts_directory": "ad",
        "accounts_ldap_uris": [f"ldaps://{DOMAIN['CONTROLLER']}"],
        "accounts_ldap_base_dn": DOMAIN["SUFFIX"],
        "accounts_ldap_bind_dn": f"reader@{DOMAIN['REALM'].lower()}",
        "accounts_ldap_bind_password": DOMAIN["SECRET"],
        "accounts_allowed_groups": ["Hub Users"],
        "accounts_kerberos_realm": "",
        "accounts_kerberos_kdcs": [],
        "accounts_kerberos_ticket_lifetime": "10h",
    }
    # The names of its controllers end like the domain's, or no ticket for one of them would be found.
    host.check_output(f"echo $(getent hosts directory-ad | cut -d ' ' -f 1) {DOMAIN['CONTROLLER']} >>/etc/hosts")
    passwords = {name.lower(): DOMAIN["password_of"](number) for name, number in DOMAIN["PEOPLE"]}
    try:
        # What was cached of the other directory, or of the other numbers, is no longer there.
        restored(change(**settings))
        assert enter(host, "ANNA", passwords["anna"], "id -un; id -nG") == (True, "anna\ndomain users hub users")
        assert not enter(host, "anna", "wrong")[0]
        assert not enter(host, "clara", passwords["clara"])[0], "she is in no allowed group"
        assert enter(host, "berta", passwords["berta"])[0]
        assert "not allowed" in host.run("sudo -l -U berta").stdout, "nor does the domain give rights on the host"
        numbers = "id -u anna; id -u berta; id -g berta; getent group teachers"
        mapped = set(host.check_output(numbers).split())
        MAPPED.update(() if MAPPED else mapped)
        assert mapped == MAPPED, "numbers are the same on every host"

        # With POSIX attributes, and with passwords checked by the domain's KDC.
        settings |= {"accounts_kerberos_realm": DOMAIN["REALM"], "accounts_kerberos_kdcs": [DOMAIN["CONTROLLER"]]}
        restored(change(**settings, accounts_ad_id_mapping=False))
        assert host.check_output("getent passwd anna").split(":")[2:4] == ["30001", "31000"]
        assert host.check_output("getent group 'hub users'").split(":")[2] == "31001"
        assert enter(host, "anna", passwords["anna"], "klist | grep -c krbtgt/AD") == (True, "1")
        assert not enter(host, "clara", passwords["clara"])[0]

        # Joined: it has a key of its own, and knows no other secret.
        host.check_output("apt-get install -qq --no-install-recommends adcli >/dev/null 2>&1")
        join = f"adcli join --domain={DOMAIN['REALM'].lower()} --domain-controller={DOMAIN['CONTROLLER']}"
        host.check_output(f"printf Administrator-1 | {join} --stdin-password")
        settings |= {"accounts_ad_domain": DOMAIN["REALM"].lower(), "accounts_ldap_bind_password": ""}
        restored(change(**settings | {"accounts_ldap_bind_dn": ""}))
        assert enter(host, "anna", passwords["anna"], "klist | grep -c krbtgt/AD") == (True, "1")
        assert "not allowed" in host.run("sudo -l -U berta").stdout
        assert not enter(host, "clara", passwords["clara"])[0]
        assert set(host.check_output(numbers).split()) == mapped
    finally:
        host.run("rm -f /etc/krb5.keytab; systemctl stop sssd; rm -f /var/lib/sss/db/*")


@pytest.mark.attack
def test_a_ticket_is_its_owners_alone_and_is_renewed(
    host: Host, change: ApplyRole, at: Callable[[Host], Client]
) -> None:
    realm = {"accounts_kerberos_realm": "CAMPUS.TEST", "accounts_kerberos_kdcs": ["directory-server"]}
    restored(change(accounts_kerberos_ticket_lifetime="60s", **realm))
    client = at(host)
    printed = enter(host, "ann", PASSWORDS["ann"], "echo $KRB5CCNAME; env -u KRB5CCNAME klist -s && echo found")[1]
    name, found = printed.splitlines()
    assert found == "found", "programs that were not told where the ticket is find it, too"
    host.run(f"sudo -u bob kdestroy -c {name}")
    attempts = [f"klist -s -c {name}"]
    path = name.removeprefix("FILE:")
    if path == name:
        assert name == f"KEYRING:persistent:{host.user('ann').uid}", "nobody else can make a keyring of this number"
    else:
        assert path == f"/run/krb5cc/{host.user('ann').uid}/krb5cc", "a service with a /tmp of its own sees it"
        assert host.check_output(f"stat -c '%a %U' {path} $(dirname {path})") == "600 ann\n700 ann"
        attempts += [f"cat {path}", f"rm -f {path}", f"mv {path} {path}.old", f"touch $(dirname {path})/first"]
        attempts += ["mkdir /run/krb5cc/4711"]
    for command in attempts:
        assert host.run("sudo -u bob sh -c %s", command).rc != 0, command

    def expires() -> str:
        return str(host.check_output(f"sudo -u ann klist -c {name} | sed -n 5p").split("  ")[1])

    # The same in the kernel and the terminal of a server, under either spawner.
    client("ann", "start")
    client("bob", "start")
    shown = client("ann", "shell", "echo $KRB5CCNAME; klist")
    assert shown.startswith(f"{name}\n"), "file systems look for it in whoever touches them"
    assert "krbtgt/CAMPUS.TEST" in shown
    assert client("ann", "run", "import os; print(os.environ['KRB5CCNAME'])").strip() == name
    assert "krbtgt" not in client("bob", "shell", f"cat {path}; klist -c {name}")
    watch = "import os, subprocess; os.chdir(os.path.expanduser('~')); "
    watch += "subprocess.Popen('while sleep 1; do klist | sed -n 5p >seen.new; mv seen.new seen; done',"
    watch += " shell=True, start_new_session=True); print(subprocess.getoutput('klist'))"
    assert "krbtgt/CAMPUS.TEST" in client("ann", "run", watch)

    first = expires()
    end = time.monotonic() + 90
    while expires() == first:
        assert time.monotonic() < end, "the ticket was not renewed"
        time.sleep(2)
    host.check_output(f"sudo -u ann klist -s -c {name}")
    time.sleep(2.5)
    assert host.check_output("cat /home/u10001/seen").split("  ")[1] == expires()
    client("ann", "stop")
    client("bob", "stop")


def test_who_leaves_the_directory_leaves_nothing_behind(host: Host, change: ApplyRole) -> None:
    assert enter(host, "ann", PASSWORDS["ann"])[0]
    done = change(accounts_directory="")
    restored(done)
    assert host.run("getent passwd ann").rc != 0
    assert host.check_output("id -u local") == "2001"
    assert not host.service("sssd").is_running
    for path in ("/etc/sssd/sssd.conf", "/etc/sssd/conf.d/campushub-secret.conf", "/etc/campushub/directory.json"):
        assert not host.file(path).exists
    assert host.run("grep -l campushub-mkhomedir /etc/pam.d/*; ls /var/lib/sss/db/*_campus*").stdout == ""
    found = re.search(r"changed=(\d+)", change(accounts_directory="").stdout)
    assert found
    assert found[1] == "0"
    assert host.file("/home/u10001").exists, "homes stay"
