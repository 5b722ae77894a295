"""The page on which people choose what they start, and the cards of their servers, at a real hub."""

from __future__ import annotations

import html
import os
import re
import shutil
import urllib.parse
from pathlib import Path
from typing import Any

import pytest
from tests.chromium import chromium, keep_picture
from tests.hub_client import Hub, HubError

from campushub_hub.spawners import ServerStartError
from campushub_hub.spawners.base import ENDED, control_group_memory
from campushub_hub.spawners.cluster import Free

from .conftest import merged
from .test_handlers import CLICK, Site, StagedSpawner, servers, session, wait_for

PROFILES: list[dict[str, Any]] = [
    {
        "name": "course",
        "title": "Course",
        "description": "For exercises and small data.",
        "interface": "lab",
        "memory": "1G",
        "cpu": 1,
        "hours": 8,
    },
    {
        "name": "data",
        "title": "Data analysis",
        "description": "For data that needs room.",
        "interface": "lab",
        "memory": ["2G", "4G", "16G"],
        "cpu": [1, 2],
        "hours": [8, 24],
    },
    {
        "name": "desk",
        "title": "Desktop",
        "description": "Programs with windows.",
        "interface": "desktop",
        "memory": "3G",
    },
    {"name": "root", "title": "ROOT", "interface": "lab", "environment": "lcg", "groups": ["physics"]},
    {"name": "geant", "title": "Geant4", "interface": "desktop", "application": "geant4", "groups": ["geant"]},
]


