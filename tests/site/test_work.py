"""A day's work: notebook, plot, terminal, the other interface."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.site.conftest import Visit
from tests.site.person import outputs

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


def test_cell_plots_and_the_notebook_opens_in_notebook_7(visit: Visit) -> None:
    alice = visit()
    alice.start_lab()
    alice.open_notebook()
    cell = alice.execute(PLOT)
    picture = outputs(cell).locator("img")
    expect(picture).to_have_attribute("src", re.compile("^data:image/png;base64,"))
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 300
    alice.wait_idle()
    alice.save()
    alice.picture("lab")
    name = alice.notebook_name()

    alice.page.goto("/user/alice/tree")
    entry = alice.page.locator(".jp-DirListing-item", has=alice.page.get_by_text(name, exact=True))
    expect(entry).to_be_visible()
    alice.picture("notebook7-tree")
    with alice.context.expect_page() as opened:
        entry.dblclick()
    page = opened.value
    expect(page.locator(".jp-OutputArea-output img")).to_be_visible()
    assert "/user/alice/notebooks/" in page.url


def test_terminal_runs_what_is_typed(visit: Visit) -> None:
    alice = visit()
    alice.start_lab()
    screen = alice.open_terminal()
    alice.page.keyboard.type('echo "$USER has $((6 * 7)) in $PWD"\n')
    expect(screen).to_contain_text("alice has 42 in /home/alice")
    # Python is that of the users' environment.
    alice.page.keyboard.type("python3 -c 'import jupyterlab, sys; print(sys.prefix)'\n")
    expect(screen).to_contain_text("/opt/campushub/user")
