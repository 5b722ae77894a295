"""Passwords checked by a directory itself, where the host's PAM does not ask it. Accounts are still the host's."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

import ldap3
from ldap3.core.exceptions import LDAPBindError, LDAPException
from ldapauthenticator import LDAPAuthenticator
from traitlets import Instance, List

from .accounts import SilentDirectoryError, check_password
from .authenticators import PASSWORD_SECONDS, CampusAuthenticator

PASSWORD_FILE = Path("/etc/jupyterhub/ldap_password")


class DirectoryError(SilentDirectoryError):
    """No server of the directory could be used, for a reason."""

    def __init__(self, reasons: list[str]) -> None:
        super().__init__("; ".join(reasons))

    def __str__(self) -> str:
        return str(self.args[0])


class Directory(LDAPAuthenticator):  # type: ignore[misc]
    """LDAPAuthenticator with several servers, each asked when those before it do not answer, and with deadlines."""

    uris: Any = List(config=True, help="Servers, such as ldaps://ldap.example.org.")

    def get_connection(self, userdn: str, password: str) -> Any:
        """Return a connection as that user; nothing if the password is wrong. Raises DirectoryError."""
        reasons = []
        for uri in self.uris:
            server = ldap3.Server(uri, tls=ldap3.Tls(**self.tls_kwargs), connect_timeout=2, get_info=ldap3.NONE)
            encrypt = not server.ssl and self.tls_strategy.name == "before_bind"
            try:
                return ldap3.Connection(
                    server,
                    user=userdn,
                    password=password,
                    auto_bind=ldap3.AUTO_BIND_TLS_BEFORE_BIND if encrypt else ldap3.AUTO_BIND_NO_TLS,
                    receive_timeout=3,
                    # Else a server could send the password elsewhere.
                    auto_referrals=False,
                )
            except LDAPBindError:
                if userdn != self.lookup_dn_search_user or not self.lookup_dn:
                    return None
                # That is nobody's wrong password, but the site's.
                reasons.append(f"{uri}: refuses {userdn or 'the nameless'}, as whom users are looked up")
            except (LDAPException, OSError, ssl.SSLError) as error:
                reasons.append(f"{uri}: {error}")
        raise DirectoryError(reasons)


class CampusLDAPAuthenticator(CampusAuthenticator):
    """Checks passwords by logging in to the directory with them."""

    directory_login = Instance(Directory)

    def _directory_login_default(self) -> Directory:
        return Directory(parent=self)

    async def verify(self, name: str, password: str) -> bool:
        """Return whether the directory accepts name and password."""

        def ask() -> bool:
            # It waits for the network in its own thread, in which nothing else runs.
            form = {"username": name, "password": password}
            return asyncio.run(self.directory_login.authenticate(None, form)) is not None

        return await check_password(ask, PASSWORD_SECONDS)


def configure(c: Any, settings: dict[str, Any]) -> None:
    """Fill JupyterHub's configuration from the part of the settings that is about LDAP."""
    c.JupyterHub.authenticator_class = CampusLDAPAuthenticator
    directory = c.Directory
    directory.uris = settings["uris"]
    # What LDAPAuthenticator wants to be told; the servers above count.
    directory.server_address = settings["uris"][0]
    directory.tls_strategy = "before_bind" if settings["start_tls"] else "insecure"
    directory.tls_kwargs = {"validate": ssl.CERT_NONE if settings["allow_insecure"] else ssl.CERT_REQUIRED}
    if settings["ca_file"]:
        directory.tls_kwargs["ca_certs_file"] = settings["ca_file"]
    # Names have been checked before.
    directory.valid_username_regex = r"^[a-z_][a-z0-9_.-]*\Z"
    directory.bind_dn_template = settings["bind_templates"]
    directory.user_search_base = settings["user_base_dn"]
    directory.user_attribute = settings["user_attribute"]
    directory.search_filter = settings["filter"]
    directory.use_lookup_dn_username = False
    if not settings["bind_templates"]:
        directory.lookup_dn = True
        directory.lookup_dn_user_dn_attribute = settings["user_attribute"]
        directory.lookup_dn_search_filter = "({login_attr}={login})"
        directory.lookup_dn_search_user = settings["lookup_dn"]
        directory.lookup_dn_search_password = (
            PASSWORD_FILE.read_text().splitlines()[-1] if settings["lookup_dn"] else ""
        )
