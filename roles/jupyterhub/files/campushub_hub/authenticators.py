"""
Who may log in, however the password is checked.

A login ends as a Unix account of this host. Its name, number and groups are looked up anew each time, so that what the
directory says now counts, for everybody who is logged in, too.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import re
from functools import partial
from typing import Any

from jupyterhub.auth import Authenticator, LocalAuthenticator, PAMAuthenticator
from tornado.web import HTTPError
from traitlets import Dict, Set

from . import accounts
from .failures import Failures
from .login import LocalizedLoginHandler

# The login page has these in each language.
NOT_ALLOWED = "You may not use this service. Please ask its administrator for access."
NO_NAME = (
    "This is no user name that can be used here. It has at most 32 letters without accents, digits, dots, hyphens and "
    "underscores, and begins with a letter."
)
NO_ACCOUNT = "Your password is right, but you have no account on this server. Please ask its administrator."
SILENT = "The university's user directory does not answer. Please try again in a few minutes."
TOO_MANY = "Too many failed attempts. Please wait five minutes."

NAME = re.compile(r"[a-z_][a-z0-9_.-]{0,31}")
PASSWORD_SECONDS = 9.0
# PAM_PERM_DENIED and PAM_ACCT_EXPIRED: the password is right, but the host does not let the user in.
REFUSED_BY_PAM = (6, 13)
# After this time it is looked whether somebody who is logged in still may be.
REFRESH_SECONDS = 15


class CampusAuthenticator(LocalAuthenticator):  # type: ignore[misc]
    """What all ways to log in have in common."""

    settings = Dict(config=True, help="The document /etc/jupyterhub/settings.json.")
    admin_groups = Set(config=True, help="Unix groups whose members are administrators of the hub.")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.failures = Failures(self.settings["login_attempts"])
        # Attempts while the directory is down: not held against people, but no chance to guess what the host remembers.
        self.guesses = Failures(4 * self.settings["login_attempts"])
        self.directory = accounts.Directory()
        self.doubts: dict[str, asyncio.Task[None]] = {}

    def unix_name(self, typed: str) -> str:
        """
        Return the name of the Unix account that somebody means: in small letters, without the university's domain.

        Raises HTTPError with the reason if no account can have that name.
        """
        name, at, domain = typed.strip().lower().partition("@")
        if (at and domain not in self.settings["login_domains"]) or not NAME.fullmatch(name):
            self.log.warning("Refused a user name of %d characters that no account can have", len(typed))
            raise HTTPError(403, NO_NAME)
        return name

    def normalize_username(self, username: str) -> str:
        """Names have been normalised already, by `unix_name` and the host."""
        return username

    def address(self, request: Any) -> str:
        """Return where a login comes from. Of all programs on this host only nginx is believed."""
        if self.settings["door_proof"]:
            shown = request.headers.get("X-Campushub-Proof", "")
            if not hmac.compare_digest(shown.encode(), os.environ["CAMPUSHUB_DOOR_PROOF"].encode()):
                return "127.0.0.1"
        return str(request.remote_ip)

    async def verify(self, name: str, password: str) -> bool:
        """Return whether the password is right. Raises SilentDirectoryError."""
        raise NotImplementedError

    async def authenticate(self, handler: Any, data: dict[str, str]) -> dict[str, Any] | None:
        """Return who has logged in; nothing if the password is wrong; raise HTTPError with any other reason."""
        name, password = self.unix_name(data.get("username", "")), data.get("password", "")
        # Some PAM stacks let in accounts with an empty password, which is meant for the console.
        if not password or "\0" in password:
            return None
        address = self.address(handler.request)
        if not (self.failures.begin(name, address) and self.guesses.begin(name, address)):
            self.log.warning("Failed login of %s from %s: too many attempts", name, address)
            raise HTTPError(429, TOO_MANY)
        try:
            right = await self.verify(name, password)
            trouble = "" if right else await self.directory.trouble()
        except accounts.SilentDirectoryError as error:
            right, trouble = False, str(error)
        except HTTPError:
            self.failures.forgive(name, address, success=False)
            self.guesses.forgive(name, address, success=False)
            self.log.warning("User %s is refused by the host", name)
            raise
        if trouble:
            self.failures.forgive(name, address, success=False)
            self.log.error("Could not check the password of %s. The directory: %s", name, trouble)
            raise HTTPError(503, SILENT)
        self.guesses.forgive(name, address, success=right)
        if not right:
            self.failures.failed(address)
            # In one line, for fail2ban.
            self.log.warning("Failed login of %s from %s", name, address)
            await asyncio.sleep(self.failures.delay(name, address))
            return None
        self.failures.forgive(name, address, success=True)
        account = await self.account(name)
        if account is None:
            self.log.warning("User %s has no account on this host", name)
            raise HTTPError(403, NO_ACCOUNT)
        if not NAME.fullmatch(account.name):
            raise HTTPError(403, NO_NAME)
        if account.uid < self.settings["uid_minimum"]:
            self.log.warning("User %s has UID %d, below that of people", account.name, account.uid)
            raise HTTPError(403, NOT_ALLOWED)
        return {"name": account.name}

    async def account(self, name: str) -> accounts.Account | None:
        """Look an account up; raise HTTPError, for a page that says so, if the directory is silent."""
        try:
            return await accounts.look_up(partial(accounts.find, name))
        except accounts.SilentDirectoryError as error:
            self.log.error("Could not look up %s: %s", name, error)  # noqa: TRY400 (where is known)
            raise HTTPError(503, SILENT) from None

    def administers(self, account: accounts.Account) -> bool:
        """Return whether the settings name the user, or a group they are in now, as administrator."""
        return account.name in self.admin_users or not account.groups.isdisjoint(self.admin_groups)

    def may_enter(self, account: accounts.Account) -> bool:
        """Return whether the settings let the user in."""
        return account.uid >= self.settings["uid_minimum"] and (
            self.allow_all
            or account.name in self.allowed_users
            or not account.groups.isdisjoint(self.allowed_groups)
            or self.administers(account)
        )

    async def check_allowed(self, username: str, authentication: dict[str, Any] | None = None) -> bool:  # noqa: ARG002
        """Return True for those who may log in. Tell the others, whose password was right, why they cannot."""
        account = await self.account(username)
        if account is None or not self.may_enter(account):
            self.log.warning("User %r is not in any of the lists of those who may log in", username)
            raise HTTPError(403, NOT_ALLOWED)
        return True

    async def is_admin(self, handler: Any, authentication: dict[str, Any]) -> bool:  # noqa: ARG002
        """Return whether the settings name the user; who was an administrator before stays none."""
        account = await self.account(authentication["name"])
        return account is not None and self.administers(account)

    async def further_groups(self, user: Any) -> frozenset[str]:  # noqa: ARG002
        """Return the groups that somebody is in besides those that the host knows."""
        return frozenset()

    async def standing(self, user: Any) -> accounts.Account | None:
        """Return the account of somebody who is logged in, as it is now. Raises SilentDirectoryError."""
        return await accounts.look_up(partial(accounts.find, user.name))

    async def refresh_user(self, user: Any, handler: Any = None) -> dict[str, Any] | bool:
        """Return whether somebody who is logged in still may be. A directory that does not answer changes nothing."""
        try:
            account = await self.standing(user)
        except accounts.SilentDirectoryError:
            return True
        if account is None:
            if await self.directory.trouble():
                return True
        elif self.may_enter(account):
            return {"name": user.name, "admin": self.administers(account)}
        self.log.warning("User %s may not use this hub any more", user.name)
        if handler is not None and user.name not in self.doubts:
            self.doubts[user.name] = asyncio.ensure_future(self.stop_servers(user, handler))
        return False

    async def stop_servers(self, user: Any, handler: Any) -> None:
        """Stop the servers of somebody who may not come in any more, unless that was a slip of the directory's."""
        try:
            await asyncio.sleep(2 * REFRESH_SECONDS)
            account = await self.standing(user)
            if (account and self.may_enter(account)) or (account is None and await self.directory.trouble()):
                return
            for name, spawner in list(user.spawners.items()):
                if spawner.ready:
                    await handler.stop_single_user(user, name)
        except accounts.SilentDirectoryError:
            return
        finally:
            self.doubts.pop(user.name, None)

    def get_handlers(self, app: Any) -> list[tuple[str, type]]:  # noqa: ARG002 (JupyterHub's signature)
        """Serve the login page ourselves."""
        return [("/login", LocalizedLoginHandler)]

    async def add_user(self, user: Any) -> None:
        """Take the user into the hub; the account is there, `admit` has seen it."""
        # LocalAuthenticator would ask for the account on the hub's own thread.
        Authenticator.add_user(self, user)


class CampusPAMAuthenticator(CampusAuthenticator, PAMAuthenticator):  # type: ignore[misc]
    """Checks passwords with PAM, as at every other door of the host."""

    async def verify(self, name: str, password: str) -> bool:
        """Return whether PAM accepts name and password."""
        import pamela

        def ask() -> bool:
            try:
                pamela.authenticate(name, password, service=self.service, encoding=self.encoding)
            except pamela.PAMError as error:
                self.log.info("PAM says of %s: %s", name, error)
                if error.errno in REFUSED_BY_PAM:
                    raise HTTPError(403, NOT_ALLOWED) from None
                return False
            return True

        return await accounts.check_password(ask, PASSWORD_SECONDS)
