"""Logins that the hub has checked elsewhere than by the host's PAM: by the directory itself, and by OpenID Connect."""

from __future__ import annotations

import base64
import json
import os
import runpy
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

MADE = runpy.run_path(str(Path(__file__).with_name("server.py")))
DOMAIN = runpy.run_path(str(Path(__file__).with_name("domain.py")))
CERTIFICATE = f"{os.environ.get('MOLECULE_EPHEMERAL_DIRECTORY')}/ca.pem"
DATABASE = "/var/lib/jupyterhub/jupyterhub.sqlite"
NO_NAME = "This is no user name that can be used here"

ApplyRole = Callable[..., subprocess.CompletedProcess[str]]
Client = Callable[..., str]
Door = Callable[..., Client]


@pytest.fixture(scope="module")
def door(hub: Host, at: Callable[[Host], Client], apply_to: Callable[[str], ApplyRole]) -> Iterator[Door]:
    """Give the hub another door: `door(jupyterhub_authenticator="oidc", …)` returns how to act there."""
    apply = apply_to("directory-debian12")
    has: dict[str, Any] = {}

    def changed(**settings: Any) -> Client:
        if settings != has:
            done = apply(role="jupyterhub", **settings)
            assert done.returncode == 0, done.stdout + done.stderr
            has.clear()
            has.update(settings)
        return at(hub)

    yield changed
    changed()


def restart_with(hub: Host, file: str, *changes: tuple[str, str]) -> None:
    """Have the hub read something else than the role has written."""
    words = " ".join(f"-e {shlex.quote(f's,{old},{new},')}" for old, new in changes)
    hub.check_output(f"sed -i {words} /etc/jupyterhub/{file}; systemctl restart jupyterhub")


def test_the_directory_itself_checks_passwords(hub: Host, door: Door) -> None:
    settings: dict[str, Any] = {
        "jupyterhub_authenticator": "ldap",
        "jupyterhub_ldap_uris": ["ldap://directory-server:1389", "ldaps://directory-server"],
        "jupyterhub_ldap_ca_certificate": CERTIFICATE,
        "jupyterhub_ldap_user_base_dn": f"ou=people,{MADE['SUFFIX']}",
    }
    look_up = {
        "jupyterhub_ldap_lookup_dn": f"cn=reader,{MADE['SUFFIX']}",
        "jupyterhub_ldap_lookup_password": MADE["SECRET"],
        "jupyterhub_ldap_filter": "(&({userattr}={username})(|(uidNumber=10001)(uidNumber=10004)))",
    }
    client = door(**settings, **look_up)
    assert "/hub/home" in client("ann", "login")
    assert "Invalid username or password" in client("ann", "login", password="wrong")
    assert "You may not use this service" in client("dora", "login")
    assert "Invalid username or password" in client("carl", "login"), "the filter does not find him"
    for name in ("*", "a*", "*)(uid=*", "ann)(|(uid=*"):
        assert NO_NAME in client(name, "login", password="any")
    assert hub.run("grep -F reader /etc/jupyterhub/settings.json").rc == 0
    assert hub.run('grep -F "reader\'s" /etc/jupyterhub/settings.json').rc == 1
    assert hub.check_output("stat -c %a /etc/jupyterhub/ldap_password") == "600"

    template = f"uid={{username}},ou=people,{MADE['SUFFIX']}"
    client = door(**settings, jupyterhub_ldap_bind_templates=[template])
    assert "/hub/home" in client("carl", "login")
    assert "Invalid username or password" in client("carl", "login", password="wrong")
    assert hub.run("ls /etc/jupyterhub/ldap_password").rc != 0, "nobody needs it any more"

    # Servers whose certificates are another host's, and by an authority that is not the site's.
    elsewhere = ("ldap://directory-server:1389", "ldap://directory-server:5389")
    foreign = ('"ldaps://directory-server"', '"ldaps://directory-server:4636"')
    restart_with(hub, "settings.json", elsewhere, foreign)
    assert "user directory does not answer" in client("carl", "login")
    journal = hub.check_output("journalctl -u jupyterhub --since=-30s --no-pager")
    assert "CERTIFICATE_VERIFY_FAILED" in journal
    assert "carl-secret" not in journal


# What an administrator of the domain does to an account, and what its user reads, whose password is right.
STATES = {
    "open": ("true", "True"),
    "disabled": (
        "samba-tool user disable {name}",
        "You may not use this service. Please ask its administrator for access.",
    ),
    "over": ("samba-tool user setexpiry {name} --days=0", "Your account has expired."),
    "fresh": (
        "samba-tool user setpassword {name} --newpassword=Secret-4711 --must-change-at-next-login",
        "Your password is right, but it has expired.",
    ),
}
ASK = """
import asyncio, sys
from tornado.web import HTTPError
from campushub_hub.auth.ldap import CampusLDAPAuthenticator
realm, *names = sys.argv[1:]
door = CampusLDAPAuthenticator(
    uris=["ldaps://directory-ad"], allow_insecure=True, bind_templates=["{username}@" + realm]
)
for name in names:
    for password in ("Secret-4711", "wrong"):
        try:
            print(asyncio.run(door.check_password(name, password)))
        except HTTPError as error:
            print(error.log_message)
"""


