"""Pages in the language of the browser."""

from __future__ import annotations

from typing import Any

from jupyterhub.handlers.base import BaseHandler
from jupyterhub.handlers.login import LoginHandler

LANGUAGES = ("en", "ru")


class LocalizedHandler(BaseHandler):  # type: ignore[misc]
    """Tells templates which language to speak."""

    def browser_language(self) -> str:
        """Return the first of our languages that the browser asks for, else English."""
        wanted = []
        for part in self.request.headers.get("Accept-Language", "").replace(" ", "").split(","):
            tag, _, weight = part.lower().partition(";q=")
            try:
                quality = float(weight or 1)
            except ValueError:
                continue
            # 0 means: not this one.
            if 0 < quality <= 1:
                wanted.append((quality, tag.partition("-")[0]))
        wanted.sort(key=lambda pair: -pair[0])
        return next((tag for _, tag in wanted if tag in LANGUAGES), LANGUAGES[0])

    @property
    def template_namespace(self) -> dict[str, Any]:
        """Add the language to what templates see."""
        return {**super().template_namespace, "language": self.browser_language()}


class LocalizedLoginHandler(LocalizedHandler, LoginHandler):  # type: ignore[misc]
    """The login page, `login.html`, in the language of the browser."""
