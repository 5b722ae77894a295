"""
Logins at an OpenID Connect provider: the university's own, or a bridge to SAML.

What the provider says becomes the name of a Unix account by one rule: the value of a claim, in small letters, without a
domain of the site's.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from jupyterhub.utils import url_path_join
from oauthenticator.generic import GenericOAuthenticator
from oauthenticator.oauth2 import OAuthCallbackHandler, OAuthLoginHandler
from tornado.httpclient import AsyncHTTPClient, HTTPClientError
from tornado.web import HTTPError

from . import accounts
from .authenticators import NO_ACCOUNT, NO_NAME, NOT_ALLOWED, CampusAuthenticator
from .login import LocalizedLoginHandler

SECRET_FILE = Path("/etc/jupyterhub/oidc_secret")
NO_PROVIDER = "The sign-in service of the university does not answer. Please try again in a few minutes."
UNCONFIRMED = "The sign-in service of the university has not confirmed who you are. Please try again."
# How often it is asked what it says now of somebody who is logged in, and how long a login waits for its answers.
ASK_SECONDS = 60.0
TIMEOUTS: dict[str, Any] = {"connect_timeout": 3, "request_timeout": 6}

# When a token that a server has is to be renewed, beside what the provider has said of it.
RENEW_AT = "campushub_renew_at"

# What it has said of somebody since they logged in: the same; that its tokens are used up; that they are another one.
SAME, EXPIRED, OTHER = "same", "expired", "other"


class LoginHandler(OAuthLoginHandler):  # type: ignore[misc]
    """Sends the browser to the provider."""

    async def get(self) -> None:
        """Learn where the provider wants it, and send it there."""
        await self.authenticator.discover()
        super().get()


class CallbackHandler(OAuthCallbackHandler):  # type: ignore[misc]
    """Takes the browser back."""

    async def get(self) -> None:
        """Learn where to ask who it is, and ask."""
        await self.authenticator.discover()
        await super().get()


class CampusOIDCAuthenticator(CampusAuthenticator, GenericOAuthenticator):  # type: ignore[misc]
    """GenericOAuthenticator that ends with a Unix account."""

    login_handler = LoginHandler
    callback_handler = CallbackHandler
    _discovered = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.said: dict[str, str] = {}
        self._asked: dict[str, float] = {}
        self.asking: dict[str, asyncio.Task[None]] = {}
        # Who asks twice at once with one token that can be used once has none any more.
        self.turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def _requires_manage_groups(self, change: Any) -> None:
        """Accept names of groups: ours are those of the host and the provider together."""

    async def discover(self) -> None:
        """Learn the provider's addresses, once. Raises HTTPError for a page that says that it does not answer."""
        if self._discovered:
            return
        oidc = self.settings["oidc"]
        address = url_path_join(oidc["issuer"], "/.well-known/openid-configuration")
        try:
            answer = await AsyncHTTPClient().fetch(address, **TIMEOUTS)
            found = endpoints(json.loads(answer.body), oidc["issuer"], oidc["allow_insecure"])
        except Exception as error:  # noqa: BLE001 (whatever it is, the provider is of no use)
            self.log.error("%s: %s", address, error)  # noqa: TRY400
            raise HTTPError(503, NO_PROVIDER) from None
        self.authorize_url, self.token_url, self.userdata_url = found
        self._discovered = True

    def user_info_to_username(self, user_info: dict[str, Any]) -> str:
        """Return the name of the Unix account. Raises HTTPError if the claim is missing, or no account can have it."""
        claim = self.settings["oidc"]["name_claim"]
        value = user_info.get(claim)
        if not isinstance(value, str) or (claim == "email" and user_info.get("email_verified") in (False, "false")):
            self.log.warning("The provider says no %s of somebody, or has not verified it", claim)
            raise HTTPError(403, NO_NAME)
        return self.unix_name(value)

    def provided_groups(self, auth_state: dict[str, Any] | None) -> frozenset[str]:
        """Return the groups that the provider has named."""
        claim = self.settings["oidc"]["groups_claim"]
        named: Any = (auth_state or {}).get(self.user_auth_state_key) or {}
        for part in claim.split(".") if claim else ():
            named = named.get(part) if isinstance(named, dict) else None
        return (
            frozenset(name for name in named if isinstance(name, str))
            if claim and isinstance(named, list)
            else frozenset()
        )

    async def authenticate(self, handler: Any, data: Any = None) -> dict[str, Any] | None:
        """Return who the provider says that it is, as an account of the host, or raise HTTPError with a reason."""
        try:
            model: dict[str, Any] = await GenericOAuthenticator.authenticate(self, handler, data)
        except HTTPClientError as error:
            # What it said is in the journal already.
            refused = 400 <= error.code < 500
            raise HTTPError(403 if refused else 503, UNCONFIRMED if refused else NO_PROVIDER) from None
        except (OSError, ValueError) as error:
            self.log.error("The provider: %s", error)  # noqa: TRY400 (it is no bug of ours)
            raise HTTPError(503, NO_PROVIDER) from None
        account = await self.account(model["name"])
        if account is None and self.settings["oidc"]["create_accounts"]:
            if not self.may_enter(
                self.joined(accounts.Account(model["name"], 2**31, frozenset()), model["auth_state"])
            ):
                raise HTTPError(403, NOT_ALLOWED)
            await create(model["name"])
            account = await self.account(model["name"])
        if account is None:
            self.log.warning("User %s has no account on this host", model["name"])
            raise HTTPError(403, NO_ACCOUNT)
        account = self.joined(account, model["auth_state"])
        if not self.may_enter(account):
            self.log.warning("User %r is not in any of the lists of those who may log in", account.name)
            raise HTTPError(403, NOT_ALLOWED)
        self.said[account.name] = SAME
        self._asked[account.name] = time.monotonic()
        return {"name": account.name, "admin": self.administers(account), "auth_state": model["auth_state"]}

    def joined(self, account: accounts.Account, auth_state: dict[str, Any] | None) -> accounts.Account:
        """Return the account with the provider's groups beside its own."""
        return accounts.Account(account.name, account.uid, account.groups | self.provided_groups(auth_state))

    async def check_allowed(self, username: str, authentication: dict[str, Any] | None = None) -> bool:  # noqa: ARG002
        """Return True: `authenticate` has looked, for it alone knows the provider's groups."""
        return True

    async def standing(self, user: Any) -> accounts.Account | None:
        """Return the account as it is now, with the groups that the provider has named last."""
        if self.said.get(user.name) == OTHER:
            return None
        account = await super().standing(user)
        return account and self.joined(account, await user.get_auth_state())

    async def further_groups(self, user: Any) -> frozenset[str]:
        """Return the groups that the provider has named last."""
        return self.provided_groups(await user.get_auth_state())

    async def refresh_user(self, user: Any, handler: Any = None) -> dict[str, Any] | bool:
        """
        Return whether somebody who is logged in still may be, and what the provider has said of them.

        It is asked in the background: nobody waits for it, and one that does not answer changes nothing. Who it says
        nothing of any more, because its tokens are used up, logs in again; their servers, which come with a token of
        the hub, go on.
        """
        if user.name not in self.asking and time.monotonic() - self._asked.get(user.name, 0.0) > ASK_SECONDS:
            self._asked[user.name] = time.monotonic()
            self.asking[user.name] = task = asyncio.ensure_future(self.ask_again(user))
            task.add_done_callback(lambda _: self.asking.pop(user.name))
        found = await super().refresh_user(user, handler)
        if not isinstance(found, dict):
            return found
        # Handlers of the hub have this attribute after a login with a token only.
        if self.said.get(user.name) == EXPIRED and handler and not getattr(handler, "_token_authenticated", False):
            return False
        # What the hub is given it writes down, with the tokens that it knows, and so over those that are just coming.
        # Who uses an old one again has none any more.
        if found["admin"] == user.admin or user.name in self.asking or self.turns[user.name].locked():
            return True
        return found

    async def ask_again(self, user: Any) -> None:
        """Have the provider say who somebody is now, and keep that."""
        async with self.turns[user.name]:
            await self._ask_again(user)

    async def _ask_again(self, user: Any) -> None:
        before: dict[str, Any] = await user.get_auth_state() or {}
        try:
            await self.discover()
            model = await self.renew(before) or await GenericOAuthenticator.refresh_user(self, user)
            if isinstance(model, dict):
                same = model["name"] == self.user_info_to_username(before[self.user_auth_state_key])
                await user.save_auth_state(model["auth_state"])
                self.said[user.name] = SAME if same else OTHER
            elif before.get("refresh_token"):
                self.said[user.name] = EXPIRED
        except HTTPError as error:
            # Of the claim, which is gone or no name any more.
            if error.status_code == 403:
                self.said[user.name] = OTHER
        except (HTTPClientError, OSError, ValueError) as error:
            self.log.warning("The provider has not said anything new of %s: %s", user.name, error)

    async def get_token_info(self, handler: Any, params: dict[str, str]) -> dict[str, Any]:
        """Get a token, and remember when half of its life will be over."""
        found: dict[str, Any] = await super().get_token_info(handler, params)
        if str(found.get("expires_in", "")).isdecimal():
            found[RENEW_AT] = time.time() + int(found["expires_in"]) / 2
        return found

    async def renew(self, before: dict[str, Any]) -> dict[str, Any] | None:
        """Return what the provider says with a new token, if servers have the old one, it is time, and it gives one."""
        token = before.get("refresh_token")
        if not (token and self.settings["oidc"]["token_format"] and is_due(before["token_response"])):
            return None
        try:
            found = await self.get_token_info(None, self.build_refresh_token_request_params(token))
        except (HTTPClientError, HTTPError) as error:
            code = error.code if isinstance(error, HTTPClientError) else error.status_code
            if code >= 500:
                raise OSError(str(error)) from None
            # The old one may still be good.
            return None
        model: dict[str, Any] = await self._token_to_auth_model({"refresh_token": token, **found})
        return model

    async def token_of(self, user: Any) -> str:
        """Return what the user's servers get as their token, renewed if it is time; nothing where they get none."""
        layout: str = self.settings["oidc"]["token_format"]
        state = await user.get_auth_state() if layout else None
        if not state or self.said.get(user.name) in (EXPIRED, OTHER):
            return ""
        if is_due(state["token_response"]):
            await self.ask_again(user)
            state = await user.get_auth_state()
        if "{userinfo}" in layout:
            try:
                await self.discover()
            except HTTPError:
                return ""
            layout = layout.replace("{userinfo}", self.userdata_url.partition("://")[2])
        return layout.replace("{token}", state["access_token"])

    def get_handlers(self, app: Any) -> list[tuple[str, type]]:
        """Serve the login page ourselves, which has a button that leads to the provider."""
        return [*GenericOAuthenticator.get_handlers(self, app), ("/login", LocalizedLoginHandler)]


