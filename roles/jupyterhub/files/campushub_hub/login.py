"""A login page in the language of the browser."""

from __future__ import annotations

from typing import Any

from jupyterhub.auth import PAMAuthenticator
from jupyterhub.handlers.login import LoginHandler
from tornado.web import HTTPError

LANGUAGES = ("en", "ru")
# The login page has it in each language.
NOT_ALLOWED = "You may not use this service. Please ask its administrator for access."


class LocalizedLoginHandler(LoginHandler):  # type: ignore[misc]
    """Tells the template `login.html` which language to speak."""

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


class CampusPAMAuthenticator(PAMAuthenticator):  # type: ignore[misc]
    """PAMAuthenticator with our login page, which takes the settings at their word."""

    async def authenticate(self, handler: Any, data: dict[str, str]) -> str | None:
        """Return the user's name if PAM accepts the password. Without a password nobody gets in."""
        # Some PAM stacks let in accounts with an empty password, which is meant for the console.
        if not data.get("password"):
            return None
        name: str | None = await super().authenticate(handler, data)
        return name

    def check_allowed(self, username: str, authentication: dict[str, Any] | None = None) -> bool:
        """Return True for those who may log in. Tell the others, whose password was right, why they cannot."""
        if not super().check_allowed(username, authentication):
            self.log.warning("User %r is not in any of the lists of those who may log in", username)
            raise HTTPError(403, NOT_ALLOWED)
        return True

    async def is_admin(self, handler: Any, authentication: dict[str, Any]) -> bool:
        """Return whether the settings name the user; who was an administrator before stays none."""
        return bool(await super().is_admin(handler, authentication))

    def get_handlers(self, app: Any) -> list[tuple[str, type[LoginHandler]]]:  # noqa: ARG002 (JupyterHub's signature)
        """Serve the login page ourselves."""
        return [("/login", LocalizedLoginHandler)]
