"""A hub whose logins go to an OpenID Connect provider, and a provider that says what it is told to."""

from __future__ import annotations

import asyncio
import base64
import json
import urllib.parse
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from jupyterhub.app import JupyterHub
from tornado.httpclient import AsyncHTTPClient, HTTPRequest, HTTPResponse
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application, RequestHandler

from campushub_hub import accounts, configuration
from campushub_hub.auth import base, oidc

from .conftest import merged

SECRET = "s3cret"


class Provider(RequestHandler):
    """All pages of a provider."""

    def initialize(self, claims: dict[str, Any], issuer: str) -> None:
        self.claims, self.issuer = claims, issuer

    def get(self, page: str) -> None:
        """Answer the browser and the hub."""
        if self.claims.get("down"):
            self.send_error(502)
        elif page.endswith("openid-configuration"):
            places = {f"{name}_endpoint": f"{self.issuer}/{name}" for name in ("authorization", "token", "userinfo")}
            self.write({"issuer": self.issuer, **places})
        elif page == "authorization":
            query = urllib.parse.urlencode({"code": "c0de", "state": self.get_argument("state")})
            self.redirect(f"{self.get_argument('redirect_uri')}?{query}")
        elif self.request.headers["Authorization"] != f"Bearer {self.claims.get('token', 't0ken')}":
            self.send_error(401)
        else:
            self.write(self.claims)

    def post(self, page: str) -> None:
        """Give the hub a token for its code."""
        if self.claims.get("down"):
            self.send_error(502)
            return
        assert page == "token"
        secret = base64.b64encode(f"hub:{self.claims.get('secret', SECRET)}".encode()).decode()
        if self.request.headers["Authorization"] != f"Basic {secret}":
            self.send_error(401)
        elif self.get_body_argument("grant_type") == "authorization_code":
            assert self.get_body_argument("code") == "c0de"
            life = {"expires_in": self.claims["life"]} if "life" in self.claims else {}
            self.write({"access_token": "t0ken", "refresh_token": "fresh", "token_type": "Bearer", **life})
        elif self.get_body_argument("refresh_token") == self.claims.get("refresh_token", "fresh"):
            self.write({"access_token": self.claims["token"], "token_type": "Bearer"})
        else:
            self.send_error(400)


async def browse(start: str, cookies: dict[str, str], **headers: str) -> HTTPResponse:
    """Follow a browser's way from page to page, with its cookies; other headers are those of the first request."""
    address = start
    for _ in range(8):
        header = "; ".join(f"{name}={value}" for name, value in cookies.items())
        request = HTTPRequest(address, follow_redirects=False, headers={"Cookie": header, **headers})
        headers = {}
        answer = await AsyncHTTPClient().fetch(request, raise_error=False)
        for line in answer.headers.get_list("Set-Cookie"):
            name, _, value = line.partition(";")[0].partition("=")
            cookies[name] = value
        if answer.code != 302:
            break
        address = urllib.parse.urljoin(address, answer.headers["Location"])
    return answer


