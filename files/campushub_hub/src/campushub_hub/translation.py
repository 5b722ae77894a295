"""
Pages of the hub in the language of the browser.

Their sentences are marked in templates and code, and translated in translations/*.po at the top of the project, from
which translations/update.py writes the compiled catalogues that are read here.
"""

from __future__ import annotations

import gettext
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, pass_context
from jinja2.ext import InternationalizationExtension
from jinja2.runtime import Context
from markupsafe import Markup, escape
from tornado.log import app_log

DOMAIN = "campushub_hub"
LOCALE = Path(__file__).resolve().parent / "locale"
ENGLISH = "en"
# A browser sends less. A page looks at the header once for each sentence.
HEADER_LIMIT = 1000


def gettext_noop(message: str) -> str:
    """Mark a message for translation that a template translates later."""
    return message


# What JupyterHub itself says in our login form.
JUPYTERHUB_MESSAGES = (
    gettext_noop("Invalid username or password"),
    gettext_noop("Login form invalid or expired. Try again."),
)
# What it says at the top of each page.
JUPYTERHUB_NAVIGATION = (
    gettext_noop("Home"),
    gettext_noop("Token"),
    gettext_noop("Admin"),
    gettext_noop("Services"),
    gettext_noop("Login"),
    gettext_noop("Logout"),
)


@cache
def catalogues() -> dict[str, gettext.NullTranslations]:
    """Return the catalogue of each language. One that cannot be read is left out: its pages are in English."""
    found = {ENGLISH: gettext.NullTranslations()}
    for path in sorted(LOCALE.glob(f"*/LC_MESSAGES/{DOMAIN}.mo")):
        try:
            with path.open("rb") as file:
                found[path.parts[-3]] = gettext.GNUTranslations(file)
        except Exception:  # noqa: BLE001 (whatever is in the file, people can log in)
            app_log.exception("Cannot read the translations in %s", path)
    return found


def browser_language(header: str) -> str:
    """Return the first of our languages that an Accept-Language header asks for, else English."""
    wanted = []
    for part in header[:HEADER_LIMIT].replace(" ", "").split(","):
        tag, _, weight = part.lower().partition(";q=")
        try:
            quality = float(weight or 1)
        except ValueError:
            continue
        # 0 means: not this one.
        if 0 < quality <= 1:
            wanted.append((quality, tag.partition("-")[0]))
    wanted.sort(key=lambda pair: -pair[0])
    return next((tag for _, tag in wanted if tag in catalogues()), ENGLISH)


@pass_context
def page_language(context: Context) -> str:
    """Return the language of the browser that a page is for."""
    # JupyterHub gives pages the method static_url() of the handler, which alone leads to the request.
    handler = getattr(context.get("static_url"), "__self__", None)
    request = getattr(handler, "request", None)
    return browser_language(request.headers.get("Accept-Language", "")) if request else ENGLISH


@pass_context
def translate(context: Context, message: str) -> str:
    """Return a message in the language of the page."""
    # The translation of nothing is the header of the catalogue.
    return catalogues()[page_language(context)].gettext(message) if message else ""


@pass_context
def translate_plural(context: Context, singular: str, plural: str, number: int) -> str:
    """Return the form of a message for a number in the language of the page."""
    return catalogues()[page_language(context)].ngettext(singular, plural, number)


@pass_context
def translate_navigation(context: Context, part: str) -> Markup:
    """Return a part of JupyterHub's page, as HTML, with its words in the language of the page."""
    html = str(part)
    for word in JUPYTERHUB_NAVIGATION:
        html = html.replace(f">{word}<", f">{escape(translate(context, word))}<")
    return Markup(html)  # noqa: S704 (it is JupyterHub's own, rendered)


class PageTranslations(InternationalizationExtension):
    """Jinja's own extension for gettext, with the language of each page, which templates know as `language()`."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        # Not the newer style, which takes every message for safe HTML and a format: some come from authenticators.
        self._install_callables(translate, translate_plural, newstyle=False)  # type: ignore[arg-type]  # with the page
        environment.globals["language"] = page_language
        environment.filters["navigation"] = translate_navigation


def extended(options: dict[str, Any]) -> dict[str, Any]:
    """Return options of a Jinja environment with the translations in it."""
    return {**options, "extensions": [*options.get("extensions", ()), PageTranslations]}