@pytest.fixture
def site(tmp_path: Path, rendered: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Site:
    site = Site(tmp_path, rendered["systemd"]["settings"], monkeypatch)
    offer(site, PROFILES)
    return site


def offer(site: Site, profiles: list[dict[str, Any]]) -> None:
    programs = {name: f"/opt/{name or 'default'}" for name in ("", "lab", "notebook", "desktop")}
    site.settings = merged(site.settings, CampusSpawner={"profiles": profiles, "programs": programs})


def send(hub: Hub, path: str, **fields: Any) -> tuple[int, str, str]:
    """Send the form of the page, as a browser does."""
    _, _, page = hub.request(path)
    found = re.search(r'<form id="start-form" action="([^"]+)"', page)
    assert found, page
    data = urllib.parse.urlencode(
        {"_xsrf": hub.xsrf("/hub/"), **{name.replace("__", "."): v for name, v in fields.items()}}
    )
    return hub.request(html.unescape(found[1]), "POST", data.encode())


def chosen(page: str) -> tuple[str, list[str]]:
    """Return what is chosen on the page: the profile, and the values of its questions."""
    profile = re.search(r'name="profile" value="([^"]+)" required checked>', page)
    assert profile
    selects = re.findall(rf'name="{profile[1]}\.\w+">(.*?)</select>', page, re.DOTALL)
    return profile[1], [re.findall(r'value="([^"]+)" selected', options)[0] for options in selects]


HOSTILE: list[dict[str, Any]] = [
    *({"nosuch": "v"}, {"profile": "nosuch"}, {"profile": "root"}, {"profile": "data", "memory": "16G"}),
    *({"profile": "course\nx"}, {"profile": ["course", "data"]}, {"profile": {"a": 1}}, {"profile": "x" * 100_000}),
    *({"profile": "course", "memory": "4G"}, {"profile": "data", "cpu": True}, {"cmd": ["/bin/sh"]}),
]


def test_places_in_a_cluster_are_chosen_like_amounts(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    places = {"name": "big", "title": "Big", "memory": ["1G", "2G"], "partition": ["main", "gpu"], "account": "physics"}

    async def free(_: StagedSpawner) -> dict[str, Free]:
        return {"": Free(5), "main": Free(5), "gpu": Free(0)}

    monkeypatch.setattr(StagedSpawner, "runs_on", "slurm")
    monkeypatch.setattr(StagedSpawner, "free_in_cluster", free)
    offer(site, [*PROFILES, places])

    def act(url: str) -> None:
        hub = session(url, "ann")
        page = hub.request("/hub/spawn", headers=CLICK)[2]
        assert 'name="big.partition"' in page
        assert "Account physics" in page
        assert "Each of your servers has at most:" in page
        offered = re.findall(r"<option[^>]*>([^<]*CPU free[^<]*)<", page)
        assert [" ".join(text.split()) for text in offered] == [
            "gpu (0 CPU free now)",
            "main (5 CPU free now)",
        ]
        # Of those that leave nothing to choose.
        assert page.count("5 CPU free now</span>") == 3
        for options in ({"profile": "big", "partition": "other"}, {"profile": "course", "partition": "gpu"}):
            with pytest.raises(HubError, match=r"^400"):
                hub.api("/hub/api/users/ann/server", "POST", options)
        assert StagedSpawner.starts == []
        send(hub, "/hub/spawn", profile="big", big__memory="2G", big__partition="gpu")
        wait_for(lambda: servers(hub, "ann") == {"": True})
        assert StagedSpawner.newest.user_options == {"profile": "big", "memory": "2G", "partition": "gpu"}
        assert "Partition gpu" in hub.request("/hub/home")[2]

    site.run(act)


def test_gpus_are_chosen_like_amounts(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the form, by a link and by a program; the page says how many are free where somebody could have some."""

    async def free(_: StagedSpawner) -> dict[str, Free]:
        return {"": Free(5, 1), "main": Free(5, 1), "big": Free(9, 3)}

    monkeypatch.setattr(StagedSpawner, "runs_on", "slurm")
    monkeypatch.setattr(StagedSpawner, "free_in_cluster", free)
    card = {"name": "card", "title": "Card", "gpus": [0, 1, 2]}
    offer(site, [*PROFILES, card, {"name": "two", "title": "Two", "gpus": 2, "partition": ["main", "big"]}])

    def act(url: str) -> None:
        hub = session(url, "ann")
        page = hub.request("/hub/spawn", headers=CLICK)[2]
        words = " ".join(re.sub(r"<[^>]*>", " ", page).split())
        assert "Card 5 CPU and 1 GPU free now · 0 GPU – 2 GPU" in words
        assert "Two 2 GPU" in words
        assert "big (9 CPU and 3 GPU free now)" in words
        assert "JupyterLab · 1 GB · 1 CPU · 8 h · 5 CPU free now" in words
        assert chosen(hub.request("/hub/spawn?opt-profile=card&opt-gpus=2", headers=CLICK)[2]) == ("card", ["2"])
        page = hub.request("/hub/spawn?opt-profile=card&opt-gpus=4", headers={**CLICK, "Accept-Language": "ru"})[2]
        assert "Столько GPU здесь не предлагается: «4». Можно выбрать: 0, 1, 2." in page
        for options in ({"profile": "card", "gpus": 3}, {"profile": "two", "gpus": "-1"}, {"gpus": 1}):
            with pytest.raises(HubError, match=r"^400"):
                hub.api("/hub/api/users/ann/server", "POST", options)
        assert StagedSpawner.starts == []
        send(hub, "/hub/spawn", profile="card", card__gpus="1")
        wait_for(lambda: servers(hub, "ann") == {"": True})
        assert StagedSpawner.newest.user_options == {"profile": "card", "gpus": "1"}
        assert "1 GPU" in hub.request("/hub/home")[2]
        hub.stop()
        hub.api("/hub/api/users/ann/server", "POST", {"profile": "card", "gpus": 2})
        wait_for(lambda: servers(hub, "ann") == {"": True})
        assert StagedSpawner.newest.user_options == {"profile": "card", "gpus": "2"}

    site.run(act)


def test_what_is_not_offered_starts_nothing(site: Site) -> None:
    """Whoever sends it, by whatever way; and nothing of it is kept."""

    def act(url: str) -> None:
        hub, boss = session(url, "ann"), session(url, "bob")
        for options in HOSTILE:
            for caller in (hub, boss):
                for body in (options, {"user_options": options}):
                    with pytest.raises(HubError, match=r"^400"):
                        caller.api("/hub/api/users/ann/server", "POST", body)
            with pytest.raises(HubError, match=r"^400"):
                hub.api("/hub/api/users/ann/servers/second", "POST", {"user_options": options})
            with pytest.raises(HubError, match=r"^400"):
                hub.api("/hub/api/users/ann/servers/second", "PUT", {"user_options": options})
            with pytest.raises(HubError, match=r"^400"):
                hub.api("/hub/api/users/ann/servers/", "PATCH", {"user_options": options})
            query = urllib.parse.urlencode({f"opt-{name}": value for name, value in options.items()}, doseq=True)
            if len(query) < 10_000:
                status, _, page = hub.request(f"/hub/spawn?{query}", headers=CLICK)
                assert (status, 'id="choice-error"' in page) == (400, True), query
                status, _, page = send(hub, "/hub/spawn", **{"profile": "course", **options})
                assert (status, 'id="choice-error"' in page) == (400, True), query
        status, _, page = send(hub, "/hub/spawn", profile="course", gone__memory="4G")
        assert status == 400
        assert StagedSpawner.starts == []
        assert "second" not in session(url, "bob").api("/hub/api/users/ann")["servers"]
        assert 'data-server-name="second"' not in hub.request("/hub/home")[2]

    site.run(act)


def test_the_page_begins_with_the_last_choice_that_started(site: Site) -> None:
    """Not with one that failed, to which the page of the failure leads back."""

    def act(url: str) -> None:
        hub = session(url, "ann")
        # Neither a link nor a click starts anything while there is something to choose.
        assert chosen(hub.request("/hub/spawn", headers=CLICK)[2]) == ("course", [])
        _, _, page = hub.request("/hub/spawn?opt-profile=data&opt-memory=4G", headers=CLICK)
        assert chosen(page) == ("data", ["4G", "1", "8"])
        assert 'id="choice-linked"' in page
        assert "16 GB" not in page, "more than this user may have"
        assert "ROOT" not in page
        assert StagedSpawner.starts == []
        send(hub, "/hub/spawn", profile="data", data__memory="4G", data__cpu="2", data__hours="24")
        wait_for(lambda: servers(hub, "ann") == {"": True})
        server = StagedSpawner.newest
        assert (server.mem_limit, server.cpu_limit, server.age_limit) == (2**32, 2.0, 86400)
        assert (server.cmd, server.default_url) == (["/opt/lab"], "/lab")
        hub.stop()
        assert chosen(hub.request("/hub/spawn")[2]) == ("data", ["4G", "2", "24"])
        # A further server begins with it, too.
        assert chosen(hub.request("/hub/spawn/ann/second")[2]) == ("data", ["4G", "2", "24"])

        StagedSpawner.failure = ServerStartError(ENDED)
        status, _, page = send(hub, "/hub/spawn", profile="data", data__memory="2G", data__cpu="1", data__hours="8")
        assert status == 500
        assert StagedSpawner.failure.reference in page
        back = re.search(r'id="start"[^>]*href="([^"]*)"', page)
        assert back
        assert chosen(hub.request(html.unescape(back[1]))[2]) == ("data", ["2G", "1", "8"])
        StagedSpawner.failure = None
        wait_for(lambda: chosen(hub.request("/hub/spawn")[2]) == ("data", ["4G", "2", "24"]))
        # Without options a program starts the same again, and so does the button on the home page.
        hub.api("/hub/api/users/ann/server", "POST")
        wait_for(lambda: servers(hub, "ann") == {"": True})
        assert StagedSpawner.newest.mem_limit == 2**32
        assert not StagedSpawner.newest.user_options.keys() - {"profile", "memory", "cpu", "hours"}

    site.run(act)


def test_the_home_page_has_a_card_for_each_server(site: Site) -> None:
    def act(url: str) -> None:
        hub = session(url, "ann")
        card = hub.request("/hub/home")[2]
        assert "does not run" in card
        assert ">Start the server</a>" in card
        for name, path in (("Мой <ы>", "x"), ("Анализ", r"x-[0-9a-f]{8}")):
            status, address, page = hub.request(f"/hub/new-server?{urllib.parse.urlencode({'name': f' {name} '})}")
            assert status == 200
            assert re.search(rf"/hub/spawn/ann/{path}\?display_name=", address)
            send(hub, address, profile="desk")
            wait_for(lambda: StagedSpawner.newest.ready)
            assert StagedSpawner.newest.cmd == ["/opt/desktop"]
        page = hub.request("/hub/home")[2]
        assert "Мой &lt;ы&gt;" in page
        words = " ".join(re.sub(r"<[^>]*>", " ", page).split())
        assert words.count("Desktop · Linux desktop · 3 GB") == 2
        assert page.count("0.5 of 3 GB") == 2
        assert page.count(">Open</a>") == 2
        # As many as one may have.
        assert 'id="add-server"' not in page
        assert hub.request("/hub/new-server?name=%01")[0] == 400
        hub.stop("x")
        page = hub.request("/hub/home", headers={"Accept-Language": "ru"})[2]
        again = re.search(r'data-server-name="x".*?<form action="([^"]+)" method="post">', page, re.DOTALL)
        assert again, page[page.index("<main") if "<main" in page else 0 :]
        hub.request(again[1], "POST", urllib.parse.urlencode({"_xsrf": hub.xsrf("/hub/")}).encode())
        wait_for(lambda: servers(hub, "ann").get("x") is True)

    site.run(act)


@pytest.mark.skipif(not shutil.which("chromium"), reason="Chromium is not installed")
def test_a_wait_on_the_home_page_interrupts_nobody(site: Site, tmp_path: Path) -> None:
    """Who types the name of a further server, or has gone by keyboard to a card, which shows when its server runs."""

    def act(url: str) -> None:
        hub = session(url, "ann")
        cookies = [{"name": c.name, "value": c.value or "", "url": f"{url}{c.path}"} for c in hub.cookies]
        with chromium(tmp_path, [int(url.rpartition(":")[2])]) as browser:
            context = browser.new_context()
            context.add_cookies(cookies)  # type: ignore[arg-type]
            page = context.new_page()
            page.clock.install()
            name = page.locator("#new-server-name")
            for focused in ("#new-server-name", "#start"):
                StagedSpawner.held = True
                hub.press_start()
                page.goto(f"{url}/hub/home")
                page.get_by_text("is starting").wait_for()
                name.fill("Мой второй")
                page.locator(focused).focus()
                with page.expect_response("**/hub/home"):
                    page.clock.fast_forward(5_000)
                StagedSpawner.held = False
                wait_for(lambda: servers(hub, "ann") == {"": True})
                page.clock.fast_forward(5_000)
                page.locator(".open-server").wait_for()
                assert name.input_value() == "Мой второй"
                assert page.locator(focused).evaluate("(one) => one === document.activeElement")
                assert page.get_by_role("status").filter(has_text="My server: runs").count() == 1
                page.locator("#stop").click()
                page.get_by_text("does not run").wait_for()

    site.run(act)


def test_who_has_nothing_to_choose_is_asked_nothing(site: Site) -> None:
    """One profile without a choice is as no page; none for a user is said; without profiles all is as it was."""
    offer(site, [PROFILES[0]])

    def act(url: str) -> None:
        hub = session(url, "ann")
        assert "requestSubmit" in hub.request("/hub/spawn", headers=CLICK)[2]
        assert "requestSubmit" not in hub.request("/hub/spawn")[2]
        hub.press_start(headers=CLICK)
        wait_for(lambda: servers(hub, "ann") == {"": True})
        assert StagedSpawner.newest.mem_limit == 2**30
        hub.stop()

    site.run(act)
    offer(site, [PROFILES[3]])

    def refused(url: str) -> None:
        hub = session(url, "ann")
        status, _, page = hub.request("/hub/spawn")
        assert status == 403
        assert "nothing here that you may start" in page
        with pytest.raises(HubError, match=r"^40[03] .*nothing here that you may start"):
            hub.api("/hub/api/users/ann/server", "POST")
        # It is for whoever is in the group.
        bob = session(url, "bob")
        bob.press_start(headers=CLICK)
        wait_for(lambda: servers(bob, "bob") == {"": True})
        assert "--MultiKernelManager.default_kernel_name=lcg" in StagedSpawner.newest.get_args()

    site.run(refused)


def test_a_profile_starts_a_display_with_a_program_in_it(site: Site) -> None:
    """People read that it is no desktop; a program of nobody's choosing is not among what they can ask for."""
    offer(site, [PROFILES[2], {key: value for key, value in PROFILES[4].items() if key != "groups"}])

    def act(url: str) -> None:
        hub = session(url, "ann")
        assert "a program in a window of its own" in hub.request("/hub/spawn")[2]
        with pytest.raises(HubError, match="application"):
            hub.api("/hub/api/users/ann/server", "POST", {"profile": "desk", "application": "terminal"})
        hub.api("/hub/api/users/ann/server", "POST", {"profile": "geant"})
        wait_for(lambda: servers(hub, "ann") == {"": True})
        assert "--application=geant4" in StagedSpawner.newest.get_args()

    site.run(act)


def test_a_server_ends_after_the_hours_that_were_chosen(site: Site) -> None:
    """Also after a restart of the hub, and never later than others do."""
    site.settings = merged(site.settings, CampusSpawner={"max_age": 12 * 3600})
    left: list[float] = []

    def act(url: str) -> None:
        hub = session(url, "ann")
        assert "24 h" not in hub.request("/hub/spawn")[2]
        hub.api("/hub/api/users/ann/server", "POST", {"profile": "course"})
        wait_for(lambda: servers(hub, "ann") == {"": True})

    def after(url: str) -> None:
        hub = session(url, "ann")
        left.append(StagedSpawner.newest.age_left() or 0)
        assert re.search(r'class="time-left">(8|7\.9|480) (h|min)<', hub.request("/hub/home")[2])

    site.run(act, after)
    assert 7.5 * 3600 < left[0] <= 8 * 3600


@pytest.mark.parametrize("version", [1, 2])
def test_the_memory_of_a_server_is_what_its_group_says(tmp_path: Path, version: int) -> None:
    """Without what is only a cache of files. The group is that of this test's own process."""
    own = Path("/proc/self/cgroup").read_text().splitlines()
    names = ("current", "max") if version == 2 else ("usage_in_bytes", "limit_in_bytes")
    lines = {line.split(":", 2)[1]: line.split(":", 2)[2] for line in own}
    if ("memory" in lines) == (version == 2):
        pytest.skip(f"the host has no control groups of version {version}")
    group = tmp_path / "memory" / lines["memory"].lstrip("/") if version == 1 else tmp_path / lines[""].lstrip("/")
    group.mkdir(parents=True, exist_ok=True)
    (group / "memory.stat").write_text("anon 1\ninactive_file 300\ntotal_inactive_file 300\n")
    for limit, expected in (("5000", 5000), ("max" if version == 2 else str(2**63), None)):
        for name, text in zip(names, ("1000", limit), strict=True):
            (group / f"memory.{name}").write_text(f"{text}\n")
        assert control_group_memory(os.getpid(), tmp_path) == (700, expected)
    assert control_group_memory(2**31 - 1, tmp_path) is None


@pytest.mark.skipif(not shutil.which("chromium"), reason="Chromium is not installed")
@pytest.mark.parametrize(("language", "width"), [("en", 1000), ("en", 375), ("ru", 375)])
def test_people_choose_with_the_keyboard(site: Site, tmp_path: Path, language: str, width: int) -> None:
    """On a screen and on a phone, where nothing is wider than the page; each control has a name."""
    suffix = {("en", 1000): "", ("en", 375): "-phone", ("ru", 375): "-phone-ru"}[language, width]

    def act(url: str) -> None:
        hub = session(url, "ann")
        cookies = [{"name": c.name, "value": c.value or "", "url": f"{url}{c.path}"} for c in hub.cookies]
        with chromium(tmp_path, [int(url.rpartition(":")[2])]) as browser:
            context = browser.new_context(locale=language, viewport={"width": width, "height": 800})
            context.add_cookies(cookies)  # type: ignore[arg-type]
            page = context.new_page()
            page.goto(f"{url}/hub/spawn")
            keep_picture(page, f"start-page{suffix}")
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            page.get_by_role("radio").first.focus()
            page.keyboard.press("ArrowDown")
            assert page.get_by_role("radio", checked=True).get_attribute("value") == "data"
            page.keyboard.press("Tab")
            page.keyboard.press("Enter")
            memory = page.get_by_label("Memory" if language == "en" else "Память")
            memory.wait_for()
            memory.select_option("4G")
            assert "4 GB · 1 " in page.locator("#choose .offer details[open] .now").inner_text().replace("ГБ", "GB")
            keep_picture(page, f"start-page-choices{suffix}")
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            page.locator("#start").press("Enter")
            wait_for(lambda: servers(hub, "ann") == {"": True})
            assert StagedSpawner.newest.mem_limit == 2**32
            page.goto(f"{url}/hub/home")
            page.locator("#stop").wait_for()
            keep_picture(page, f"servers{suffix}")
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            page.locator("#stop").click()
            page.locator(".start-again").wait_for()
            StagedSpawner.failure = ServerStartError(ENDED)
            page.locator(".start-again").click()
            page.locator("#reference").wait_for()
            keep_picture(page, f"start-failed{suffix}")
            StagedSpawner.failure = None
            page.locator("#start").click()
            assert page.get_by_role("radio", checked=True).get_attribute("value") == "data"

    site.run(act)
