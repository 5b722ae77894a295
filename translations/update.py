#!/usr/bin/env python3
"""
Bring the translations up to date with the sentences that pages and code have, and compile them.

translations/LANGUAGE.po has all sentences of the project in one language. From these files this writes what is
installed: the hub's catalogues, messages.json of packages with TypeScript, and the pages that the reverse proxy shows
by itself. `translations/update.py de` begins a new language. With `--check` it writes nothing, names what is
out of date, untranslated or wrong, and fails if there is anything.
"""

from __future__ import annotations

import argparse
import gettext
import io
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from babel.core import Locale, UnknownLocaleError
from babel.messages.catalog import Catalog, Message
from babel.messages.extract import DEFAULT_KEYWORDS, extract_from_file
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po
from jinja2 import Environment, FileSystemLoader

ROOT = Path(__file__).resolve().parent.parent
HUB = "files/campushub_hub/src/campushub_hub"
# Packages whose pages are TypeScript, with a module of the same name.
PACKAGES = ("files/campushub_session", "files/jupyter_displays")
PAGES = "translations/pages"
WEB = "roles/web/templates/pages"
# What a page knows only on its host.
PAGE_VALUES = {"upload_limit": "{{ web_upload_limit | upper }}"}
# Where sentences are marked, and how Babel finds them.
SOURCES = (
    (f"{HUB}/**/*.py", "python"),
    (f"{HUB}/templates/*.html", "jinja2"),
    *((f"{package}/{Path(package).name}/**/*.py", "python") for package in PACKAGES),
    *((f"{package}/src/**/*.ts", "javascript") for package in PACKAGES),
    (f"{PAGES}/*.html", "jinja2"),
)
# `trans.__` is the convention of JupyterLab, whose language packs may have these sentences, too.
KEYWORDS = {**DEFAULT_KEYWORDS, "__": None, "gettext_noop": None}
ENGLISH = "en"
LAYOUT = "layout.html"
PLACEHOLDER = re.compile(r"%\d|%\(\w+\)\w")
WIDTH = 120


def extract(root: Path) -> Catalog:
    """Return all marked sentences, and the files that have them."""
    catalogue = Catalog(charset="utf-8")
    for pattern, method in SOURCES:
        for path in sorted(root.glob(pattern)):
            name = path.relative_to(root)
            if "test" not in name.parts:
                for _line, message, _comments, _context in extract_from_file(method, path, KEYWORDS):
                    catalogue.add(message, locations=[(str(name), 0)])
    return catalogue


def languages(root: Path) -> dict[str, Path]:
    """Return the files of all languages but English, which the sources have."""
    return {path.stem: path for path in sorted(root.glob("translations/*.po"))}


def read(path: Path, sources: Catalog) -> Catalog:
    """Return a language with the sentences that the sources have now."""
    with path.open("rb") as file:
        catalogue = read_po(file, locale=path.stem)
    catalogue.update(sources, update_creation_date=False)
    return catalogue


def sentences(catalogue: Catalog, part: str = "") -> Iterator[Message]:
    """Return the messages of a part of the project, without the header."""
    for message in catalogue:
        if message.id and any(path.startswith(part) for path, _line in message.locations):
            yield message


def translated(catalogue: Catalog, part: str) -> dict[str, str]:
    """Return what is translated of a part of the project; what is not stays English."""
    found = sorted(sentences(catalogue, part), key=lambda message: str(message.id))
    return {str(message.id): str(message.string) for message in found if message.string and not message.fuzzy}


def problems(catalogue: Catalog) -> Iterator[str]:
    """Say which sentences a translator has to look at, and why."""
    for message in sentences(catalogue):
        if not isinstance(message.id, str):
            yield f"{message.id[0]!r} has a plural, for which the pages in TypeScript have nothing"
        elif not message.string:
            yield f"{message.id!r} is not translated"
        elif message.fuzzy:
            yield f"{message.id!r} is a guess: correct the translation and remove the line `#, fuzzy`"
        elif sorted(PLACEHOLDER.findall(message.id)) != sorted(PLACEHOLDER.findall(str(message.string))):
            yield f"{message.id!r} and its translation have not the same placeholders"
        elif message.python_format and "%" in PLACEHOLDER.sub("", str(message.string).replace("%%", "")):
            yield f"the translation of {message.id!r} has a percent sign that is not written %%"


def po_file(catalogue: Catalog) -> bytes:
    """Return a language as its translators get it."""
    output = io.BytesIO()
    write_po(output, catalogue, width=WIDTH, sort_by_file=True, ignore_obsolete=True, include_lineno=False)
    return output.getvalue()


