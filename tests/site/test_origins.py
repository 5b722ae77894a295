"""What a page on one user's server can do to another user who opens it."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.hub_client import Hub
from tests.site.centre import Host
from tests.site.conftest import BrowserSession

PAGE = Path(__file__).parent / "hostile.html"
# Jupyter shows files of a home without running their scripts, unless these are part of the program.
SETTINGS = 'c.ServerApp.extra_static_paths = ["/home/bob/public"]'


@pytest.fixture
def trap(host: Host) -> str:
    """The address of a page of bob's that reaches for what alice has, who is an administrator."""
    page = base64.b64encode(PAGE.read_bytes()).decode()
    for path, text in (("public/results.html", page), (".jupyter/jupyter_server_config.py", encoded(SETTINGS))):
        folder = Path("/home/bob", path).parent
        host.run(f"runuser -u bob -- mkdir -p {folder} && echo {text} | base64 -d >/home/bob/{path}")
    host.run("chown -R bob: /home/bob/public /home/bob/.jupyter")
    bob = host.hub_with_server("bob")
    bob.stop()
    bob.start()
    asked = {"hub": host.url, "server": host.origin("alice"), "visitor": "alice"}
    return f"{host.origin('bob')}/user/bob/static/results.html?{urlencode(asked)}"


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.attack
def test_a_hostile_page_gets_nothing_of_its_visitor(browse: BrowserSession, host: Host, trap: str) -> None:
    """With one name for all it gets nothing of the hub; what it still gets is in docs/design/security.md."""
    alice = browse()
    alice.start_lab()
    session = host.hub("alice")
    session.run("open('diary.txt', 'w').write('private')")
    before = tokens(session), terminals(session)
    try:
        alice.page.goto(trap)
        alice.page.locator("#show").click()
        alice.page.locator("[data-done]").wait_for()
        loot = json.loads(alice.page.locator("#loot").inner_text())
        if host.domain:
            assert loot == {}
            assert (tokens(session), terminals(session)) == before
        else:
            assert [name for name in loot if name.startswith("hub")] == []
            assert tokens(session) == before[0]
    finally:
        host.run("rm -rf /home/bob/public /home/bob/.jupyter/jupyter_server_config.py")


def tokens(hub: Hub) -> set[str]:
    """Return the tokens that somebody has asked for; those of servers and logins come and go."""
    listed = hub.api(f"/hub/api/users/{hub.user}/tokens")["api_tokens"]
    of_logins = {token["id"] for token in listed if token["oauth_client"] != "JupyterHub"}
    of_servers = {token["id"] for token in listed if token["note"].startswith("Server at ")}
    return {token["id"] for token in listed} - of_logins - of_servers


def terminals(hub: Hub) -> set[str]:
    """Return the terminals of the user's server."""
    return {terminal["name"] for terminal in hub.api(f"{hub.server_path()}api/terminals")}


def test_administrators_open_servers_with_names_of_their_own(host: Host) -> None:
    alice = host.hub("alice")
    assert ("access:servers" in alice.api("/hub/api/user")["scopes"]) == bool(host.domain)
    host.hub_with_server("bob")
    assert alice.request("/user/bob/lab")[0] == (200 if host.domain else 403)
