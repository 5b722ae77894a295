"""What breaks on the host must not break people's work."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import Route, expect

from tests.site.browser_user import LOOP, Person, keeps_printing, lines, outputs
from tests.site.centre import Host, wait_until
from tests.site.conftest import BrowserSession


def restart_hub(host: Host) -> None:
    """Restart the hub as an administrator does."""
    host.run("systemctl restart jupyterhub")


def kill_hub(host: Host) -> None:
    """Let the hub vanish, and wait until there is another one."""
    replace(host, "jupyterhub")


def kill_proxy(host: Host) -> None:
    """Let the proxy vanish, and wait until there is another one."""
    replace(host, "jupyterhub-proxy")


def replace(host: Host, unit: str) -> None:
    """Kill the main process of a unit and wait until another one runs."""
    before = host.main_pid(unit)
    assert before
    host.run(f"kill -9 {before}")
    wait_until(lambda: host.main_pid(unit) not in (0, before), f"{unit} is back")
    wait_until(
        lambda: host.run(f"systemctl is-active {unit}", check=False).strip() == "active", f"{unit} is active", 90
    )


@pytest.mark.chaos
def test_running_cell_and_open_page_outlive_hub_and_proxy(browse: BrowserSession, host: Host) -> None:
    alice = browse()
    alice.start_lab()
    alice.open_notebook()
    alice.execute("home = 'still here'")
    cell = alice.execute(LOOP)
    keeps_printing(cell, after="its start")
    server = host.server_pid("alice")
    # While the proxy is away Lab may say that the server is, and ask whether to start it. It goes on meanwhile.
    dismiss = alice.page.locator(".jp-Dialog").get_by_role("button", name="Dismiss")
    alice.page.add_locator_handler(dismiss, lambda button: button.click())

    # The page that is open goes on by itself, and others can come in.
    for fault, may_be_lost in ((restart_hub, 0), (kill_hub, 0), (kill_proxy, 2)):
        fault(host)
        keeps_printing(cell, after=fault.__name__)
        shown = lines(cell)
        # The hub is not between page and server. What is on its way through the proxy when that is killed is gone.
        lost = set(range(1, shown[-1] + 1)) - set(shown)
        assert len(lost) <= may_be_lost, f"lines were lost after {fault.__name__}: {lost}"
        newcomer = browse("bob")
        newcomer.see_login()
        newcomer.log_in()
        newcomer.page.wait_for_url("**/user/bob/**")
        newcomer.leave()

    host.run("touch ~alice/end")
    expect(outputs(cell).last).to_contain_text("finished after")
    expect(outputs(alice.execute("print(home)"))).to_contain_text("still here")
    alice.wait_idle()
    alice.save()
    assert host.server_pid("alice") == server


@pytest.mark.chaos
def test_after_a_reboot_all_is_back(browse: BrowserSession, host: Host) -> None:
    alice = browse()
    alice.start_lab()
    alice.open_notebook()
    expect(outputs(alice.execute("open('kept.txt', 'w').write('kept'); print('written')"))).to_contain_text("written")
    alice.save()

    host.reboot()

    # She is still logged in: the hub's secret is the same one. Her server is not running, and is started by a click.
    wait_until(lambda: comes_up(alice, "/hub/home"), "the hub's page comes up")
    assert urlsplit(alice.page.url).path == "/hub/home"
    start_from_home(alice)
    alice.open_lab()
    alice.open_notebook()
    expect(outputs(alice.execute("print(open('kept.txt').read())"))).to_contain_text("kept")
    for service in ("campushub-prefork", "campushub-prefork-kernels"):
        host.run(f"pgrep -u alice -P {host.main_pid(service)}")
    # And one who was not logged in can log in.
    bob = browse("bob")
    bob.see_login()
    bob.log_in()
    bob.page.wait_for_url("**/user/bob/lab**")


def comes_up(person: Person, path: str) -> bool:
    """
    Open a page; return whether it came up.

    Right after a reboot the host may not listen yet, and the browser may use a connection whose end it was never told.
    A person presses Reload.
    """
    try:
        person.page.goto(path)
    except PlaywrightError:
        return False
    return True


def start_from_home(person: Person) -> None:
    """Start the server from the hub's page, which knows that none runs."""
    button = person.page.locator("#start")
    expect(button).to_contain_text("Start")

    def keep_picture(route: Route) -> None:
        person.picture("starting")
        route.continue_()

    # The page that waits for the server is there for a second or two.
    person.page.route("**/server/progress*", keep_picture)
    button.click()
    person.page.wait_for_url(f"**{person.lab_path}**")
