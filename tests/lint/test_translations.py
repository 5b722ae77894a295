"""Every sentence that people read is translated, and what is compiled of the translations is up to date."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RUSSIAN = "translations/ru.po"
PARTS = (
    "translations",
    "files/campushub_hub/src",
    "files/campushub_session/campushub_session",
    "files/campushub_session/src",
    "files/jupyter_displays/jupyter_displays",
    "files/jupyter_displays/src",
    "roles/web/templates/pages",
    "VERSION",
)
TYPESCRIPT = sorted(ROOT.glob("files/*/src/**/*.ts"))


def update(root: Path, *options: str) -> tuple[int, str]:
    """Run translations/update.py on a checkout."""
    command = [sys.executable, str(ROOT / "translations" / "update.py"), f"--root={root}", *options]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.returncode, answer.stdout + answer.stderr


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a copy of what translations are made of, and go to."""
    for part in PARTS:
        (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / part).is_dir():
            shutil.copytree(
                ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__", "labextension", "static")
            )
        else:
            shutil.copy(ROOT / part, tmp_path / part)
    return tmp_path


def change(path: Path, old: str, new: str) -> None:
    """Replace a text in a file, which has it once."""
    text = path.read_text()
    assert text.count(old) == 1, old
    path.write_text(text.replace(old, new))


def test_translations_are_complete_and_up_to_date() -> None:
    code, answer = update(ROOT, "--check")
    assert code == 0, answer


def test_typescript_translates_nothing_but_literal_sentences() -> None:
    """Any other argument would not be found, and stay English; page.ts has the problem that the server names."""
    found = [call for path in TYPESCRIPT for call in re.findall(r"\btrans\.__\(\s*([^\s)]*)", path.read_text())]
    assert len(found) > 40
    assert [call for call in found if not call.startswith("'")] == ["problem"]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('msgstr "Имя пользователя"', 'msgstr ""', "'Username' is not translated"),
        (
            "Войти через %(service)s",
            "Войти через %(servce)s",
            "'Sign in with %(service)s' and its translation have not",
        ),
        ("Войти через %(service)s", "Войти на 100% через %(service)s", "has a percent sign that is not"),
        ('msgstr "Смотрят: %1"', 'msgstr "Смотрят: %2"', "'Viewers: %1' and its translation have not the same"),
        ('msgid "Viewers: %1"', '#, fuzzy\nmsgid "Viewers: %1"', "'Viewers: %1' is a guess"),
        ('msgid "Password"', 'msgid "Passwort"', "'Password' is a guess"),
        ('msgstr "Пароль"', 'msgstr "Секрет"', "locale/ru/LC_MESSAGES/campushub_hub.mo is out of date"),
        ('msgstr "Отмена"', 'msgstr "Назад"', "src/messages.json is out of date"),
        (
            'msgstr "Повторить сейчас"',
            'msgstr "Ещё раз"',
            "roles/web/templates/pages/unavailable.ru.html is out of date",
        ),
    ],
)
def test_what_is_wrong_with_a_translation_is_named(checkout: Path, old: str, new: str, problem: str) -> None:
    change(checkout / RUSSIAN, old, new)
    code, answer = update(checkout, "--check")
    assert code == 1
    assert problem in answer


def test_a_new_sentence_is_missed_in_every_language(checkout: Path) -> None:
    change(checkout / "translations/pages/unavailable.html", '_("Try now")', '_("Do try once more")')
    code, answer = update(checkout, "--check")
    assert code == 1
    assert f"{RUSSIAN}: 'Do try once more' is not translated" in answer


def test_a_language_is_one_file(checkout: Path) -> None:
    code, answer = update(checkout, "de")
    assert code == 1
    assert "translations/de.po: 'Username' is not translated" in answer
    german = checkout / "translations/de.po"
    change(german, 'msgid "Username"\nmsgstr ""', 'msgid "Username"\nmsgstr "Benutzername"')
    change(german, 'msgid "Try now"\nmsgstr ""', 'msgid "Try now"\nmsgstr "Jetzt versuchen"')
    change(german, 'msgid "Cancel"\nmsgstr ""', 'msgid "Cancel"\nmsgstr "Abbrechen"')
    update(checkout)
    hub = checkout / "files/campushub_hub/src/campushub_hub/locale/de/LC_MESSAGES/campushub_hub.mo"
    page = checkout / "roles/web/templates/pages/unavailable.de.html"
    assert b"Benutzername" in hub.read_bytes()
    assert '<html lang="de">' in page.read_text()
    assert "Jetzt versuchen" in page.read_text()
    assert '"Cancel": "Abbrechen"' in (checkout / "files/jupyter_displays/src/messages.json").read_text()
    # And gone with it.
    german.unlink()
    code, answer = update(checkout, "--check")
    assert "unavailable.de.html is out of date" in answer
    assert update(checkout)[0] == 0
    assert not hub.exists()
    assert not page.exists()


@pytest.mark.parametrize("name", ["en", "german", "../../x", "xx", "DE"])
def test_a_language_has_the_code_that_browsers_send(checkout: Path, name: str) -> None:
    code, answer = update(checkout, name)
    assert code == 2
    assert name in answer