@pytest.mark.usefixtures("door")
def test_a_domain_says_why_a_right_password_is_refused(hub: Host, named: Callable[[str], Host]) -> None:
    """And says nothing to who does not know the password."""
    domain = named("directory-ad")
    for name, (change, _) in STATES.items():
        domain.check_output(f"samba-tool user create {name} Secret-4711 && {change.format(name=name)}")
    words = shlex.join(["/opt/campushub/hub/bin/python", "-c", ASK, DOMAIN["REALM"].lower(), *STATES])
    done = hub.run(words)
    assert done.rc == 0, done.stderr
    answers = done.stdout.splitlines()
    assert answers[1::2] == ["False"] * len(STATES)
    for (name, (_, told)), answer in zip(STATES.items(), answers[::2], strict=True):
        assert answer.startswith(told), f"{name}: {answer}"


OIDC = {
    "jupyterhub_authenticator": "oidc",
    "jupyterhub_oidc_issuer": "https://directory-server:9443",
    "jupyterhub_oidc_client_id": "hub",
    "jupyterhub_oidc_client_secret": "s3cret-of-the-hub",
    "jupyterhub_oidc_name_claim": "email",
    "jupyterhub_oidc_groups_claim": "groups",
    "jupyterhub_login_domains": ["campus.test"],
    "jupyterhub_allowed_groups": ["guests"],
}


# Somebody with a page of the hub, who looks at it until they may not any more.
LOOK = """
import sys, time
sys.path.insert(0, "/opt")
from hub_client import Hub

hub = Hub("http://127.0.0.1:980", "bob")
hub.login_at_provider("bob")
print("in", flush=True)
while "/hub/home" in hub.request("/hub/home")[1]:
    time.sleep(2)
print("out", flush=True)
"""


def says(server: Host, **people: Any) -> None:
    """Have the provider say something else of people."""
    text = json.dumps({**MADE["AT_PROVIDER"], **people})
    # At once, for the provider reads it whenever it is asked.
    new, old = "/srv/provider/people.json.new", "/srv/provider/people.json"
    server.check_output(f"cat >{new} <<'END' && chmod --reference={old} {new} && mv {new} {old}\n{text}\nEND")


def enter(client: Client, account: str, action: str = "login", *arguments: str, name: str = "") -> str:
    """Do something at the hub after a login at the provider."""
    return client(name or account, action, *arguments, password=f"provider:{account}")


def test_login_at_a_provider_is_an_account_of_the_directory(
    hub: Host, server: Host, door: Door, tmp_path: Path
) -> None:
    soon = tmp_path / "soon.py"
    soon.write_text("c.CampusOIDCAuthenticator.refresh_interval = 5\nc.CampusSpawner.token_interval = 1\n")
    layout = "oauth2:{token}:{userinfo}"
    # The next test makes the account, and this one may be run again after it.
    hub.run("userdel --force --remove newcomer")
    client = door(**OIDC, jupyterhub_config_files=[str(soon)], jupyterhub_oidc_token_format=layout)
    hub.check_output(f"nohup /opt/campushub/hub/bin/python -c {shlex.quote(LOOK)} >/run/look 2>&1 </dev/null & true")
    began = time.monotonic()
    assert "/hub/home" in enter(client, "ann")
    assert '"name": "ann"' in enter(client, "ann", "get", "/hub/api/user")
    enter(client, "ann", "start")
    assert "10001" in enter(client, "ann", "shell", "id -u")
    # Her servers have her token, nobody else's do, and the terminal that looks on sees it renewed while it is good.
    path = "/run/jupyterhub-users/10001/oauth2_token"
    assert enter(client, "ann", "run", "import os; print(os.environ['OAUTH2_TOKEN'])").strip() == f"FILE:{path}"
    assert hub.check_output(f"stat -c '%U %a' {path}") == "ann 600"
    assert hub.run(f"sudo -u bob cat {path}").rc != 0
    wait = f'old=$(cat {path}); for i in $(seq 30); do [ "$(cat {path})" = "$old" ] || break; sleep 1; done'
    seen = enter(client, "ann", "shell", f'{wait}; echo "$old"; cat {path}').split()
    assert len(set(seen)) > 1, "each is good for five seconds"
    place = "https://directory-server:9443/me"
    for line in (seen[0], hub.check_output(f"cat {path}")):
        assert line.startswith("oauth2:")
        assert line.endswith(f":{place.removeprefix('https://')}")
    ask = f"curl -sS -H 'Authorization: Bearer '$(cut -d: -f2 {path}) {place}"
    assert '"email":"Ann@campus.test"' in hub.check_output(ask)
    enter(client, "ann", "stop")
    last = hub.check_output(f"cat {path}")
    for account in ("elsewhere", "unverified", "nameless", "dots", "slash", "letters", "long", "option"):
        assert NO_NAME in enter(client, account), account
    assert "You may not use this service" in enter(client, "dora")
    assert "You may not use this service" in enter(client, "root")
    assert "you have no account on this server" in enter(client, "new")
    assert hub.run("id newcomer").rc != 0
    assert hub.check_output(f"cat {path}") == last, "without a server nobody renews it"
    # What the provider has given is in the database, and cannot be read there.
    assert hub.run(f"grep -aq gAAAA {DATABASE}").rc == 0
    assert hub.run(f"grep -aqE 'access_token|Ann@campus' {DATABASE}").rc == 1
    secret = str(OIDC["jupyterhub_oidc_client_secret"])
    # In letters of its own, for sudo writes the commands of these tests into the journal.
    pattern = base64.b64encode(secret.encode()).decode()
    hub.check_output(f"echo {pattern} | base64 -d >/run/pattern")
    assert hub.check_output("grep -rlFf /run/pattern /etc /var/log || true") == "/etc/jupyterhub/oidc_secret"
    assert hub.check_output("stat -c %a /etc/jupyterhub/oidc_secret") == "600"
    assert secret not in hub.check_output("journalctl --no-pager -u jupyterhub; ps -ef")
    # What changes at the provider counts for those who are logged in, too, also when their first token has expired.
    time.sleep(max(0.0, 15 - (time.monotonic() - began)))
    assert hub.check_output("cat /run/look") == "in"
    says(server, **{name: {**MADE["AT_PROVIDER"][name], "groups": []} for name in ("ann", "bob")})
    try:
        assert "You may not use this service" in enter(client, "ann")
        end = time.monotonic() + 50
        while hub.check_output("cat /run/look") != "in\nout":
            assert time.monotonic() < end, hub.check_output(
                "cat /run/look; journalctl --no-pager --lines 60 --unit jupyterhub"
            )
            time.sleep(1)
    finally:
        says(server)


