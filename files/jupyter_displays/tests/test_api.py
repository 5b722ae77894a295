"""The API: what it answers, and what it refuses without starting anything."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tornado import web

from jupyter_displays import x11
from jupyter_displays.engines import ENGINES
from jupyter_displays.handlers import handlers


async def test_a_display_is_started_described_renamed_and_shut_down(api, jp_base_url):
    status, listed = await api("GET")
    assert status == 200
    assert listed["displays"] == []
    assert listed["limit"] == 8
    assert {"desktop", "terminal", "sleep"} <= {application["id"] for application in listed["applications"]}
    display = await api.create(title="Мой экран", width=900, height=600)
    assert display["state"] == "starting"
    assert display["url"] == f"{jp_base_url}displays/1"
    display = await api.state("1", "running")
    assert (display["name"], display["title"], display["width"]) == ("display/1", "Мой экран", 900)
    status, display = await api("PATCH", "1", body={"title": "Other"})
    assert (status, display["title"]) == (200, "Other")
    status, listed = await api("GET")
    assert [display["title"] for display in listed["displays"]] == ["Other"]
    assert (await api("DELETE", "1"))[0] == 204
    assert (await api("GET", "1"))[0] == 404


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_screen_gets_another_size(api, manager, engine):
    await api.running(width=800, height=600)
    display = manager.displays["1"]
    for size in ((1001, 703), (640, 480), (1001, 703), (2560, 1600)):
        status, answer = await api("PATCH", "1", body={"width": size[0], "height": size[1]})
        assert (status, answer["width"], answer["height"]) == (200, *size)
        assert x11.size(display.number, display.screen.authority) == size
    assert (await api("PATCH", "1", body={"width": 5}))[0] == 400


async def test_all_are_shut_down_at_once(api):
    await api.running()
    await api.running()
    assert (await api("DELETE"))[0] == 204
    assert (await api("GET"))[1]["displays"] == []


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"application": "cmd.exe"}, "There is no application 'cmd.exe'."),
        ({"application": 7}, "application is not text."),
        ({"width": 10}, "A screen is 200x150 to 8192x8192 at 48 to 480 dpi."),
        ({"width": 100000}, "A screen is 200x150 to 8192x8192 at 48 to 480 dpi."),
        ({"height": -1}, "A screen is 200x150 to 8192x8192 at 48 to 480 dpi."),
        ({"width": "800"}, "width is not a whole number."),
        ({"width": 800.5}, "width is not a whole number."),
        ({"width": True}, "width is not a whole number."),
        ({"dpi": 1}, "A screen is 200x150 to 8192x8192 at 48 to 480 dpi."),
        ({"title": "<b>x</b>"}, "A title is up to 100 characters of plain text, without < > &."),
        ({"title": "x" * 101}, "A title is up to 100 characters of plain text, without < > &."),
        ({"title": "a\nb"}, "A title is up to 100 characters of plain text, without < > &."),
        ({"command": ["sh"]}, "There is no field 'command'."),
        ([], "The request is not a JSON object."),
    ],
)
async def test_bad_input_is_refused(api, manager, body, message):
    status, answer = await api("POST", body=body)
    assert (status, answer["message"]) == (400, message)
    assert not manager.displays


@pytest.mark.parametrize("raw", ["{", "[" * 50000, "nonsense"])
async def test_what_is_not_json_is_refused(api, manager, raw):
    assert (await api("POST", raw=raw))[0] == 400
    assert not manager.displays


async def test_ten_megabytes_are_refused(api, manager):
    status, answer = await api("POST", raw=json.dumps({"title": "x" * 10_000_000}))
    assert (status, answer["message"]) == (413, "A request may have 65536 bytes.")
    assert not manager.displays


async def test_there_is_a_limit(api, manager):
    manager.limit = 1
    await api.create()
    status, answer = await api("POST", body={"application": "sleep"})
    assert (status, answer["message"]) == (409, "You have 1 displays, which is the limit. Shut one down first.")
    assert len(manager.displays) == 1


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ()),
        ("PATCH", ()),
        ("DELETE", ()),
        ("GET", ("screen",)),
        ("GET", ("keymap",)),
        ("GET", ("clipboard",)),
        ("POST", ("text",)),
        ("GET", ("files",)),
        ("GET", ("files", "x")),
        ("POST", ("files", "x")),
        ("GET", ("shares",)),
        ("POST", ("shares",)),
        ("DELETE", ("shares", "ab")),
    ],
)
async def test_a_foreign_id_is_not_found(api, method, path):
    status, answer = await api(method, "77", *path)
    assert (status, answer["message"]) == (404, "There is no display '77'.")


@pytest.mark.parametrize("headers", [{"Authorization": ""}, {"Authorization": "token foreign"}])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ()),
        ("POST", ()),
        ("DELETE", ()),
        ("GET", ("1",)),
        ("PATCH", ("1",)),
        ("DELETE", ("1",)),
        ("GET", ("1", "screen")),
        ("GET", ("1", "keymap")),
        ("GET", ("1", "clipboard")),
        ("POST", ("1", "text")),
        ("POST", ("1", "shares")),
        ("GET", ("1", "files")),
        ("POST", ("1", "files", "x")),
    ],
)
async def test_without_the_right_token_nothing_is_done(api, manager, method, path, headers):
    assert (await api(method, *path, headers=headers))[0] == 403
    assert not manager.displays


# Who is let in without a login, and why. All other handlers refuse.
FOR_EVERYBODY = {
    "SharedPageHandler": "who has a link",
    "SharedStreamHandler": "who has a link",
    "SharedSoundHandler": "who has a link",
    "SharedInputHandler": "who has a link",
    "StaticHandler": "pages of links load the same scripts, which have nothing of a user",
}
REFUSING = [route for route in handlers() if route[1].__name__ not in FOR_EVERYBODY]


def methods(handler):
    """Return the methods that a handler has; OPTIONS is Jupyter's own, and tells nothing."""
    missing = web.RequestHandler._unimplemented_method
    names = [name for name in handler.SUPPORTED_METHODS if name != "OPTIONS"]
    return [name for name in names if getattr(handler, name.lower()) is not missing]