def mo_file(catalogue: Catalog, part: str) -> bytes:
    """Return what Python's gettext reads."""
    compiled = Catalog(locale=catalogue.locale, charset="utf-8", creation_date=catalogue.creation_date)
    compiled.revision_date = catalogue.revision_date
    for source, translation in translated(catalogue, part).items():
        compiled.add(source, translation)
    output = io.BytesIO()
    write_mo(output, compiled)
    return output.getvalue()


def pages(root: Path, language: str, messages: dict[str, str]) -> Iterator[tuple[str, bytes]]:
    """Return the pages that nginx serves as they are, by their names."""
    environment = Environment(
        autoescape=True,
        extensions=["jinja2.ext.i18n"],
        keep_trailing_newline=True,
        loader=FileSystemLoader(root / PAGES),
    )
    environment.install_gettext_callables(  # type: ignore[attr-defined]
        lambda message: messages.get(message, message), gettext.NullTranslations().ngettext, newstyle=True
    )
    for name in environment.list_templates(filter_func=lambda name: name != LAYOUT):
        page = environment.get_template(name).render(language=language, **PAGE_VALUES)
        yield f"{WEB}/{Path(name).stem}.{language}.html", page.encode()


def files(root: Path, catalogues: dict[str, Catalog]) -> Iterator[tuple[str, bytes]]:
    """Return all files that are written, by their paths."""
    for language, catalogue in catalogues.items():
        yield f"translations/{language}.po", po_file(catalogue)
        yield f"{HUB}/locale/{language}/LC_MESSAGES/campushub_hub.mo", mo_file(catalogue, HUB)
        yield from pages(root, language, translated(catalogue, PAGES))
    yield from pages(root, ENGLISH, {})
    for package in PACKAGES:
        messages = {language: translated(catalogue, f"{package}/") for language, catalogue in catalogues.items()}
        yield f"{package}/src/messages.json", (json.dumps(messages, ensure_ascii=False, indent=2) + "\n").encode()


def begin(root: Path, language: str) -> None:
    """Begin the file of a language. Raises UnknownLocaleError or ValueError."""
    if not re.fullmatch(r"[a-z]{2,3}", language) or language == ENGLISH:
        raise ValueError(f"'{language}' is no language that can be added: write its ISO 639 code, as de")
    locale = Locale.parse(language)
    version = (root / "VERSION").read_text().strip()
    catalogue = Catalog(locale=locale, project="CampusHub", version=version, charset="utf-8", fuzzy=False)
    catalogue.header_comment = f"# CampusHub in {locale.english_name}."
    path = root / f"translations/{language}.po"
    if not path.exists():
        path.write_bytes(po_file(catalogue))


def write(root: Path, wanted: dict[str, bytes]) -> None:
    """Write what has changed, and remove what is left of a language."""
    for name in out_of_date(root, wanted):
        path = root / name
        if name in wanted:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(wanted[name])
        else:
            path.unlink()


def out_of_date(root: Path, wanted: dict[str, bytes]) -> list[str]:
    """Return the files that are missing, have other contents, or belong to a language that is not there any more."""
    changed = [name for name, content in wanted.items() if not is_written(root / name, content)]
    compiled = (f"{HUB}/locale/*/LC_MESSAGES/campushub_hub.mo", f"{WEB}/*.html")
    found = {str(path.relative_to(root)) for pattern in compiled for path in root.glob(pattern)}
    return [*changed, *sorted(found - set(wanted))]


def is_written(path: Path, content: bytes) -> bool:
    """Return whether a file has these contents."""
    return path.exists() and path.read_bytes() == content


def main() -> int:
    """Write or check everything."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().split("\n", maxsplit=1)[0])
    parser.add_argument("language", nargs="*", help="ISO 639 code of a language to add, as de")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if something is to be done")
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    options = parser.parse_args()
    root: Path = options.root
    sources = extract(root)
    try:
        for language in options.language:
            begin(root, language)
        catalogues = {language: read(path, sources) for language, path in languages(root).items()}
    except (UnknownLocaleError, ValueError) as error:
        parser.error(str(error))
    to_do = [f"translations/{name}.po: {problem}" for name, one in catalogues.items() for problem in problems(one)]
    wanted = dict(files(root, catalogues))
    if options.check:
        to_do += [f"{name} is out of date: run translations/update.py" for name in out_of_date(root, wanted)]
    else:
        write(root, wanted)
    print("\n".join([*to_do, f"{len(list(sentences(sources)))} sentences in {', '.join([ENGLISH, *catalogues])}"]))
    return 1 if to_do else 0


if __name__ == "__main__":
    sys.exit(main())