def test_accounts_are_created_and_provider_groups_give_rights(hub: Host, door: Door) -> None:
    client = door(**OIDC, jupyterhub_oidc_create_accounts=True)
    assert "/hub/home" in enter(client, "new", name="newcomer")
    number = int(hub.check_output("id -u newcomer"))
    assert 1000 <= number < 10000, "numbers of the directory are not given away"
    assert hub.check_output("stat -c %a:%U ~newcomer") == "700:newcomer"
    assert "!" in hub.check_output("getent shadow newcomer").split(":")[1], "nobody logs in there with a password"
    enter(client, "new", "start", name="newcomer")
    limit = hub.check_output(f"systemctl show --value --property=MemoryMax jupyterhub-{number}.slice")
    assert int(limit) == 2**30
    enter(client, "new", "stop", name="newcomer")
    assert '"admin": false' in enter(client, "new", "get", "/hub/api/user", name="newcomer")
    assert '"admin": true' in enter(client, "chief", "get", "/hub/api/user")
    assert "You may not use this service" in enter(client, "stranger")
    assert hub.run("id stranger").rc != 0, "who may not come in gets no account"
    # A group of the host has that name, and whoever is in it can do much.
    hub.check_output("groupadd --system docker")
    try:
        assert "you have no account on this server" in enter(client, "docker")
        assert hub.run("id docker").rc != 0
    finally:
        hub.check_output("groupdel docker")


@pytest.mark.chaos
def test_a_provider_that_fails_is_told_in_time(hub: Host, server: Host, door: Door) -> None:
    client = door(**OIDC, jupyterhub_oidc_create_accounts=True)
    restart_with(hub, "oidc_secret", ("^s3cret", "another-s3cret"))
    assert "has not confirmed who you are" in enter(client, "ann")
    restart_with(hub, "oidc_secret", ("^another-s3cret", "s3cret"))
    silent = "sign-in service of the university does not answer"
    for action, back in (("stop", "start"), ("kill --signal=SIGSTOP", "kill --signal=SIGCONT")):
        # The hub learns where the provider wants people when the first one comes.
        hub.check_output("systemctl restart jupyterhub")
        server.check_output(f"systemctl {action} provider")
        started = time.monotonic()
        try:
            assert silent in enter(client, "ann")
            assert time.monotonic() - started < 10
        finally:
            server.check_output(f"systemctl {back} provider")
    end = time.monotonic() + 10
    while "/hub/home" not in enter(client, "ann"):
        assert time.monotonic() < end
    # One with a certificate of nobody whom the host trusts.
    restart_with(hub, "settings.json", (":9443", ":4636"))
    assert silent in enter(client, "ann")
    assert "CERTIFICATE_VERIFY_FAILED" in hub.check_output("journalctl -u jupyterhub --since=-20s --no-pager")
