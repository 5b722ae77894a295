"""The way in and out, as people see it."""

from __future__ import annotations

from http.client import HTTPConnection, HTTPResponse
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from tests.site.centre import HELP_URL, SITE_NAME, Host
from tests.site.conftest import BrowserSession

LANGUAGES = {
    "en-US": ("en", "Username", "Invalid username or password", "may not use this service"),
    "ru-RU": ("ru", "Имя пользователя", "Неверное имя пользователя или пароль", "нет доступа к этой службе"),
}


@pytest.mark.parametrize("locale", LANGUAGES)
def test_login_page_speaks_the_language_of_the_browser(browse: BrowserSession, locale: str) -> None:
    language, label, *_ = LANGUAGES[locale]
    visitor = browse(locale=locale)
    visitor.see_login()
    page = visitor.page
    expect(page).to_have_title(SITE_NAME)
    expect(page.locator("form")).to_contain_text(SITE_NAME)
    expect(page.get_by_label(label, exact=True)).to_be_focused()
    expect(page.locator("html")).to_have_attribute("lang", language)
    expect(page.locator("#help")).to_have_attribute("href", HELP_URL)
    visitor.picture(f"login-{language}")


def test_login_page_fits_a_phone(browse: BrowserSession) -> None:
    visitor = browse(phone=True)
    visitor.see_login()
    width = visitor.page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert width[0] <= width[1], "one has to scroll sideways"
    expect(visitor.page.locator("#login_submit")).to_be_in_viewport(ratio=1)
    visitor.picture("login-phone")


@pytest.mark.parametrize("locale", LANGUAGES)
def test_wrong_password_is_said_in_the_language_of_the_browser(browse: BrowserSession, locale: str) -> None:
    visitor = browse(locale=locale)
    visitor.see_login()
    visitor.log_in("not-her-password")
    expect(visitor.page.locator(".login_error")).to_have_text(LANGUAGES[locale][2])
    expect(visitor.page.locator("#username_input")).to_have_value("alice")
    assert urlsplit(visitor.page.url).path == "/hub/login"
    # The same form takes the right one.
    visitor.page.locator("#password_input").fill("")
    visitor.log_in()
    visitor.page.wait_for_url("**/user/alice/**")


@pytest.mark.parametrize("locale", LANGUAGES)
def test_who_is_not_in_the_access_group_is_told_so(browse: BrowserSession, locale: str) -> None:
    dave = browse("dave", locale=locale)
    dave.see_login()
    with dave.page.expect_navigation() as navigation:
        dave.log_in()
    answer = navigation.value
    assert answer
    assert answer.status == 403
    expect(dave.page.locator(".login_error")).to_contain_text(LANGUAGES[locale][3])
    dave.picture(f"refused-{LANGUAGES[locale][0]}")
    # Nor is he in by another door.
    dave.page.goto("/hub/home")
    assert urlsplit(dave.page.url).path == "/hub/login"


def test_logout_ends_the_session_with_the_server_too(browse: BrowserSession) -> None:
    alice = browse()
    alice.start_lab()
    assert [cookie["name"] for cookie in alice.context.cookies() if not cookie["secure"]] == []
    session = [c for c in alice.context.cookies() if "session" in c["name"] or "jupyterhub-user" in c["name"]]
    assert session
    assert [cookie["name"] for cookie in session if not cookie["httpOnly"]] == []

    alice.page.goto("/hub/no-such-page")
    expect(alice.page.locator("h1")).to_have_text("There is no such page")
    alice.picture("error")
    alice.page.get_by_role("button", name="Back to the start page").click()
    expect(alice.page.locator("#help")).to_have_attribute("href", HELP_URL)
    alice.page.locator("#logout").click()
    alice.page.wait_for_url("**/hub/log*")
    alice.page.goto(alice.lab_path)
    assert urlsplit(alice.page.url).path == "/hub/login"
    expect(alice.page.locator("#password_input")).to_be_visible()


def ask(host: Host, path: str) -> HTTPResponse:
    """Ask the host's HTTP port; follow nothing."""
    connection = HTTPConnection("localhost", host.port(80), timeout=10)
    connection.request("GET", path, headers={"Host": host.web_name})
    return connection.getresponse()


def test_http_leads_to_https_without_hsts_for_self_signed(browse: BrowserSession, host: Host) -> None:
    answer = ask(host, "/hub/login?next=x")
    assert (answer.status, answer.getheader("Location")) == (301, f"{host.url}/hub/login?next=x")
    page = browse().page.goto(f"http://{host.web_name}/hub/login")
    assert page
    assert page.url == f"{host.url}/hub/login"
    # A browser that had seen it would refuse the site for a year once the certificate is exchanged.
    assert "strict-transport-security" not in page.headers
    assert page.headers["x-content-type-options"] == "nosniff"