@pytest.mark.parametrize("route", REFUSING, ids=[handler.__name__ for _, handler in REFUSING])
async def test_without_a_login_every_handler_refuses(api, manager, visit, route):
    await api.create(title="Mine")
    pattern, handler = route
    path = re.sub(r"\([^)]*\)", "1", pattern)
    assert re.fullmatch(pattern, path)
    for method in methods(handler):
        answer = await visit(path, method)
        if handler.__name__ == "PageHandler":
            assert (answer.code, "/login?next=" in answer.headers["Location"]) == (302, True)
        else:
            assert answer.code == 403, method
    assert [display.title for display in manager.displays.values()] == ["Mine"]
    assert not manager.displays["1"].terminated
    assert manager.shares.of("1") == []
    assert not manager.files.exists()


def test_handlers_for_everybody_are_all_there():
    assert set(FOR_EVERYBODY) == {handler.__name__ for _, handler, *_ in handlers()} - {
        handler.__name__ for _, handler in REFUSING
    }


async def test_who_may_not_upload_leaves_no_file(api, manager, jp_serverapp, monkeypatch):
    """Files are written as they come, before the method is called that its decorators keep from others."""
    await api.create()
    asked = []

    def is_authorized(handler, user, action, resource):
        asked.append((action, resource))
        return action != "write"

    monkeypatch.setattr(jp_serverapp.web_app.settings["authorizer"], "is_authorized", is_authorized)
    assert (await api("POST", "1", "files", "x", raw=b"x"))[0] == 403
    assert asked == [("write", "displays")]
    assert not manager.files.exists()
    assert (await api("GET", "1", "files"))[0] == 200


async def test_a_form_of_another_site_does_nothing(api, manager, login_cookie):
    for headers in (
        {"Origin": "https://evil.example", "Cookie": login_cookie},
        {"Cookie": login_cookie},  # No sign of where it comes from, and no XSRF token either.
        {"Origin": "https://evil.example"},
    ):
        status, _ = await api("POST", body={"application": "sleep"}, headers=headers | {"Authorization": ""})
        assert status == 403
    assert not manager.displays


async def test_a_missing_program_is_named(api, manager):
    manager.engines["tigervnc"].x_server = "Xnowhere"
    status, answer = await api("POST", body={"application": "sleep"})
    assert (status, answer["message"]) == (503, "No display can be started: Xnowhere is not installed.")
    assert not manager.displays


async def test_the_sites_applications_are_listed(api, manager, tmp_path):
    manager.applications_directory = str(tmp_path)
    (tmp_path / "a.json").write_text(
        json.dumps({"root": {"title": "ROOT", "command": ["root"], "description": "CERN"}})
    )
    (tmp_path / "broken.json").write_text('{"x": {"command": "rm -rf"}}')
    listed = (await api("GET"))[1]["applications"]
    assert "x" not in {application["id"] for application in listed}
    assert {"id": "desktop", "title": "Desktop", "description": "A full Linux desktop"} in listed


async def test_a_display_keeps_the_title_that_the_site_gave(api, manager):
    manager.applications["clock"] = {"title": "Uhr & <Часы>", "command": ["sleep", "60"]}
    first = await api.create(application="clock")
    again = await api.create(application="clock", title=first["title"])
    assert again["title"] == "Uhr & <Часы>"