def log_in(
    rendered: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    claims: dict[str, Any],
    host: dict[str, accounts.Account],
    *,
    page: str = "home",
    click: bool = False,
    then: Callable[[JupyterHub, Callable[..., Awaitable[HTTPResponse]]], Awaitable[None]] | None = None,
    **changes: Any,
) -> tuple[int, str, JupyterHub]:
    """
    Go to the hub, with or without a click, and on to the provider; return status and text of the page, and the hub.

    What comes `then` can look at the hub's own page with the same browser.
    """
    (tmp_path / "etc").mkdir()
    (tmp_path / "oidc_secret").write_text(f"# Managed by CampusHub\n{SECRET}\n")
    monkeypatch.setattr(configuration, "STATE_DIRECTORY", tmp_path)
    monkeypatch.setattr(configuration, "SITE_DIRECTORY", tmp_path / "etc")
    monkeypatch.setattr(accounts, "find", host.get)
    monkeypatch.setenv("JPY_COOKIE_SECRET", "c" * 64)
    monkeypatch.setenv("CONFIGPROXY_AUTH_TOKEN", "p" * 64)
    monkeypatch.setenv("CAMPUSHUB_ROUTES_TOKEN", "r" * 64)
    monkeypatch.setenv("JUPYTERHUB_CRYPT_KEY", "a" * 64)
    monkeypatch.chdir(tmp_path)

    async def way() -> tuple[int, str, JupyterHub]:
        sockets, port = bind_unused_port()
        issuer = f"http://127.0.0.1:{port}/realm"
        provider = HTTPServer(Application([(r"/realm/(.*)", Provider, {"claims": claims, "issuer": issuer})]))
        provider.add_socket(sockets)
        own = {"issuer": issuer, "client_secret_file": str(tmp_path / "oidc_secret"), **changes}
        settings = merged(rendered["oidc"]["settings"], CampusOIDCAuthenticator=own)
        monkeypatch.setattr(configuration, "read_settings", lambda: settings)
        app = JupyterHub(config_file=f"{configuration.LIBRARY}/jupyterhub_config.py")
        app.load_config_file(app.config_file)
        await app.initialize([])
        sockets, port = bind_unused_port()
        hub = HTTPServer(app.tornado_application)
        hub.add_socket(sockets)
        cookies: dict[str, str] = {}
        hub_url = f"http://127.0.0.1:{port}/hub"
        login = f"{hub_url}/oauth_login?next=%2Fhub%2F{page}"
        answer = await browse(login, cookies, **(CLICK if click else {}))
        if then:
            await then(app, lambda path="home", **headers: browse(f"{hub_url}/{path}", cookies, **headers))
        hub.stop()
        provider.stop()
        return answer.code, answer.body.decode(), app

    return asyncio.run(way())


# What a browser says of a click on a page of the hub.
CLICK = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-User": "?1"}
ANN = {"ann": accounts.Account("ann", 2001, frozenset({"ann"}))}
GROUPS = {"realm": {"groups": ["hub-users"]}}


def test_a_claim_names_the_account_and_tokens_are_encrypted(
    rendered: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = {"email": "Ann@Example.org", **GROUPS}
    code, page, app = log_in(rendered, tmp_path, monkeypatch, claims, ANN)
    assert code == 200, page
    user = app.users["ann"]
    assert asyncio.run(user.get_auth_state())["access_token"] == "t0ken"
    assert b"t0ken" not in (tmp_path / "jupyterhub.sqlite").read_bytes()

    async def refreshed() -> Any:
        return await app.authenticator.refresh_user(user)

    assert asyncio.run(refreshed()) is True
    assert asyncio.run(user.get_auth_state())["oauth_user"] == claims, "the provider's groups are known later"
    alone = {"ann": accounts.Account("ann", 999, frozenset())}
    monkeypatch.setattr(accounts, "find", alone.get)
    assert asyncio.run(refreshed()) is False


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"email": "ann@elsewhere.org", **GROUPS}, base.NO_NAME),
        ({"email": "root/../ann@example.org", **GROUPS}, base.NO_NAME),
        ({"email": "ann@example.org", "email_verified": False, **GROUPS}, base.NO_NAME),
        ({"email": "ann@example.org", "secret": "another", **GROUPS}, oidc.UNCONFIRMED),
        ({"preferred_username": "ann", **GROUPS}, base.NO_NAME),
        ({"email": ["ann@example.org"], **GROUPS}, base.NO_NAME),
        ({"email": "ann@example.org", "realm": {"groups": ["Others"]}}, base.NOT_ALLOWED),
        ({"email": "ann@example.org", "realm": {"groups": "hub-users"}}, base.NOT_ALLOWED),
        ({"email": "root@example.org", **GROUPS}, base.NOT_ALLOWED),
        ({"email": "bob@example.org", **GROUPS}, base.NO_ACCOUNT),
    ],
)
def test_who_cannot_come_in_is_told_why(
    rendered: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    claims: dict[str, Any],
    reason: str,
) -> None:
    host = {**ANN, "root": accounts.Account("root", 0, frozenset())}
    code, page, app = log_in(rendered, tmp_path, monkeypatch, claims, host)
    assert code == 403
    assert reason.replace("'", "&#39;") in page
    assert app.users.count_active_users()["active"] == 0


