"""What happens between the login form and an account, with a PAM, a directory and a host that do as they are told."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Awaitable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from tornado.web import HTTPError
from traitlets.config import Config
from traitlets.utils.importstring import import_item

from campushub_hub import accounts, configuration
from campushub_hub.auth import base, ldap, pam, throttle
from campushub_hub.auth.pam import CampusPAMAuthenticator

from .conftest import merged

ANN = accounts.Account("ann", 2001, frozenset({"ann", "jupyter-users"}))
DORA = accounts.Account("dora", 2002, frozenset({"dora"}))
LOW = accounts.Account("lowly", 999, frozenset({"jupyter-users"}))


class Door(CampusPAMAuthenticator):
    """The hub's door, its host and its directory."""

    def __init__(self, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
        config = Config()
        configuration.configure(config, merged(settings, CampusAuthenticator=changes))
        super().__init__(config=config)
        self.host = {"ann": ANN, "dora": DORA, "lowly": LOW}
        self.password = "right"
        self.pam_seconds = self.host_seconds = 0.0
        self.asked: list[str] = []
        self.down = ""
        monkeypatch.setattr(pam, "ask", self.pam)
        monkeypatch.setattr(accounts, "find", self.find)
        self.password_timeout = 0.3
        monkeypatch.setattr(accounts, "LOOK_UP_SECONDS", 0.3)
        monkeypatch.setattr(self.directory, "outage", self.outage)

    def pam(self, name: str, password: str, *_: str) -> tuple[int, bool]:
        self.asked.append(name)
        time.sleep(self.pam_seconds)
        return (0, True) if password == self.password else (7, False)

    def find(self, name: str) -> accounts.Account | None:
        time.sleep(self.host_seconds)
        return self.host.get(name)

    async def outage(self) -> str:
        return self.down

    async def enter(self, name: str, password: str = "right", address: str = "192.0.2.1", **headers: str) -> Any:  # noqa: S107
        """Log in; return the account, None for a wrong password, or the status and reason of the page."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        handler = SimpleNamespace(request=SimpleNamespace(remote_ip=address, headers=named))
        try:
            found = await self.get_authenticated_user(handler, {"username": name, "password": password})
        except HTTPError as error:
            return error.status_code, error.log_message
        return found and found["name"]


@pytest.fixture
def door(rendered: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Door:
    monkeypatch.setattr(throttle.LoginThrottle, "delay", lambda *_: 0.0)
    return Door(rendered["systemd"]["settings"], monkeypatch, login_domains=["example.org"])


def run(what: Awaitable[Any]) -> Any:
    async def wait() -> Any:
        return await what

    return asyncio.run(wait())


@pytest.mark.parametrize("typed", ["ann", " Ann ", "ANN", "ann@example.org", "Ann@Example.ORG"])
def test_a_name_is_normalised(door: Door, typed: str) -> None:
    assert run(door.enter(typed)) == "ann"


IMPOSSIBLE = [
    "..",
    ".",
    "a/b",
    "../etc/passwd",
    "two words",
    "иван",
    "аnn",
    "l" * 64,
    "l" * 33,
    "-rf",
    "1234",
    "ﬁn",
    "",
]
IMPOSSIBLE += [
    "ann@elsewhere.org",
    "ann@",
    "@example.org",
    "ann\nroot",
    "ann\0",
    "*)(uid=*",
    "root:",
    "ann;id",
    "$(id)",
]


@pytest.mark.parametrize("typed", IMPOSSIBLE)
def test_impossible_names_are_refused_without_a_check(door: Door, typed: str, caplog: pytest.LogCaptureFixture) -> None:
    assert run(door.enter(typed)) == (403, base.NO_NAME)
    assert door.asked == []
    assert len(typed) < 2 or typed not in caplog.text, "what somebody typed there may be their password"


def test_an_account_of_the_system_is_refused(door: Door) -> None:
    assert run(door.enter("lowly")) == (403, base.NOT_ALLOWED)
    door.allow_all = True
    assert run(door.enter("lowly")) == (403, base.NOT_ALLOWED)


def test_not_allowed_is_told_only_with_the_right_password(door: Door) -> None:
    assert run(door.enter("dora")) == (403, base.NOT_ALLOWED)
    assert run(door.enter("dora", "wrong")) is None


def test_a_right_password_without_an_account_is_told_apart(door: Door) -> None:
    assert run(door.enter("nobody-here")) == (403, base.NO_ACCOUNT)


def test_the_second_of_two_with_one_uid_is_refused(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    door.host["ann"] = accounts.Account("ann", 2001, frozenset({"jupyter-users"}), twin="anna")
    for _ in range(9):
        assert run(door.enter("ann")) == (403, base.SAME_UID)
    assert "User ann is refused: UID 2001 is that of anna" in caplog.text


def test_two_accounts_with_one_uid_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """As sssd answers for them: each by its name, and always the first by the number."""
    import pwd

    entries = {name: pwd.struct_passwd((name, "x", uid, 100, "", "/", "")) for name, uid in TWINS.items()}
    monkeypatch.setattr(pwd, "getpwnam", entries.__getitem__)
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: next(entry for entry in entries.values() if entry.pw_uid == uid))
    found = [accounts.find(name) for name in TWINS]
    assert [one and one.twin for one in found] == ["", "twin1", "", ""]


TWINS = {"twin1": 20010, "twin2": 20010, "Ann": 20011, "other": 20012}


# What each return code of PAM, from PAM_OPEN_ERR to PAM_INCOMPLETE, is to the user.
ANSWERS: dict[int, Any] = dict.fromkeys(range(1, 32), (503, base.BROKEN))
ANSWERS |= {6: (403, base.NOT_ALLOWED), 7: None, 10: None, 11: (403, base.LOCKED), 12: (403, base.PASSWORD_EXPIRED)}
ANSWERS |= {13: (403, base.ACCOUNT_EXPIRED), 16: (403, base.PASSWORD_EXPIRED), 19: (403, base.MORE_NEEDED)}
ANSWERS |= {27: (403, base.PASSWORD_EXPIRED)}


@pytest.mark.parametrize(("code", "page"), ANSWERS.items())
def test_each_answer_of_pam_has_its_words(door: Door, monkeypatch: pytest.MonkeyPatch, code: int, page: Any) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(pam, "ask", lambda *_: (code, False))
        pages = [run(door.enter("dora")) for _ in range(9)]
    # Only a wrong password counts.
    assert pages == ([page] * 9 if page else [None] * 5 + [(429, base.TOO_MANY)] * 4)
    if page:
        assert run(door.enter("ann")) == "ann"


def test_a_refusal_after_the_right_password_is_none_of_it(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pam, "ask", lambda *_: (7, True))
    assert [run(door.enter("dora")) for _ in range(9)] == [(403, base.NOT_ALLOWED)] * 9


@pytest.mark.parametrize("code", [9, 22, 24])
def test_a_directory_that_pam_cannot_reach_is_told(door: Door, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setattr(pam, "ask", lambda *_: (code, False))
    monkeypatch.setattr(door.directory, "exists", lambda: True)
    assert run(door.enter("dora")) == (503, accounts.SILENT)


def test_an_outage_of_the_directory_is_told_and_limits_attempts(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    door.down = "ldaps://ldap.example.org: its certificate is refused: certificate has expired"
    for _ in range(20):
        assert run(door.enter("dora", "wrong")) == (503, accounts.SILENT)
    assert run(door.enter("dora", "wrong")) == (429, base.TOO_MANY), "what the host remembers is no prey"
    assert "certificate has expired" in caplog.text
    assert run(door.enter("ann")) == "ann", "who is known here gets in all the same"


@pytest.mark.parametrize("slow", ["pam_seconds", "host_seconds"])
def test_a_slow_directory_holds_up_nobody_else(door: Door, slow: str) -> None:
    setattr(door, slow, 1.0)

    async def crowd() -> tuple[float, list[Any]]:
        logins = asyncio.gather(*(door.enter("ann", address=f"192.0.2.{number}") for number in range(4)))
        worst = 0.0
        while not logins.done():
            before = time.monotonic()
            await asyncio.sleep(0.01)
            worst = max(worst, time.monotonic() - before)
        return worst, await logins

    worst, pages = run(crowd())
    # In the loop itself one check would take a second.
    assert worst < 0.8
    assert pages == [(503, accounts.SILENT)] * 4


def test_wrong_passwords_lock_a_user_at_one_address_only(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(5):
        assert run(door.enter("ann", "wrong-4711")) is None
    asked = len(door.asked)
    assert run(door.enter("ann")) == (429, base.TOO_MANY)
    assert len(door.asked) == asked
    assert run(door.enter("ann", address="192.0.2.99")) == "ann"
    assert caplog.text.count("Failed login of ann from 192.0.2.1") == 6
    assert "wrong-4711" not in caplog.text


def test_an_address_is_believed_of_the_front_door_alone(
    rendered: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(throttle.LoginThrottle, "delay", lambda *_: 0.0)
    monkeypatch.setenv("CAMPUSHUB_PROXY_SECRET", "word")
    door = Door(rendered["systemd"]["settings"], monkeypatch, trusted_proxy_secret=True)
    for forged in ({}, {"X_Campushub_Proxy_Secret": "wrong"}, {"X_Campushub_Proxy_Secret": "слово"}):
        run(door.enter("ann", "wrong", **forged))
    for _ in range(2):
        run(door.enter("ann", "wrong"))
    assert caplog.text.count("Failed login of ann from 127.0.0.1") == 5
    assert run(door.enter("ann")) == (429, base.TOO_MANY)
    # Nobody at the address that was named is kept out by that.
    assert run(door.enter("ann", X_Campushub_Proxy_Secret="word")) == "ann"


def test_asking_many_times_at_once_is_no_way_around(door: Door) -> None:
    door.pam_seconds = 0.05

    async def storm() -> list[Any]:
        return await asyncio.gather(*(door.enter("ann", "wrong") for _ in range(40)))

    assert run(storm()).count(None) == 5


def test_attempts_are_forgotten_in_time_and_after_a_success() -> None:
    now = [0.0]
    counted = throttle.LoginThrottle(3, clock=lambda: now[0])

    def attempts() -> list[bool]:
        allowed = []
        for _ in range(4):
            allowed.append(counted.allows("ann", "a"))
            if allowed[-1]:
                counted.begin("ann", "a")
        return allowed

    assert attempts() == [True, True, True, False]
    now[0] = 301.0
    assert counted.allows("ann", "a")
    counted.begin("ann", "a")
    counted.reset("ann", "a", success=True)
    assert attempts() == [True, True, True, False]
    assert [counted.delay("ann", "a"), counted.delay("bob", "a")] == [2.0, 0.5]


def test_an_address_that_tries_all_users_becomes_slow() -> None:
    counted = throttle.LoginThrottle(3)
    delays = []
    for number in range(400):
        assert counted.allows(f"user{number}", "a")
        counted.begin(f"user{number}", "a")
        counted.failed("a")
        delays.append(counted.delay(f"user{number}", "a"))
    assert [delays[count] for count in (0, 28, 29, 59, 89, 399)] == [0.5, 0.5, 1.0, 2.0, 3.0, 8.0]
    assert counted.allows("somebody", "a")
    assert counted.delay("somebody", "b") == 0.5


@pytest.mark.parametrize("at_once", [True, False])
def test_a_thousand_wrong_names_hold_up_nobody_else(door: Door, at_once: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of somebody behind the same address, as behind the NAT of a campus, who gets in within 5 s."""
    # A host that is busy with other tests is no directory that is down.
    monkeypatch.setattr(accounts, "LOOK_UP_SECONDS", 60.0)

    async def storm() -> float:
        guesses = [asyncio.ensure_future(door.enter(f"guess{number}", "wrong")) for number in range(1000)]
        if not at_once:
            await asyncio.gather(*guesses)
        # By now each has got to its check, or waits for it.
        await asyncio.sleep(0.1)
        begin = time.monotonic()
        assert await door.enter("ann") == "ann"
        took = time.monotonic() - begin
        assert set(await asyncio.gather(*guesses)) == {None}
        assert await door.enter("ann") == "ann"
        return took

    door.pam_seconds = 0.03
    assert run(storm()) < 2


def test_a_login_that_is_given_up_leaves_its_slot() -> None:
    async def whole() -> None:
        slots = throttle.AddressSlots(1)
        entered = []

        async def hold(name: str) -> None:
            async with slots.slot("a"):
                entered.append(name)
                await asyncio.sleep(0.05)

        first, second, third = (asyncio.ensure_future(hold(name)) for name in ("first", "second", "third"))
        await asyncio.sleep(0.01)
        third.cancel()
        await asyncio.gather(first, second, third, return_exceptions=True)
        await asyncio.wait_for(hold("fourth"), 1)
        assert entered == ["first", "second", "fourth"]

    run(whole())


def refreshed(door: Door, name: str = "ann") -> tuple[Any, list[str]]:
    """Ask whether somebody who is logged in still may be; return the answer, and which servers were stopped."""
    stopped: list[str] = []

    def spawner(server: str) -> SimpleNamespace:
        async def end(reason: str) -> None:
            assert reason == "revoked"
            stopped.append(server)

        return SimpleNamespace(ready=True, end=end)

    async def ask() -> Any:
        user = SimpleNamespace(name=name, spawners={server: spawner(server) for server in ("", "second")})
        answer = await door.refresh_user(user, SimpleNamespace())
        await asyncio.gather(*door.pending_revocations.values())
        return answer

    return run(ask()), stopped


def test_allowed_users_stay_and_are_administrators_by_group(door: Door) -> None:
    assert refreshed(door) == ({"name": "ann", "admin": False}, [])
    door.admin_groups = {"staff"}
    door.host["ann"] = accounts.Account("ann", 2001, frozenset({"staff"}))
    assert refreshed(door) == ({"name": "ann", "admin": True}, [])


def test_removal_from_the_group_ends_sessions_and_servers(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "REFRESH_SECONDS", 0.05)
    door.host["ann"] = accounts.Account("ann", 2001, frozenset({"ann"}))
    assert refreshed(door) == (False, ["", "second"])
    del door.host["ann"]
    assert refreshed(door) == (False, ["", "second"])


@pytest.mark.parametrize("fault", ["down", "slow"])
def test_a_directory_that_fails_puts_nobody_out(door: Door, fault: str) -> None:
    if fault == "down":
        door.down = "Connection refused"
        door.host = {}
    else:
        door.host_seconds = 1.0
    assert refreshed(door) == (True, [])


def test_an_outage_is_checked_once_for_many_logins(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text(f"#!/bin/sh\necho asked >>{tmp_path}/asked\necho 'ldaps://a: Connection refused'\nexit 1\n")
    status.chmod(0o755)

    async def crowd() -> list[str]:
        directory = accounts.Directory(status)
        return await asyncio.gather(*(directory.outage() for _ in range(20)))

    assert run(crowd()) == ["ldaps://a: Connection refused"] * 20
    assert (tmp_path / "asked").read_text() == "asked\n"
    assert run(accounts.Directory(tmp_path / "none").outage()) == ""


def test_that_all_is_well_is_believed_for_a_moment_only(tmp_path: Path) -> None:
    status = tmp_path / "status"

    def becomes(code: int) -> None:
        status.write_text(f"#!/bin/sh\necho ldaps://a: news\nexit {code}\n")
        status.chmod(0o755)

    async def day() -> list[str]:
        directory = accounts.Directory(status, good_for=2)
        heard = []
        for code, pause in ((0, 0.6), (1, 0.6), (0, 0)):
            becomes(code)
            heard.append(await directory.outage())
            await asyncio.sleep(pause)
        return heard

    assert run(day()) == ["", "ldaps://a: news", "ldaps://a: news"]


def test_a_directory_that_says_nothing_at_all_is_in_trouble(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("#!/bin/sh\nexec sleep 30\n")
    status.chmod(0o755)
    started = time.monotonic()
    assert run(accounts.Directory(status, seconds=0.3).outage()) == "no answer"
    assert time.monotonic() - started < 3


def test_an_account_of_this_host_is_found_with_its_groups() -> None:
    import grp
    import pwd

    me = pwd.getpwuid(os.getuid())
    found = accounts.find(me.pw_name)
    assert found is not None
    assert (found.name, found.uid) == (me.pw_name, me.pw_uid)
    assert grp.getgrgid(me.pw_gid).gr_name in found.groups
    assert accounts.find("nobody-has-this-name") is None


def test_ldap_verifies_certificates_and_asks_each_server(
    rendered: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import ssl

    config = Config()
    configuration.configure(config, rendered["ldap"]["settings"])
    assert import_item(config.JupyterHub.authenticator_class) is ldap.CampusLDAPAuthenticator
    door = ldap.CampusLDAPAuthenticator(config=config)
    asked = door.directory_login
    assert asked.tls_kwargs == {"validate": ssl.CERT_REQUIRED, "ca_certs_file": "/etc/ssl/certs/ca-certificates.crt"}
    assert asked.uris == ["ldaps://ldap1.example.org", "ldap://ldap2.example.org:1389"]
    assert asked.tls_strategy.name == "before_bind"
    assert asked.bind_dn_template == ["uid={username},ou=people,dc=example,dc=org"]
    asked.lookup_dn, asked.lookup_dn_search_user = True, "cn=reader"

    class Refusing:
        """A stand-in for a connection to a server that refuses."""

        result: ClassVar[dict[str, Any]] = {"result": 49, "description": "invalidCredentials", "message": ""}
        encrypts = True

        def __init__(self, *_: Any, **__: Any) -> None:
            pass

        def open(self, **_: Any) -> None:
            pass

        def start_tls(self, **_: Any) -> bool:
            return self.encrypts

        def bind(self, **_: Any) -> bool:
            assert self.encrypts, "the password would be sent without encryption"
            return False

        def unbind(self) -> None:
            pass

    with monkeypatch.context() as patch:
        patch.setattr("ldap3.Connection", Refusing)
        with pytest.raises(accounts.DirectoryTimeoutError, match="refuses cn=reader, as whom users are looked up"):
            run(door.check_password("ann", "right"))
        asked.lookup_dn = False
        assert run(door.check_password("ann", "right")) is False
        comment = "8009030C: LdapErr: DSID-0C0904DC, comment: AcceptSecurityContext error, data {}, v1db1"
        reasons = {
            "52e": "",
            "525": "",
            "532": base.PASSWORD_EXPIRED,
            "533": base.NOT_ALLOWED,
            "701": base.ACCOUNT_EXPIRED,
            "773": base.PASSWORD_EXPIRED,
            "775": base.LOCKED,
        }
        for code, reason in reasons.items():
            Refusing.result["message"] = comment.format(code)
            if reason:
                with pytest.raises(HTTPError, match=re.escape(reason)):
                    run(door.check_password("ann", "right"))
            else:
                assert run(door.check_password("ann", "wrong")) is False
        Refusing.result |= {"result": 52, "description": "unavailable", "message": ""}
        with pytest.raises(accounts.DirectoryTimeoutError, match=r"ldap2.*: unavailable"):
            run(door.check_password("ann", "right"))
        Refusing.encrypts = False
        asked.uris = ["ldap://ldap2.example.org"]
        with pytest.raises(accounts.DirectoryTimeoutError, match="refuses StartTLS"):
            run(door.check_password("ann", "right"))
    asked.lookup_dn = False
    # Nothing listens at either; the reason is told apart from a wrong password.
    asked.uris = ["ldap://127.0.0.1:1", "ldaps://127.0.0.1:2"]
    with pytest.raises(
        accounts.DirectoryTimeoutError, match=r"ldap://127\.0\.0\.1:1: .*refused.*; ldaps://127\.0\.0\.1:2"
    ):
        run(door.check_password("ann", "right"))