async def test_files_are_uploaded_listed_and_downloaded(api, tmp_path):
    await api.create()
    assert await api("POST", "1", "files", "Отчёт.txt", raw=b"one") == (201, {"name": "Отчёт.txt", "size": 3})
    assert await api("POST", "1", "files", "Отчёт.txt", raw=b"two!") == (201, {"name": "Отчёт (1).txt", "size": 4})
    status, listed = await api("GET", "1", "files")
    assert [file["name"] for file in listed["files"]] == ["Отчёт (1).txt", "Отчёт.txt"]
    assert await api("GET", "1", "files", "Отчёт.txt") == (200, b"one")
    large = b"0123456789abcdef" * 700_000
    assert (await api("POST", "1", "files", "large.bin", raw=large))[0] == 201
    assert (tmp_path / "Desktop" / "large.bin").read_bytes() == large
    assert (await api("POST", "1", "files", "empty", raw=b""))[0] == 201


@pytest.mark.parametrize("name", ["../../x", ".bashrc", "/etc/passwd", "a\0b", "..", "x" * 300])
async def test_names_of_files_stay_in_their_directory(api, tmp_path, name):
    await api.create()
    assert (await api("POST", "1", "files", name, raw=b"x"))[0] in {400, 404}
    assert (await api("GET", "1", "files", name))[0] in {400, 404}
    assert not (tmp_path / "Desktop").exists() or not list((tmp_path / "Desktop").iterdir())


async def test_a_file_has_a_limit(api, manager, tmp_path):
    await api.create()
    manager.upload_limit = 1000
    status, answer = await api("POST", "1", "files", "x", raw=b"x" * 1001)
    assert (status, answer["message"]) == (413, "A file may have 1000 bytes.")
    assert not (tmp_path / "Desktop" / "x").exists()


async def test_a_full_disk_is_said(api, manager):
    await api.create()
    manager.upload_directory = "/proc"
    status, answer = await api("POST", "1", "files", "x", raw=b"x")
    assert status == 503
    assert answer["message"].startswith("The file cannot be written:")


async def test_events_are_told(api, jp_serverapp):
    from jupyter_displays.events import SCHEMA_ID

    seen = []

    async def listen(logger, schema_id, data):
        seen.append((data["action"], data["display"]["state"]))

    jp_serverapp.event_logger.add_listener(schema_id=SCHEMA_ID, listener=listen)
    await api.running()
    await api("PATCH", "1", body={"title": "New"})
    await api("DELETE", "1")
    await api.create(application="fails")
    await api.state("1", "failed")
    assert seen == [
        ("created", "starting"),
        ("changed", "running"),
        ("changed", "running"),
        ("changed", "stopping"),
        ("ended", "ended"),
        ("removed", "ended"),
        ("created", "starting"),
        *seen[7:-1],
        ("failed", "failed"),
    ]


async def test_every_path_is_described():
    from pathlib import Path

    import yaml

    import jupyter_displays

    text = Path(jupyter_displays.__file__).with_name("openapi.yaml").read_text(encoding="utf-8")
    described = set(yaml.safe_load(text)["paths"])
    filled = {re.sub(r"\{(\w+)\}", lambda match: FILL[match[1]], path) for path in described}
    patterns = [pattern for pattern, *_ in handlers() if "static" not in pattern]
    assert all(any(re.fullmatch(pattern, path) for path in filled) for pattern in patterns)
    assert all(any(re.fullmatch(pattern, path) for pattern in patterns) for path in filled)


FILL = {"id": "1", "name": "x", "share": "ab12", "token": "A" * 43}


async def test_a_link_that_is_gone_is_told_by_a_page(jp_fetch, manager):
    """Whose script translates it; messages.json has the sentence."""
    response = await jp_fetch("displays", "shared", "A" * 43, headers={"Authorization": ""}, raise_error=False)
    assert response.code == 404
    page = response.body.decode()
    config = json.loads(re.search(r'<script id="display-config"[^>]*>(.*)</script>', page)[1])
    messages = json.loads((Path(__file__).parents[1] / "src" / "messages.json").read_text(encoding="utf-8"))
    assert messages["ru"][config["problem"]] == "Ссылка больше не действует."
    assert f"<noscript>{config['problem']}</noscript>" in page


async def test_other_extensions_add_scripts_to_pages_of_the_owner(api, jp_fetch, jp_serverapp, jp_base_url):
    jp_serverapp.web_app.settings["display_page_scripts"] = ["api/other/<x>.js"]
    display = await api.running()
    page = (await jp_fetch("displays", display["id"])).body.decode()
    assert f'src="{jp_base_url}api/other/&lt;x&gt;.js"></script>' in page
    _, share = await api("POST", display["id"], "shares", body={"mode": "view"})
    path = share["url"].removeprefix(jp_base_url).split("/")
    assert "api/other" not in (await jp_fetch(*path, headers={"Authorization": ""})).body.decode()
