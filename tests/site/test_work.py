"""A day's work: notebook, plot, terminal, the other interface."""

from __future__ import annotations

import json
import re
import subprocess

from playwright.sync_api import expect

from tests.site.browser_user import outputs
from tests.site.centre import ROOT, write_inventory
from tests.site.conftest import BrowserSession, Centre

NOTEBOOK = "Oscillation.ipynb"
PLOT = """
import numpy as np
import matplotlib.pyplot as plt

x = np.linspace(0, 4 * np.pi, 400)
fig, ax = plt.subplots(figsize=(7, 3.2))
for k in range(1, 5):
    ax.plot(x, np.sin(x) * np.exp(-x / (4 * k)), label=f"k = {k}")
ax.set(xlabel="t", ylabel="amplitude", title="Damped oscillation")
ax.legend()
plt.show()
""".strip()


def test_cell_plots_and_the_notebook_opens_in_notebook_7(browse: BrowserSession) -> None:
    bob = browse("bob")
    bob.start_lab()
    bob.ask(f"api/contents/{NOTEBOOK}", "DELETE")
    bob.open_notebook()
    cell = bob.execute(PLOT)
    picture = outputs(cell).locator("img")
    expect(picture).to_have_attribute("src", re.compile("^data:image/png;base64,"))
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 300
    bob.wait_idle()
    bob.save(NOTEBOOK)
    expect(bob.page.locator(".jp-DirListing-item", has_text=NOTEBOOK)).to_be_visible()
    bob.picture("lab")

    bob.page.goto("/user/bob/tree")
    entry = bob.page.locator(".jp-DirListing-item", has=bob.page.get_by_text(NOTEBOOK, exact=True))
    expect(entry).to_be_visible()
    bob.picture("notebook7-tree")
    with bob.context.expect_page() as opened:
        entry.dblclick()
    page = opened.value
    expect(page.locator(".jp-OutputArea-output img")).to_be_visible()
    assert "/user/bob/notebooks/" in page.url


def test_terminal_runs_what_is_typed(browse: BrowserSession) -> None:
    bob = browse("bob")
    bob.start_lab()
    screen = bob.open_terminal()
    bob.page.keyboard.type('echo "$USER has $((6 * 7)) in $PWD"\n')
    expect(screen).to_contain_text("bob has 42 in /home/bob")
    # Python is that of the users' environment.
    bob.page.keyboard.type("python3 -c 'import jupyterlab, sys; print(sys.prefix)'\n")
    expect(screen).to_contain_text("/opt/campushub/user")


def announce(site: Centre, **values: str) -> None:
    """Run the playbook of `campushub announce`."""
    # A host may have another address since it was restarted.
    write_inventory(list(site.hosts.values()), site.inventory.parent)
    command = ["ansible-playbook", "--inventory", str(site.inventory), "playbooks/announce.yml"]
    command += ["--extra-vars", json.dumps(values)]
    done = subprocess.run(command, check=False, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout


def test_announcements_reach_who_is_at_work(browse: BrowserSession, site: Centre) -> None:
    bob = browse("bob")
    bob.start_lab()
    home = bob.context.new_page()
    home.goto("/hub/home")
    announce(site, announce_text="The storage is slow.")
    for page, box in ((bob.page, ".campushub-Announcement"), (home, "#campushub-announcement")):
        page.bring_to_front()
        expect(page.locator(box)).to_contain_text("The storage is slow.", timeout=30_000)
    announce(site, announce_clear="yes")
    for page, box in ((bob.page, ".campushub-Announcement"), (home, "#campushub-announcement")):
        page.bring_to_front()
        expect(page.locator(box)).to_be_hidden(timeout=30_000)
