"""
Logins at an OpenID Connect provider: the university's own, or a bridge to SAML.

The name of the Unix account is the value of one claim, in lower case and without a domain of the site.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

from jupyterhub.utils import url_path_join
from oauthenticator.generic import GenericOAuthenticator
from oauthenticator.oauth2 import (
    OAuthCallbackHandler,
    OAuthLoginHandler,
    OAuthLogoutHandler,
    _deserialize_state,
    _serialize_state,
)
from tornado.httpclient import AsyncHTTPClient, HTTPClientError
from tornado.web import HTTPError
from traitlets import Bool, Float, Unicode, default

from campushub_hub import accounts
from campushub_hub.handlers import LogoutGuard, is_click, remember_click
from campushub_hub.translation import gettext_noop

from .base import NO_ACCOUNT, NO_NAME, NOT_ALLOWED, CampusAuthenticator

NO_PROVIDER = gettext_noop("The sign-in service of the university does not answer. Please try again in a few minutes.")
UNCONFIRMED = gettext_noop("The sign-in service of the university has not confirmed who you are. Please try again.")
TIMEOUTS: dict[str, Any] = {"connect_timeout": 3, "request_timeout": 6}

# Key beside the provider's own in the information about a token: when a token that a server has must be renewed.
RENEW_AT = "campushub_renew_at"

# The provider's last answer about a user who is logged in: the same user; its tokens have expired; another user.
SAME, EXPIRED, OTHER = "same", "expired", "other"


class LoginHandler(OAuthLoginHandler):  # type: ignore[misc]
    """Redirects the browser to the provider."""

    async def get(self) -> None:
        """Discover the provider and redirect the browser to it."""
        await self.authenticator.discover()
        super().get()

    def set_state_cookie(self, state_cookie_value: str) -> None:
        """Store the state of this login, and with it whether it began with a click."""
        state = _deserialize_state(state_cookie_value) | {"clicked": is_click(self)}
        super().set_state_cookie(_serialize_state(state))


class CallbackHandler(OAuthCallbackHandler):  # type: ignore[misc]
    """Receives the browser from the provider."""

    async def get(self) -> None:
        """Discover the provider and ask it who has logged in."""
        await self.authenticator.discover()
        await super().get()

    async def login_user(self, data: Any = None) -> Any:
        """Log in whoever the provider names; a click that the login began with is theirs."""
        user = await super().login_user(data)
        if user and _deserialize_state(self.get_state_cookie()).get("clicked"):
            remember_click(self, user)
        return user


class GuardedLogoutHandler(LogoutGuard, OAuthLogoutHandler):  # type: ignore[misc]
    """Logs out here, and at the provider where a site wants that."""


class CampusOIDCAuthenticator(CampusAuthenticator, GenericOAuthenticator):  # type: ignore[misc]
    """GenericOAuthenticator whose users are Unix accounts; `username_claim` names the account."""

    issuer = Unicode("", config=True, help="URL of the OpenID Connect provider. Its endpoints are discovered there.")
    allow_insecure = Bool(False, config=True, help="Whether a provider without TLS is accepted.")
    client_secret_file = Unicode(
        "/etc/jupyterhub/oidc_secret", config=True, help="Path of a file whose last line is the client secret."
    )
    groups_claim = Unicode(
        "",
        config=True,
        help="A claim with a list of groups, such as realm_access.roles, which count like Unix groups. Empty is none.",
    )
    create_accounts = Bool(False, config=True, help="Whether a missing Unix account is created at the first login.")
    token_format = Unicode(
        "",
        config=True,
        help="""
        What users' servers find in the file that OAUTH2_TOKEN names: {token} is the access token of the user,
        {userinfo} the address of the provider's userinfo endpoint without the scheme. Empty gives servers no token.
        """,
    )
    refresh_interval = Float(60, config=True, help="Seconds between two questions to the provider about a user.")

    login_handler = LoginHandler
    callback_handler = CallbackHandler
    logout_handler = GuardedLogoutHandler
    _discovered = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.provider_answers: dict[str, str] = {}
        self._asked: dict[str, float] = {}
        self.refreshes: dict[str, asyncio.Task[None]] = {}
        # A refresh token that can be used once must not be used by two requests at the same time.
        self.locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def _requires_manage_groups(self, change: Any) -> None:
        """Accept names of groups without `manage_groups`: ours are those of the host and the provider together."""

    @default("client_secret")
    def _client_secret(self) -> str:
        return Path(self.client_secret_file).read_text().splitlines()[-1]

    @default("enable_auth_state")
    def _keep_tokens(self) -> bool:
        # Encrypted; the provider's groups are read from it later.
        return True

    @default("basic_auth")
    def _basic_auth(self) -> bool:
        return True

    @default("http_request_kwargs")
    def _timeouts(self) -> dict[str, Any]:
        return TIMEOUTS

    async def discover(self) -> None:
        """Discover the provider's endpoints, once. Raises HTTPError for a page that says that it does not answer."""
        if self._discovered:
            return
        address = url_path_join(self.issuer, "/.well-known/openid-configuration")
        try:
            answer = await AsyncHTTPClient().fetch(address, **TIMEOUTS)
            found = endpoints(json.loads(answer.body), self.issuer, self.allow_insecure)
        except Exception as error:  # noqa: BLE001 (whatever the reason, the provider cannot be used)
            self.log.error("%s: %s", address, error)  # noqa: TRY400
            raise HTTPError(503, NO_PROVIDER) from None
        self.authorize_url, self.token_url, self.userdata_url = found
        self._discovered = True

    def user_info_to_username(self, user_info: dict[str, Any]) -> str:
        """Return the name of the Unix account. Raises HTTPError if the claim is missing, or no account can have it."""
        claim = self.username_claim
        value = user_info.get(claim)
        if not isinstance(value, str) or (claim == "email" and user_info.get("email_verified") in (False, "false")):
            self.log.warning("The provider has not sent the claim %s of a user, or has not verified it", claim)
            raise HTTPError(403, NO_NAME)
        return self.unix_name(value)

    def groups_in(self, auth_state: dict[str, Any] | None) -> frozenset[str]:
        """Return the groups that the provider has named."""
        claim = self.groups_claim
        named: Any = (auth_state or {}).get(self.user_auth_state_key) or {}
        for part in claim.split(".") if claim else ():
            named = named.get(part) if isinstance(named, dict) else None
        return (
            frozenset(name for name in named if isinstance(name, str))
            if claim and isinstance(named, list)
            else frozenset()
        )

    async def authenticate(self, handler: Any, data: Any = None) -> dict[str, Any] | None:
        """Return the user named by the provider, as an account of the host, or raise HTTPError with a reason."""
        try:
            model: dict[str, Any] = await GenericOAuthenticator.authenticate(self, handler, data)
        except HTTPClientError as error:
            # Its answer is in the journal already.
            refused = 400 <= error.code < 500
            raise HTTPError(403 if refused else 503, UNCONFIRMED if refused else NO_PROVIDER) from None
        except (OSError, ValueError) as error:
            self.log.error("The provider: %s", error)  # noqa: TRY400 (no bug of ours)
            raise HTTPError(503, NO_PROVIDER) from None
        account = await self.account(model["name"])
        if account is None and self.create_accounts:
            if not self.is_allowed(
                self.joined(accounts.Account(model["name"], 2**31, frozenset()), model["auth_state"])
            ):
                raise HTTPError(403, NOT_ALLOWED)
            await create_account(model["name"])
            account = await self.account(model["name"])
        if account is None:
            self.log.warning("User %s has no account on this host", model["name"])
            raise HTTPError(403, NO_ACCOUNT)
        account = self.joined(account, model["auth_state"])
        if not self.is_allowed(account):
            self.log.warning("User %r is in none of the lists of allowed users and groups", account.name)
            raise HTTPError(403, NOT_ALLOWED)
        self.refuse_twin(account)
        self.provider_answers[account.name] = SAME
        self._asked[account.name] = time.monotonic()
        return {"name": account.name, "admin": self.is_admin_account(account), "auth_state": model["auth_state"]}

    def joined(self, account: accounts.Account, auth_state: dict[str, Any] | None) -> accounts.Account:
        """Return the account with the provider's groups added to its own."""
        return replace(account, groups=account.groups | self.groups_in(auth_state))

    async def check_allowed(self, username: str, authentication: dict[str, Any] | None = None) -> bool:  # noqa: ARG002
        """Return True: `authenticate` has checked, because it alone knows the provider's groups."""
        return True

    async def current_account(self, user: Any) -> accounts.Account | None:
        """Return the current account with the groups that the provider has named last."""
        if self.provider_answers.get(user.name) == OTHER:
            return None
        account = await super().current_account(user)
        return account and self.joined(account, await user.get_auth_state())

    async def provider_groups(self, user: Any) -> frozenset[str]:
        """Return the groups that the provider has named last."""
        return self.groups_in(await user.get_auth_state())

    async def refresh_user(self, user: Any, handler: Any = None) -> dict[str, Any] | bool:
        """
        Return whether a user who is logged in is still allowed, by the host and by the provider's last answer.

        The provider is asked in the background: nobody waits for it, and if it does not answer nothing changes. Users
        whose tokens have expired log in again; their servers, which use tokens of the hub, keep running.
        """
        if (
            user.name not in self.refreshes
            and time.monotonic() - self._asked.get(user.name, 0.0) > self.refresh_interval
        ):
            self._asked[user.name] = time.monotonic()
            self.refreshes[user.name] = task = asyncio.ensure_future(self.refresh_account(user))
            task.add_done_callback(lambda _: self.refreshes.pop(user.name))
        found = await super().refresh_user(user, handler)
        if not isinstance(found, dict):
            return found
        # Only handlers whose request came with a token have this attribute.
        if (
            self.provider_answers.get(user.name) == EXPIRED
            and handler
            and not getattr(handler, "_token_authenticated", False)
        ):
            return False
        # The hub saves what is returned here together with the tokens it has read before, and would overwrite tokens
        # that are being renewed. A refresh token that is used twice is void.
        if found["admin"] == user.admin or user.name in self.refreshes or self.locks[user.name].locked():
            return True
        return found

    async def refresh_account(self, user: Any) -> None:
        """Ask the provider about the user and save the answer."""
        async with self.locks[user.name]:
            await self._refresh_account(user)

    async def _refresh_account(self, user: Any) -> None:
        before: dict[str, Any] = await user.get_auth_state() or {}
        try:
            await self.discover()
            model = await self.renew(before) or await GenericOAuthenticator.refresh_user(self, user)
            if isinstance(model, dict):
                same = model["name"] == self.user_info_to_username(before[self.user_auth_state_key])
                await user.save_auth_state(model["auth_state"])
                self.provider_answers[user.name] = SAME if same else OTHER
            elif before.get("refresh_token"):
                self.provider_answers[user.name] = EXPIRED
        except HTTPError as error:
            # The claim is missing, or no valid name any more.
            if error.status_code == 403:
                self.provider_answers[user.name] = OTHER
        except (HTTPClientError, OSError, ValueError) as error:
            self.log.warning("The provider could not be asked about %s: %s", user.name, error)

    async def get_token_info(self, handler: Any, params: dict[str, str]) -> dict[str, Any]:
        """Get a token, and record when half of its lifetime will be over."""
        found: dict[str, Any] = await super().get_token_info(handler, params)
        if str(found.get("expires_in", "")).isdecimal():
            found[RENEW_AT] = time.time() + int(found["expires_in"]) / 2
        return found

    async def renew(self, before: dict[str, Any]) -> dict[str, Any] | None:
        """Return the provider's answer with a new token, if servers use tokens, one is due and it is issued."""
        token = before.get("refresh_token")
        if not (token and self.token_format and is_due(before["token_response"])):
            return None
        try:
            found = await self.get_token_info(None, self.build_refresh_token_request_params(token))
        except (HTTPClientError, HTTPError) as error:
            code = error.code if isinstance(error, HTTPClientError) else error.status_code
            if code >= 500:
                raise OSError(str(error)) from None
            # The old one may still be valid.
            return None
        model: dict[str, Any] = await self._token_to_auth_model({"refresh_token": token, **found})
        return model

    async def token_of(self, user: Any) -> str:
        """Return the token for the user's servers, renewed if that is due; empty where they get none."""
        layout: str = self.token_format
        state = await user.get_auth_state() if layout else None
        if not state or self.provider_answers.get(user.name) in (EXPIRED, OTHER):
            return ""
        if is_due(state["token_response"]):
            await self.refresh_account(user)
            state = await user.get_auth_state()
        if "{userinfo}" in layout:
            try:
                await self.discover()
            except HTTPError:
                return ""
            layout = layout.replace("{userinfo}", self.userdata_url.partition("://")[2])
        return layout.replace("{token}", state["access_token"])


def is_due(token_info: dict[str, Any]) -> bool:
    """Return whether half of a token's lifetime, if the provider has told it, is over."""
    return bool(time.time() > token_info.get(RENEW_AT, math.inf))


def endpoints(document: dict[str, Any], issuer: str, insecure: bool) -> tuple[str, str, str]:
    """Return the provider's endpoints for authorization, tokens and userinfo. Raises ValueError."""
    if document["issuer"].rstrip("/") != issuer.rstrip("/"):
        raise ValueError(f"it says that it is {document['issuer']}")
    found = tuple(str(document[f"{name}_endpoint"]) for name in ("authorization", "token", "userinfo"))
    if not insecure and not all(url.startswith("https://") for url in found):
        raise ValueError("it has addresses without TLS")
    return found[0], found[1], found[2]


async def create_account(name: str) -> None:
    """Create a Unix account through the service manager, because the hub itself cannot write to /etc."""
    useradd = ["/usr/sbin/useradd", "--create-home", "--key", "HOME_MODE=0700", "--shell", "/bin/bash", "--", name]
    process = await asyncio.create_subprocess_exec(
        "/usr/bin/systemd-run", "--quiet", "--wait", "--collect", "--service-type=exec", *useradd
    )
    await process.wait()
