"""What people do in a centre with a cluster, and what its administrator does meanwhile."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from tests.cluster.conftest import Cluster
from tests.displays import COLOURS
from tests.site.browser_user import LOOP, Person, keeps_printing, lines, outputs
from tests.site.centre import Host, Session, wait_until
from tests.site.conftest import BrowserSession

USERS = ("alice", "bob", "carol")
WHERE = "import os, socket; print('on', socket.gethostname(), 'in', os.getcwd())"
# Seconds until a server of a node without power has ended, with the reason on its pages.
LOSS_SECONDS = 120


@pytest.fixture(autouse=True)
def sessions(cluster: Cluster) -> Iterator[Callable[[str], Session]]:
    """Return sessions of users without a browser; nobody has a server before a test and after it."""
    known: dict[str, Session] = {}

    def session(user: str) -> Session:
        if user not in known:
            known[user] = cluster.hub.hub(user)
        return known[user]

    yield session
    for user in USERS:
        for name in servers(session(user)):
            session(user).stop(name)
    wait_until(lambda: not cluster.jobs(), "all jobs have ended", 90)


def servers(session: Session) -> dict[str, Any]:
    """Return what the hub says of the servers of a user that run, start or stop."""
    found: dict[str, Any] = session.api(f"/hub/api/users/{session.user}")["servers"]
    return found


def ask_for(session: Session, name: str = "", **options: str) -> None:
    """Ask for a server as a program does, and wait for nothing."""
    end = f"servers/{name}" if name else "server"
    session.api(f"/hub/api/users/{session.user}/{end}", "POST", options)


def start(session: Session, name: str = "", **options: str) -> None:
    """Start a server as a program does, and wait until it is ready."""
    ask_for(session, name, **options)
    wait_until(lambda: servers(session).get(name, {}).get("ready"), f"a server of {session.user}", 90)


def arrive(person: Person) -> None:
    """Log in, and come to the page before a start."""
    person.see_login(after="/hub/spawn")
    person.log_in()
    expect(person.page.locator("#start-form")).to_be_visible()


def offer(person: Person, profile: str) -> Locator:
    """Return what the page says of a profile, with what can be chosen."""
    return person.page.locator(f"#choose .offer:has(input[value='{profile}'])")


def choose(person: Person, profile: str, **answers: str) -> None:
    """Choose on the page before a start, and press Start."""
    there = offer(person, profile)
    there.locator("input[type=radio]").check()
    if answers:
        there.locator("summary").click()
    for question, value in answers.items():
        there.locator(f"select[name='{profile}.{question}']").select_option(value)
    person.page.locator("#start").click()


def enter(person: Person) -> None:
    """Wait until the page leads to JupyterLab, and open it without what was open in it the last time."""
    person.page.wait_for_url(f"**{person.lab_path}**", timeout=90_000)
    person.open_lab()


def start_printing(person: Person) -> Locator:
    """Start a large server from the login on, and in it a cell that prints all the time; return the cell."""
    arrive(person)
    choose(person, "large")
    enter(person)
    person.open_notebook()
    cell = person.execute(LOOP)
    keeps_printing(cell, after="its start")
    return cell


def card(person: Person) -> Locator:
    """Open the home page, and return the card of the first server."""
    person.page.goto("/hub/home")
    return person.page.locator(".server[data-server-name='']")


# What users do


def test_a_cell_runs_on_the_node_that_the_page_says(browse: BrowserSession, cluster: Cluster) -> None:
    alice = browse("alice")
    arrive(alice)
    # The example offers one profile on the hub, and the others in the cluster, where all is free.
    expect(offer(alice, "small")).to_contain_text("on this machine")
    expect(offer(alice, "large")).to_contain_text("in the cluster")
    expect(offer(alice, "large")).to_contain_text("4 CPU free now")
    alice.picture("cluster-start-page")
    choose(alice, "large", cpu="1", memory="512M")
    enter(alice)

    here = card(alice)
    expect(here).to_contain_text("Large")
    node = here.locator(".place").inner_text()
    assert cluster.jobs("alice") == {node: ["RUNNING"]}
    alice.picture("cluster-home")
    alice.open_lab()
    alice.open_notebook()
    cell = alice.execute(WHERE)
    expect(outputs(cell)).to_contain_text(f"on {cluster.node(node).name} in /home/alice")
    alice.save("Where.ipynb")


@pytest.mark.chaos
def test_memory_over_the_limit_is_killed_there_with_the_reason(
    browse: BrowserSession, cluster: Cluster, sessions: Callable[[str], Session]
) -> None:
    start(sessions("bob"), profile="large", cpu="1")
    alice = browse("alice")
    arrive(alice)
    choose(alice, "large", cpu="1", memory="512M")
    enter(alice)
    alice.open_notebook()
    alice.execute("x = b'x' * (800 * 2**20)")
    dialog = alice.page.locator(".jp-Dialog")
    expect(dialog).to_contain_text("was ended because your memory was used up")
    alice.picture("cluster-memory")
    dialog.get_by_role("button", name="Ok").click()
    alice.wait_idle()
    # The same server has a new kernel, and nobody else has noticed.
    expect(outputs(alice.execute("print('new kernel')"))).to_contain_text("new kernel")
    assert list(cluster.jobs("alice").values()) == [["RUNNING"]]
    assert sessions("bob").run("print('fine')") == "fine\n"
    # Bob's may have as much.
    assert "800" in sessions("bob").run("x = b'x' * (800 * 2**20); print(len(x) >> 20)")
    alice.save("Memory.ipynb")


QUEUE = {
    "en-US": (
        "0 CPU free now",
        "Place 1 in the queue of main. It waits until 2 CPU and enough memory are free in partition main.",
        "Stop this server",
    ),
    "ru-RU": (
        "сейчас свободно ЦП: 0",
        "Место 1 в очереди main. Он ждёт, пока в разделе main освободится достаточно памяти и ЦП (2).",
        "Остановить этот сервер",
    ),
}


@pytest.mark.parametrize("locale", QUEUE)
def test_a_full_queue_says_the_place_and_is_left_by_a_click(
    browse: BrowserSession, cluster: Cluster, sessions: Callable[[str], Session], locale: str
) -> None:
    free, text, button = QUEUE[locale]
    # Each takes all CPUs of a node.
    start(sessions("alice"), profile="large")
    start(sessions("alice"), "second", profile="large")
    before = cluster.jobs()
    assert list(before.values()) == [["RUNNING"], ["RUNNING"]]

    bob = browse("bob", locale=locale, phone=True)
    arrive(bob)
    expect(offer(bob, "large")).to_contain_text(free)
    choose(bob, "large", cpu="2")
    message = bob.page.locator("#progress-message")
    expect(message).to_contain_text(text)
    bob.page.reload()
    expect(message).to_contain_text(text)
    width = bob.page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert width[0] <= width[1], "one has to scroll sideways"
    bob.picture(f"cluster-queue-{locale[:2]}")
    bob.page.get_by_role("button", name=button).click()
    bob.page.wait_for_url("**/hub/home")
    wait_until(lambda: not cluster.jobs("bob"), "the job has gone", 30)
    expect(card(bob)).to_have_attribute("data-state", "stopped")
    bob.picture(f"cluster-cancelled-{locale[:2]}")
    assert cluster.jobs() == before


def test_who_waits_is_let_in_as_soon_as_there_is_room(
    browse: BrowserSession, cluster: Cluster, sessions: Callable[[str], Session]
) -> None:
    start(sessions("alice"), profile="large")
    start(sessions("alice"), "second", profile="large")
    bob = browse("bob")
    arrive(bob)
    choose(bob, "large")
    expect(bob.page.locator("#progress-message")).to_contain_text("Place 1 in the queue of main.")
    (place,) = {place for place, states in cluster.jobs().items() if place} - {where(sessions("alice"), "second")}
    sessions("alice").stop()
    enter(bob)
    assert card(bob).locator(".place").inner_text() == place


def where(session: Session, name: str = "") -> str:
    """Return the node on which a server runs, as a cell says it."""
    return session.run("import socket; print(socket.gethostname())", name).strip().partition(".")[0]


def test_a_refusal_says_why_and_leads_back_to_the_choice(browse: BrowserSession, cluster: Cluster) -> None:
    """No node has as many CPUs as the profile offers."""
    bob = browse("bob")
    arrive(bob)
    choose(bob, "large", cpu="4", memory="2G")
    expect(bob.page.locator("#failure")).to_contain_text(
        "No node of this part of the cluster has as much as you have chosen."
    )
    reference = bob.page.locator("#reference").inner_text()
    bob.picture("cluster-refused")
    assert reference in cluster.hub.run("journalctl --unit=jupyterhub --since=-2min --output=cat")
    bob.page.get_by_role("button", name="Back to the choices").click()
    there = offer(bob, "large")
    expect(there.locator("input[type=radio]")).to_be_checked()
    expect(there.locator("select[name='large.cpu']")).to_have_value("4")
    expect(there.locator("select[name='large.memory']")).to_have_value("2G")
    # The next start begins with what did start, or was offered first.
    assert cluster.jobs() == {}
    bob.page.goto("/hub/spawn")
    expect(offer(bob, "large").locator("select[name='large.cpu']")).not_to_have_value("4")


# A desktop

# Has what follows use the desktop of a job.
ON_DESKTOP = """
cd /var/lib/campushub/jobs/*/displays/1
number=$(python3 -c 'import json; print(json.load(open("display.json"))["number"])')
export DISPLAY=:$number XAUTHORITY=$PWD/xauthority HOME=/home/alice
"""
EDITOR = """
install -o alice -m 600 /dev/null ~/notes.txt
systemd-run --quiet --uid=alice --setenv=DISPLAY --setenv=XAUTHORITY --setenv=HOME mousepad ~/notes.txt
"""


def test_a_desktop_on_a_node_has_picture_and_keyboard(
    browse: BrowserSession, cluster: Cluster, sessions: Callable[[str], Session]
) -> None:
    alice = browse("alice")
    arrive(alice)
    expect(offer(alice, "desktop")).to_contain_text("in the cluster")
    choose(alice, "desktop")
    screen = alice.page.locator(".jp-Display[data-painted]:visible")
    expect(screen).to_be_visible()
    expect(screen.locator(".jp-Display-overlay")).to_be_hidden()
    wait_until(lambda: alice.page.evaluate(COLOURS) > 8, "a panel, and icons", 60)
    alice.picture("cluster-desktop")

    (name,) = cluster.jobs("alice")
    node = cluster.node(name)
    node.run(ON_DESKTOP + EDITOR)
    wait_until(lambda: "notes.txt" in node.run(f"{ON_DESKTOP} xwininfo -root -tree"), "the window of an editor")
    screen.locator("canvas").last.click()
    alice.page.keyboard.type("Über 7 км")

    def is_saved() -> bool:
        alice.page.keyboard.press("Control+s")
        time.sleep(0.5)
        return cluster.hub.run("cat /home/alice/notes.txt").strip() == "Über 7 км"

    wait_until(is_saved, "what was typed is in the file, in the home that all hosts have", 30)
    alice.picture("cluster-desktop-editor")

    assert card(alice).locator(".place").inner_text() == name
    sessions("alice").stop()
    wait_until(lambda: not node.run("pgrep --uid alice", check=False), "all programs of the desktop have ended", 30)
    left = "find /tmp /var/lib/campushub/jobs -user alice"
    wait_until(lambda: not node.run(left, check=False), "nothing of the desktop is left on the node", 30)


# What an administrator does


def test_status_drain_and_resume_tell_what_runs_where(
    browse: BrowserSession, cluster: Cluster, sessions: Callable[[str], Session]
) -> None:
    alice = sessions("alice")
    start(alice, profile="large")
    (name,) = cluster.jobs("alice")
    node, other = cluster.node(name), next(node for node in cluster.nodes if node.name.partition(".")[0] != name)
    said = cluster.campushub("status")
    for host in cluster.nodes:
        assert re.search(rf"^ok: \[{re.escape(host.name)}\]", said, re.MULTILINE), f"nothing of {host.name}"
    assert re.search(rf"main\*? up .* (allocated|mixed) {name}\b", said)
    assert re.search(rf"main\*? up .* idle {other.name.partition('.')[0]}\b", said)
    assert re.search(rf"\d+ alice main RUNNING \S+ {name}\b", said)

    said = cluster.campushub("drain", node.name)
    assert re.search(r"alice: job \d+, until ", said)
    cluster.campushub("drain", other.name)
    assert re.search(rf"drain(ed|ing)\S* .*{name}", cluster.campushub("status"))
    assert where(alice) == name, "who works there goes on"
    bob = browse("bob")
    arrive(bob)
    expect(offer(bob, "large")).to_contain_text("0 CPU")
    choose(bob, "large", cpu="1", memory="512M")
    message = bob.page.locator("#progress-message")
    expect(message).to_contain_text("It waits for a node that is not available now.")
    bob.picture("cluster-drained")
    cluster.campushub("resume", other.name)
    enter(bob)
    assert list(cluster.jobs("bob")) == [other.name.partition(".")[0]]
    cluster.campushub("resume", node.name)
    refused = cluster.campushub("drain", "node99.centre.test", succeeds=False)
    assert f"'node99.centre.test' is no node of the cluster. Its nodes: {cluster.nodes[0].name}" in refused


def test_a_third_node_is_added_and_disturbs_nobody(
    browse: BrowserSession, cluster: Cluster, host: Host, sessions: Callable[[str], Session]
) -> None:
    alice, bob = browse("alice"), sessions("bob")
    cell = start_printing(alice)
    start(bob, profile="small")
    here = host.server_pid("bob")
    # The cluster is full afterwards.
    start(sessions("carol"), profile="large")
    before = cluster.jobs()

    cluster.add_nodes(1)
    cluster.campushub("install")
    keeps_printing(cell, after="the installation")
    shown = lines(cell)
    assert shown == list(range(1, shown[-1] + 1)), "lines were lost"
    assert cluster.jobs() == before
    assert host.server_pid("bob") == here
    assert bob.run("print('still here')") == "still here\n"
    # What is new is used at once, with the user's home.
    added = cluster.nodes[-1]
    start(sessions("carol"), "second", profile="large")
    printed = sessions("carol").run(WHERE, "second")
    assert printed == f"on {added.name} in /home/carol\n"
    host.run("touch ~alice/end")
    expect(outputs(cell).last).to_contain_text("finished after")
    alice.save("Loop.ipynb")


@pytest.mark.chaos
def test_a_node_without_power_ends_its_servers_with_the_reason(
    browse: BrowserSession, cluster: Cluster, sessions: Callable[[str], Session]
) -> None:
    """Others are untouched, whoever was there can start again elsewhere, and the node comes back."""
    alice, bob = browse("alice"), browse("bob")
    arrive(alice)
    choose(alice, "large")
    enter(alice)
    (name,) = cluster.jobs("alice")
    cell = start_printing(bob)
    start(sessions("carol"), profile="small")
    assert list(cluster.jobs("bob")) != [name]
    alice.open_notebook()
    before = cluster.jobs("bob")

    lost = cluster.node(name)
    lost.cut_power()
    begin = time.monotonic()
    wait_until(lambda: not servers(sessions("alice")), "the server has ended", LOSS_SECONDS)
    print(f"ended after {time.monotonic() - begin:.0f} s")
    end = alice.page.locator(".campushub-End")
    expect(end).to_contain_text("it could not be reached any more on its node")
    alice.picture("cluster-node-lost")
    expect(card(alice).locator(".end-reason")).to_contain_text("It could not be reached any more on its node.")
    alice.picture("cluster-node-lost-home")
    assert cluster.jobs("bob") == before
    keeps_printing(cell, after="the loss of another node")
    assert sessions("carol").run("print('still here')") == "still here\n"
    cluster.hub.run("touch ~bob/end")
    expect(outputs(cell).last).to_contain_text("finished after")
    bob.save("Loss.ipynb")
    if len(cluster.nodes) > 2:
        card(alice).locator(".start-again").click()
        enter(alice)
        assert list(cluster.jobs("alice")) not in ([name], list(before))

    lost.up()
    cluster.campushub("install")
    look = f"sinfo --noheader --nodes={name} --format=%T"
    wait_until(lambda: "idle" in cluster.hub.run(look), "the node is back", 60)
