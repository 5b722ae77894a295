"""
Who may log in, independent of how the password is checked.

A login ends as a Unix account of this host. Its name, UID and groups are looked up again each time, so that changes in
the directory take effect for users who are logged in as well.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import re
from functools import partial
from typing import Any

from jupyterhub.auth import Authenticator, LocalAuthenticator
from tornado.web import HTTPError
from traitlets import Bool, Float, Integer, List, Set, Unicode

from campushub_hub import accounts
from campushub_hub.handlers import HANDLERS
from campushub_hub.translation import gettext_noop

from .throttle import AddressSlots, LoginThrottle

# Messages; login.html and error.html translate them.
NOT_ALLOWED = gettext_noop("You may not use this service. Please ask its administrator for access.")
NO_NAME = gettext_noop(
    "This is no user name that can be used here. It has at most 32 letters without accents, digits, dots, hyphens and "
    "underscores, and begins with a letter."
)
NO_ACCOUNT = gettext_noop(
    "Your password is right, but you have no account on this server. Please ask its administrator."
)
SAME_UID = gettext_noop(
    "Your password is right, but another account of this server has the same number as yours (UID), so that each could "
    "read what the other has. Please tell its administrator."
)
PASSWORD_EXPIRED = gettext_noop("Your password is right, but it has expired. Please change it before you sign in.")
ACCOUNT_EXPIRED = gettext_noop("Your account has expired. Please ask the administrator of this service.")
LOCKED = gettext_noop("This server has locked your account after too many wrong passwords. Please try again later.")
MORE_NEEDED = gettext_noop(
    "This server asks for more than a password, which cannot be entered here. Please tell its administrator."
)
BROKEN = gettext_noop("This server cannot check passwords at the moment. Please tell its administrator.")
TOO_MANY = gettext_noop("Too many failed attempts. Please wait five minutes.")

NAME = re.compile(r"[a-z_][a-z0-9_.-]{0,31}")
# After this time the hub checks again whether a user who is logged in is still allowed.
REFRESH_SECONDS = 15
PROXY_SECRET_HEADER = "X-Campushub-Proxy-Secret"  # noqa: S105 (a name)


class CampusAuthenticator(LocalAuthenticator):  # type: ignore[misc]
    """What all authenticators of CampusHub have in common."""

    admin_groups = Set(Unicode(), config=True, help="Unix groups whose members are administrators of the hub.")
    admin_access = Bool(
        False,
        config=True,
        help="""
        Whether administrators may open other people's servers, and give themselves that right by tokens and shares.
        """,
    )
    uid_minimum = Integer(1000, config=True, help="The lowest UID of an account that may log in.")
    login_attempts = Integer(
        5,
        config=True,
        help="""
        Number of wrong passwords for a user from one address, within five minutes, after which further attempts are
        refused. An address is never refused as a whole: after ten times as many its wrong passwords are answered late.
        """,
    )
    login_domains = List(
        Unicode(),
        config=True,
        help="Domains, in lower case, that people may write behind their name, as in ann@example.org.",
    )
    password_timeout = Float(9, config=True, help="Seconds that the check of a password may take.")
    trusted_proxy_secret = Bool(
        False,
        config=True,
        help="""
        Whether the client's address is believed only of a reverse proxy that sends the secret of the environment
        variable CAMPUSHUB_PROXY_SECRET in the header X-Campushub-Proxy-Secret.
        """,
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.throttle = LoginThrottle(self.login_attempts)
        # Attempts during an outage of the directory do not count as failures, but passwords that the host has cached
        # must not be guessed meanwhile.
        self.offline_attempts = LoginThrottle(4 * self.login_attempts)
        # Half of all that are checked at a time.
        self.slots = AddressSlots(accounts.PASSWORD_THREADS // 2)
        self.directory = accounts.Directory()
        self.pending_revocations: dict[str, asyncio.Task[None]] = {}

    def unix_name(self, typed: str) -> str:
        """
        Return the name of the Unix account for what was typed: in lower case, without the university's domain.

        Raises HTTPError with the reason if no account can have that name.
        """
        name, at, domain = typed.strip().lower().partition("@")
        if (at and domain not in self.login_domains) or not NAME.fullmatch(name):
            self.log.warning("Refused a user name of %d characters that no account can have", len(typed))
            raise HTTPError(403, NO_NAME)
        return name

    def normalize_username(self, username: str) -> str:
        """Return the name as it is: `unix_name` and the host have normalised it."""
        return username

    def address(self, request: Any) -> str:
        """Return the address of the client. Of all programs on this host only the reverse proxy is believed."""
        if self.trusted_proxy_secret:
            received = request.headers.get(PROXY_SECRET_HEADER, "")
            if not hmac.compare_digest(received.encode(), os.environ["CAMPUSHUB_PROXY_SECRET"].encode()):
                return "127.0.0.1"
        return str(request.remote_ip)

    async def check_password(self, name: str, password: str) -> bool:
        """Return whether the password is right. Raises DirectoryTimeoutError."""
        raise NotImplementedError

    async def authenticate(self, handler: Any, data: dict[str, str]) -> dict[str, Any] | None:
        """Return the user; None if the password is wrong; raise HTTPError with any other reason."""
        name, password = self.unix_name(data.get("username", "")), data.get("password", "")
        # Some PAM stacks accept accounts with an empty password, which is meant for the console.
        if not password or "\0" in password:
            return None
        address = self.address(handler.request)
        throttles = (self.throttle, self.offline_attempts)
        if not all(throttle.allows(name, address) for throttle in throttles):
            self.log.warning("Failed login of %s from %s: too many attempts", name, address)
            raise HTTPError(429, TOO_MANY)
        for throttle in throttles:
            throttle.begin(name, address)
        try:
            async with self.slots.slot(address):
                right = await self.check_password(name, password)
            outage = "" if right else await self.directory.outage()
        except accounts.DirectoryTimeoutError as error:
            right, outage = False, str(error)
        except HTTPError as error:
            self.throttle.reset(name, address, success=False)
            self.offline_attempts.reset(name, address, success=False)
            self.log.warning("User %s is refused: %s", name, error.log_message)
            raise
        if outage:
            self.throttle.reset(name, address, success=False)
            self.log.error("Could not check the password of %s. The directory: %s", name, outage)
            raise HTTPError(503, accounts.SILENT)
        self.offline_attempts.reset(name, address, success=right)
        if not right:
            self.throttle.failed(address)
            # In one line, for fail2ban.
            self.log.warning("Failed login of %s from %s", name, address)
            await asyncio.sleep(self.throttle.delay(name, address))
            return None
        self.throttle.reset(name, address, success=True)
        account = await self.account(name)
        if account is None:
            self.log.warning("User %s has no account on this host", name)
            raise HTTPError(403, NO_ACCOUNT)
        if not NAME.fullmatch(account.name):
            raise HTTPError(403, NO_NAME)
        if account.uid < self.uid_minimum:
            self.log.warning("User %s has UID %d, below that of people", account.name, account.uid)
            raise HTTPError(403, NOT_ALLOWED)
        self.refuse_twin(account)
        return {"name": account.name}

    def refuse_twin(self, account: accounts.Account) -> None:
        """Raise HTTPError for an account that the host takes for another one. `status` reads the line."""
        if account.twin:
            self.log.error("User %s is refused: UID %d is that of %s", account.name, account.uid, account.twin)
            raise HTTPError(403, SAME_UID)

    async def account(self, name: str) -> accounts.Account | None:
        """Look up an account; raise HTTPError, for a page that says so, if the directory does not answer."""
        try:
            return await accounts.look_up(partial(accounts.find, name))
        except accounts.DirectoryTimeoutError as error:
            self.log.error("Could not look up %s: %s", name, error)  # noqa: TRY400 (the place is known)
            raise HTTPError(503, accounts.SILENT) from None

    def is_admin_account(self, account: accounts.Account) -> bool:
        """Return whether the settings name the user, or one of their current groups, as administrator."""
        return account.name in self.admin_users or not account.groups.isdisjoint(self.admin_groups)

    def is_allowed(self, account: accounts.Account) -> bool:
        """Return whether the settings allow the user."""
        return account.uid >= self.uid_minimum and (
            self.allow_all
            or account.name in self.allowed_users
            or not account.groups.isdisjoint(self.allowed_groups)
            or self.is_admin_account(account)
        )

    async def check_allowed(self, username: str, authentication: dict[str, Any] | None = None) -> bool:  # noqa: ARG002
        """Return True for users who are allowed; raise HTTPError with the reason for others."""
        account = await self.account(username)
        if account is None or not self.is_allowed(account):
            self.log.warning("User %r is in none of the lists of allowed users and groups", username)
            raise HTTPError(403, NOT_ALLOWED)
        return True

    async def is_admin(self, handler: Any, authentication: dict[str, Any]) -> bool:  # noqa: ARG002
        """Return whether the user is an administrator by the settings, and not by the hub's database."""
        account = await self.account(authentication["name"])
        return account is not None and self.is_admin_account(account)

    async def provider_groups(self, user: Any) -> frozenset[str]:  # noqa: ARG002
        """Return the user's groups in addition to those of the Unix account."""
        return frozenset()

    async def current_account(self, user: Any) -> accounts.Account | None:
        """Return the current account of a user who is logged in. Raises DirectoryTimeoutError."""
        return await accounts.look_up(partial(accounts.find, user.name))

    async def refresh_user(self, user: Any, handler: Any = None) -> dict[str, Any] | bool:
        """Return whether a user who is logged in is still allowed. A directory that does not answer changes nothing."""
        try:
            account = await self.current_account(user)
        except accounts.DirectoryTimeoutError:
            return True
        if account is None:
            if await self.directory.outage():
                return True
        elif self.is_allowed(account):
            return {"name": user.name, "admin": self.is_admin_account(account)}
        self.log.warning("User %s is not allowed any more", user.name)
        if handler is not None and user.name not in self.pending_revocations:
            self.pending_revocations[user.name] = asyncio.ensure_future(self.stop_servers(user))
        return False

    async def stop_servers(self, user: Any) -> None:
        """Stop the servers of a user who is not allowed any more, unless the directory corrects itself meanwhile."""
        try:
            await asyncio.sleep(2 * REFRESH_SECONDS)
            account = await self.current_account(user)
            if (account and self.is_allowed(account)) or (account is None and await self.directory.outage()):
                return
            for spawner in list(user.spawners.values()):
                if spawner.ready:
                    await spawner.end("revoked")
        except accounts.DirectoryTimeoutError:
            return
        finally:
            self.pending_revocations.pop(user.name, None)

    def get_handlers(self, app: Any) -> list[tuple[str, type]]:
        """Serve also the hub's own pages and calls for servers."""
        return [*super().get_handlers(app), *HANDLERS]

    async def add_user(self, user: Any) -> None:
        """Add the user to the hub's database; `authenticate` has looked up the account."""
        # LocalAuthenticator would look up the account in the hub's main thread.
        Authenticator.add_user(self, user)
