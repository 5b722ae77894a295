# Managed by CampusHub
"""
JupyterLab in the language of the browser, where its user has not chosen one.

JupyterLab's own default is the language of the server, which is nobody's. Its setting gets another default with each
request: the first language of the browser that has a language pack.
"""

from __future__ import annotations

import functools
from importlib.metadata import entry_points
from typing import Any

ENGLISH = "en"


@functools.cache
def packs() -> dict[str, str]:
    """Return the language packs, by what browsers call their languages: ru-ru, and ru."""
    found = {ENGLISH: ENGLISH}
    for name in sorted(entry.name for entry in entry_points(group="jupyterlab.languagepack")):
        tag = name.replace("_", "-").lower()
        # Browsers name the written form of Norwegian that this is.
        language = {"no": "nb"}.get(tag[:2], tag.partition("-")[0])
        found[tag] = name
        found.setdefault(language, name)
    return found


def preferred(accepted: str) -> str:
    """Return the first language of a header Accept-Language, which browsers sort, that there is; otherwise English."""
    for part in accepted.lower().split(","):
        tag = part.partition(";")[0].strip()
        for candidate in (tag, tag.partition("-")[0]):
            if candidate in packs():
                return packs()[candidate]
    return ENGLISH


@functools.cache
def follow_browser() -> None:
    """Have the setting of JupyterLab's language depend on the request, unless the site has given it another default."""
    # Once: each extension of the server reads the file that calls this.
    try:
        from jupyterlab_server.settings_utils import SchemaHandler, get_settings
        from jupyterlab_server.translation_utils import L10N_SCHEMA_NAME
    except ImportError:
        return
    initialize, get_current_locale = SchemaHandler.initialize, SchemaHandler.get_current_locale

    def initialize_in_language(self: Any, *arguments: Any, **options: Any) -> None:
        initialize(self, *arguments, **options)
        language = {"locale": preferred(self.request.headers.get("Accept-Language", ""))}
        self.overrides = {**self.overrides, L10N_SCHEMA_NAME: language | self.overrides.get(L10N_SCHEMA_NAME, {})}

    def get_chosen_locale(self: Any) -> str:
        # JupyterLab's own knows of no default of a site.
        settings, _ = get_settings(
            *(self.app_settings_dir, self.schemas_dir, self.settings_dir),
            schema_name=L10N_SCHEMA_NAME,
            overrides=self.overrides,
            labextensions_path=self.labextensions_path,
        )
        default: str = self.overrides[L10N_SCHEMA_NAME]["locale"]
        return get_current_locale(self) if "locale" in settings["settings"] else default

    SchemaHandler.initialize = initialize_in_language  # type: ignore[method-assign]
    SchemaHandler.get_current_locale = get_chosen_locale  # type: ignore[method-assign]
