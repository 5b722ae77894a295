"""JupyterLab's language in real servers, with a stand-in for a language pack: one sentence of it."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from roles.jupyter.files.campushub_server import languages
from tests.unit.user_server import TOKEN, Server

SETTING = "@jupyterlab/translation-extension:plugin"
PO = """msgid ""
msgstr "Content-Type: text/plain; charset=UTF-8\\nLanguage: ru_RU\\nPlural-Forms: nplurals=1; plural=0;\\n"

msgctxt "schema"
msgid "Language settings."
msgstr "Параметры языка."
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("home")
    name = "jupyterlab_language_pack_ru_RU"
    catalogue = home / "packs" / name / "locale/ru_RU/LC_MESSAGES"
    catalogue.mkdir(parents=True)
    (home / "packs" / name / "__init__.py").touch()
    (catalogue / "jupyterlab.po").write_text(PO)
    command = [sys.executable, "-m", "babel.messages.frontend", "compile", "-d", str(catalogue.parents[1])]
    subprocess.run([*command, "-D", "jupyterlab"], check=True, capture_output=True)
    (catalogue / "jupyterlab.json").write_text(json.dumps({"": {"language": "ru_RU"}, "File": ["Файл"]}))
    about = home / "packs" / f"{name}-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    (about / "entry_points.txt").write_text(f"[jupyterlab.languagepack]\nru_RU = {name}\n")
    (home / "config").mkdir()
    (home / "config/jupyter_server_config.py").write_text(
        f"import sys\nsys.path.append({str(home / 'packs')!r})\n"
        "from campushub_server import languages\nlanguages.follow_browser()\n"
    )
    extensions = "--ServerApp.jpserver_extensions={'jupyterlab': True, 'notebook': True, 'jupyter_lsp': False}"
    started = Server(home, extensions, f"--config={home}/config/jupyter_server_config.py")
    yield started
    started.end()


def fetch(server: Server, path: str, browser: str = "", body: Any = None) -> Any:
    headers = {"Authorization": f"token {TOKEN}", "Accept-Language": browser}
    data = None if body is None else json.dumps(body).encode()
    method = "GET" if body is None else "PUT"
    url = f"http://127.0.0.1:{server.port}/lab/api/{path}"
    with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method), timeout=30) as answer:
        content = answer.read()
    return json.loads(content) if content else None


def setting(server: Server, browser: str) -> tuple[str, str]:
    """Return the default of the language, and a sentence of the server in the language that counts."""
    found = fetch(server, f"settings/{SETTING}", browser)
    return found["schema"]["properties"]["locale"]["default"], found["schema"]["description"]


def test_pages_are_in_the_first_language_of_the_browser(server: Server) -> None:
    for browser in ("ru-RU,ru;q=0.9,en-US;q=0.8", "ru", "de-DE,de;q=0.9,ru;q=0.8,en;q=0.7", "ru-BY"):
        assert setting(server, browser) == ("ru_RU", "Параметры языка."), browser
    for browser in ("en-US,en;q=0.9,ru;q=0.8", "de-DE", "", "*", ";;,,=q"):
        assert setting(server, browser) == ("en", "Language settings."), browser
    assert fetch(server, "translations/ru_RU")["data"]["jupyterlab"]["File"] == ["Файл"]


def test_a_language_that_somebody_has_chosen_stays(server: Server) -> None:
    fetch(server, f"settings/{SETTING}", body={"raw": '{"locale": "en"}'})
    try:
        found = fetch(server, f"settings/{SETTING}", "ru")
        assert (found["settings"]["locale"], found["schema"]["description"]) == ("en", "Language settings.")
    finally:
        fetch(server, f"settings/{SETTING}", body={"raw": "{}"})
    assert setting(server, "ru") == ("ru_RU", "Параметры языка.")


def test_languages_have_the_names_of_browsers(monkeypatch: pytest.MonkeyPatch) -> None:
    packs = [EntryPoint(name, "", "") for name in ("zh_TW", "zh_CN", "no_NO", "pt_BR")]
    monkeypatch.setattr(languages, "entry_points", lambda **_: packs)
    languages.packs.cache_clear()
    try:
        asked = {"nb-NO,en": "no_NO", "zh-TW": "zh_TW", "zh": "zh_CN", "zh-HK": "zh_CN", "pt-PT": "pt_BR", "nn": "en"}
        assert {browser: languages.preferred(browser) for browser in asked} == asked
    finally:
        languages.packs.cache_clear()