def is_due(token_info: dict[str, Any]) -> bool:
    """Return whether half of a token's life is over, as far as the provider has told how long that is."""
    return bool(time.time() > token_info.get(RENEW_AT, math.inf))


def endpoints(document: dict[str, Any], issuer: str, insecure: bool) -> tuple[str, str, str]:
    """Return where the provider sends browsers, gives tokens and says who somebody is. Raises ValueError."""
    if document["issuer"].rstrip("/") != issuer.rstrip("/"):
        raise ValueError(f"it says that it is {document['issuer']}")
    found = tuple(str(document[f"{name}_endpoint"]) for name in ("authorization", "token", "userinfo"))
    if not insecure and not all(url.startswith("https://") for url in found):
        raise ValueError("it has addresses without TLS")
    return found[0], found[1], found[2]


async def create(name: str) -> None:
    """Make a Unix account, by the service manager, for the hub itself may not write where accounts are."""
    useradd = ["/usr/sbin/useradd", "--create-home", "--key", "HOME_MODE=0700", "--shell", "/bin/bash", "--", name]
    process = await asyncio.create_subprocess_exec(
        "/usr/bin/systemd-run", "--quiet", "--wait", "--collect", "--service-type=exec", *useradd
    )
    await process.wait()


def configure(c: Any, settings: dict[str, Any]) -> None:
    """Fill JupyterHub's configuration from the part of the settings that is about OpenID Connect."""
    c.JupyterHub.authenticator_class = CampusOIDCAuthenticator
    # Its tokens are kept, encrypted, to know the provider's groups later.
    c.Authenticator.enable_auth_state = True
    provider = c.CampusOIDCAuthenticator
    provider.client_id = settings["client_id"]
    provider.client_secret = SECRET_FILE.read_text().splitlines()[-1]
    provider.scope = settings["scopes"]
    provider.login_service = settings["service_name"]
    provider.basic_auth = True
    provider.http_request_kwargs = TIMEOUTS