def test_an_account_is_made_if_that_is_wanted(
    rendered: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = dict(ANN)

    async def create(name: str) -> None:
        host[name] = accounts.Account(name, 3000, frozenset())

    monkeypatch.setattr(oidc, "create_account", create)
    claims = {"email": "bob@example.org", **GROUPS}
    code, page, _ = log_in(rendered, tmp_path, monkeypatch, claims, host, create_accounts=True)
    assert code == 200, page
    assert "bob" in host


# To a page of the hub, and to a server that asks with its token: nothing is new, or something is to be written down.
IN = (True, True)
ADMIN = ({"name": "ann", "admin": True},) * 2
OUT = (False, False)
# What the hub's handlers know of a request.
WITH_COOKIE, WITH_TOKEN = SimpleNamespace(), SimpleNamespace(_token_authenticated=True)


@pytest.mark.parametrize(
    ("now", "answers"),
    [
        ({"realm": {"groups": ["hub-users", "staff"]}}, ADMIN),
        ({"realm": {"groups": ["Others"]}}, OUT),
        # Somebody else, or nobody whom the hub could know.
        ({"email": "bob@example.org"}, OUT),
        ({"email": None}, OUT),
        # The first token has come to its end, and then the one that brings new ones, too.
        ({"token": "n3w"}, IN),
        ({"token": "n3w", "refresh_token": "n3w"}, (False, True)),
        ({"down": True}, IN),
    ],
)
def test_what_the_provider_says_later_counts(
    rendered: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    now: dict[str, Any],
    answers: tuple[Any, Any],
) -> None:
    claims = {"email": "ann@example.org", **GROUPS}
    monkeypatch.setattr(base, "REFRESH_SECONDS", 60)
    host = {**ANN, "bob": accounts.Account("bob", 2002, frozenset({"bob"}))}

    async def later(app: JupyterHub, home: Callable[[], Awaitable[HTTPResponse]]) -> None:
        door, user = app.authenticator, app.users["ann"]
        door.admin_groups, door.refresh_interval = {"staff"}, 0.0
        claims.update(now)
        assert await door.refresh_user(user), "nobody waits for the provider"
        await asyncio.gather(*door.refreshes.values())
        door.refresh_interval = 60.0
        for handler, answer in zip((WITH_COOKIE, WITH_TOKEN), answers, strict=True):
            assert await door.refresh_user(user, handler) == answer
        # The browser has its page, or is sent to log in, which is at the provider, who lets it in at once, or does not.
        door.auth_refresh_age = -1
        page = await home()
        assert ("/hub/home" in page.effective_url) == bool(answers[0])

    code, text, _ = log_in(rendered, tmp_path, monkeypatch, claims, host, then=later)
    assert code == 200, text


@pytest.mark.parametrize("click", [True, False])
def test_a_login_elsewhere_keeps_the_click_it_began_with(
    rendered: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, click: bool
) -> None:
    """A link that leads through the login starts no server."""
    claims = {"email": "ann@example.org", **GROUPS}
    code, text, _ = log_in(rendered, tmp_path, monkeypatch, claims, ANN, page="spawn", click=click)
    assert (code, "requestSubmit" in text) == (200, click), text


def test_a_link_of_another_site_logs_nobody_out(
    rendered: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def leave(_: JupyterHub, visit: Callable[..., Awaitable[HTTPResponse]]) -> None:
        assert b"Do you want to log out?" in (await visit("logout", **{"Sec-Fetch-Site": "cross-site"})).body
        await visit("logout")
        # Whom the provider lets in at once, or not.
        claims["down"] = True
        assert not (await visit()).effective_url.endswith("/hub/home")

    claims: dict[str, Any] = {"email": "ann@example.org", **GROUPS}
    assert log_in(rendered, tmp_path, monkeypatch, claims, ANN, then=leave)[0] == 200


def test_tokens_that_are_being_renewed_are_not_written_over(
    rendered: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = {"email": "ann@example.org", **GROUPS}

    async def later(app: JupyterHub, home: Callable[[], Awaitable[HTTPResponse]]) -> None:
        door, user = app.authenticator, app.users["ann"]
        groups = {"ann": accounts.Account("ann", 2001, frozenset({"ann", "staff"}))}
        monkeypatch.setattr(accounts, "find", groups.get)
        door.admin_groups = {"staff"}
        door.refresh_interval = 0.0
        discover, answers = door.discover, asyncio.Event()

        async def discover_in_time() -> None:
            await answers.wait()
            await discover()

        monkeypatch.setattr(door, "discover", discover_in_time)
        assert await door.refresh_user(user, WITH_COOKIE) is True, "the hub would write down what it reads now"
        door.refresh_interval = 60.0
        assert await door.refresh_user(user, WITH_COOKIE) is True
        answers.set()
        await asyncio.gather(*door.refreshes.values())
        async with door.locks["ann"]:
            assert await door.refresh_user(user, WITH_COOKIE) is True, "a server is getting one"
        assert await door.refresh_user(user, WITH_COOKIE) == {"name": "ann", "admin": True}
        door.auth_refresh_age = -1
        await home()
        assert user.admin
        assert (await user.get_auth_state())["refresh_token"] == "fresh"

    code, text, _ = log_in(rendered, tmp_path, monkeypatch, claims, ANN, then=later)
    assert code == 200, text


def test_a_server_gets_a_new_token_before_the_old_one_expires(
    rendered: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = {"email": "ann@example.org", "life": 4, **GROUPS}

    async def later(app: JupyterHub, _: Any) -> None:
        door, user = app.authenticator, app.users["ann"]
        place = door.userdata_url.removeprefix("http://")
        assert await door.token_of(user) == f"oauth2:t0ken:{place}"
        # What it was worth a moment ago it still is; the provider is not asked.
        claims["down"] = True
        assert await door.token_of(user) == f"oauth2:t0ken:{place}"
        await asyncio.sleep(2.1)
        assert await door.token_of(user) == f"oauth2:t0ken:{place}", "better an old one than none"
        del claims["down"]
        claims["token"] = "n3w"
        several = await asyncio.gather(*(door.token_of(user) for _ in range(3)))
        assert several == [f"oauth2:n3w:{place}"] * 3
        door.token_format = ""
        assert await door.token_of(user) == "", "none where a site wants none"

    changes: dict[str, Any] = {"token_format": "oauth2:{token}:{userinfo}"}
    code, text, _ = log_in(rendered, tmp_path, monkeypatch, claims, ANN, then=later, **changes)
    assert code == 200, text


def test_another_provider_or_one_without_tls_is_refused(rendered: dict[str, Any]) -> None:
    document = {f"{name}_endpoint": f"https://login/{name}" for name in ("authorization", "token", "userinfo")}
    assert oidc.endpoints({"issuer": "https://login/", **document}, "https://login", insecure=False)
    with pytest.raises(ValueError, match="it says that it is https://other"):
        oidc.endpoints({"issuer": "https://other", **document}, "https://login", insecure=False)
    document["token_endpoint"] = "http://login/token"
    with pytest.raises(ValueError, match="without TLS"):
        oidc.endpoints({"issuer": "https://login", **document}, "https://login", insecure=False)
    assert json.dumps(rendered["oidc"]["settings"]).find(SECRET) == -1, "the secret is in a file of its own"
