"""Passwords checked by an LDAP directory, where PAM does not use it. Accounts are still those of the host."""

from __future__ import annotations

import asyncio
import re
import ssl
from pathlib import Path
from typing import Any

import ldap3
from ldap3.core.exceptions import LDAPException
from ldapauthenticator import LDAPAuthenticator
from tornado.web import HTTPError
from traitlets import Bool, Instance, List, Unicode, default

from campushub_hub.accounts import DirectoryTimeoutError, check_password

from .base import ACCOUNT_EXPIRED, LOCKED, NOT_ALLOWED, PASSWORD_EXPIRED, CampusAuthenticator

# Results of a bind that say nothing about the password (RFC 4511): strongerAuthRequired, confidentialityRequired, busy
# and unavailable.
UNABLE = {8, 13, 51, 52}
# Active Directory answers each of these like a wrong password, with an error code of Windows (winerror.h) in the text
# beside it. But for the last, it does so only if the password is right.
REFUSED = {
    "530": NOT_ALLOWED,  # ERROR_INVALID_LOGON_HOURS
    "531": NOT_ALLOWED,  # ERROR_INVALID_WORKSTATION
    "532": PASSWORD_EXPIRED,  # ERROR_PASSWORD_EXPIRED
    "533": NOT_ALLOWED,  # ERROR_ACCOUNT_DISABLED
    "701": ACCOUNT_EXPIRED,  # ERROR_ACCOUNT_EXPIRED
    "773": PASSWORD_EXPIRED,  # ERROR_PASSWORD_MUST_CHANGE
    "775": LOCKED,  # ERROR_ACCOUNT_LOCKED_OUT
}


def refusal(message: str) -> str:
    """Return the reason that Active Directory gives for a refused bind, if it is another than a wrong password."""
    found = re.search(r"AcceptSecurityContext error, data ([0-9a-f]+),", message)
    return REFUSED.get(found[1], "") if found else ""


class DirectoryError(DirectoryTimeoutError):
    """No server of the directory could be used; the text has the reason of each."""

    def __init__(self, reasons: list[str]) -> None:
        super().__init__("; ".join(reasons))

    def __str__(self) -> str:
        return str(self.args[0])


class LDAPDirectory(LDAPAuthenticator):  # type: ignore[misc]
    """LDAPAuthenticator with several servers, each tried when those before it do not answer, and with timeouts."""

    uris: Any = List()

    def get_connection(self, userdn: str, password: str) -> Any:
        """
        Return a connection as that user; nothing if the password is wrong.

        Raises DirectoryError, and HTTPError with the reason if the directory refuses the user for another one.
        """
        reasons = []
        for uri in self.uris:
            server = ldap3.Server(uri, tls=ldap3.Tls(**self.tls_kwargs), connect_timeout=2, get_info=ldap3.NONE)
            encrypt = not server.ssl and self.tls_strategy.name == "before_bind"
            try:
                connection = ldap3.Connection(
                    server,
                    user=userdn,
                    password=password,
                    receive_timeout=3,
                    # With referrals a server could have the password sent elsewhere.
                    auto_referrals=False,
                )
                connection.open(read_server_info=False)
                if encrypt and not connection.start_tls(read_server_info=False):
                    reasons.append(f"{uri}: refuses StartTLS")
                    continue
                if connection.bind(read_server_info=False):
                    return connection
            except (LDAPException, OSError, ssl.SSLError) as error:
                reasons.append(f"{uri}: {error}")
                continue
            code, description, message = (connection.result[field] for field in ("result", "description", "message"))
            connection.unbind()
            if code in UNABLE:
                reasons.append(f"{uri}: {description} {message}".rstrip())
                continue
            if userdn != self.lookup_dn_search_user or not self.lookup_dn:
                if reason := refusal(message):
                    self.log.info("%s refuses %s: %s", uri, userdn, message)
                    raise HTTPError(403, reason)
                return None
            # It refuses the hub's own account, not the user.
            reasons.append(f"{uri}: refuses {userdn or 'anonymous'}, as whom users are looked up")
        raise DirectoryError(reasons)


class CampusLDAPAuthenticator(CampusAuthenticator):
    """Checks passwords by an LDAP bind."""

    uris = List(
        Unicode(),
        config=True,
        help="Servers of the directory, such as ldaps://ldap.example.org. Each is tried if those before do not answer.",
    )
    start_tls = Bool(True, config=True, help="Whether connections to ldap:// are encrypted by StartTLS.")
    allow_insecure = Bool(
        False, config=True, help="Whether connections without TLS, or with an invalid certificate, are accepted."
    )
    ca_file = Unicode("", config=True, help="Path of the CA certificates (PEM). Empty is the default of OpenSSL.")
    bind_templates = List(
        Unicode(),
        config=True,
        help="Names of users in the directory, such as uid={username},ou=people,dc=example. Empty looks them up.",
    )
    user_base_dn = Unicode("", config=True, help="Where in the directory users are looked up.")
    user_attribute = Unicode("uid", config=True, help="The attribute that holds the name of a user.")
    user_filter = Unicode("", config=True, help="An LDAP filter that must match the user. Empty matches everybody.")
    lookup_dn = Unicode("", config=True, help="As whom users are looked up. Empty is anonymously.")
    lookup_password_file = Unicode(
        "/etc/jupyterhub/ldap_password",
        config=True,
        help="Path of a file whose last line is the password of `lookup_dn`.",
    )

    directory_login = Instance(LDAPDirectory)

    @default("directory_login")
    def _directory_login(self) -> LDAPDirectory:
        tls: dict[str, Any] = {"validate": ssl.CERT_NONE if self.allow_insecure else ssl.CERT_REQUIRED}
        if self.ca_file:
            tls["ca_certs_file"] = self.ca_file
        look_up: dict[str, Any] = {}
        if not self.bind_templates:
            look_up = {
                "lookup_dn": True,
                "lookup_dn_user_dn_attribute": self.user_attribute,
                "lookup_dn_search_filter": "({login_attr}={login})",
                "lookup_dn_search_user": self.lookup_dn,
                "lookup_dn_search_password": last_line(self.lookup_password_file) if self.lookup_dn else "",
            }
        return LDAPDirectory(
            parent=self,
            uris=self.uris,
            # Required by LDAPAuthenticator; `uris` are used.
            server_address=self.uris[0],
            tls_strategy="before_bind" if self.start_tls else "insecure",
            tls_kwargs=tls,
            # `unix_name` has checked the name.
            valid_username_regex=r"^[a-z_][a-z0-9_.-]*\Z",
            bind_dn_template=self.bind_templates,
            user_search_base=self.user_base_dn,
            user_attribute=self.user_attribute,
            search_filter=self.user_filter,
            use_lookup_dn_username=False,
            **look_up,
        )

    async def check_password(self, name: str, password: str) -> bool:
        """Return whether the directory accepts name and password."""

        def ask() -> bool:
            # An event loop of its own, because the library blocks it.
            form = {"username": name, "password": password}
            return asyncio.run(self.directory_login.authenticate(None, form)) is not None

        return await check_password(ask, self.password_timeout)


def last_line(path: str) -> str:
    """Return the last line of a file with a secret, which a comment may precede."""
    return Path(path).read_text().splitlines()[-1]
