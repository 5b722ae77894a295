"""Passwords checked by PAM."""

from __future__ import annotations

import pamela
from jupyterhub.auth import PAMAuthenticator
from tornado.web import HTTPError

from campushub_hub import accounts

from .base import NOT_ALLOWED, CampusAuthenticator

# PAM_PERM_DENIED and PAM_ACCT_EXPIRED: the password is right, but the host refuses the user.
REFUSED = (6, 13)


class CampusPAMAuthenticator(CampusAuthenticator, PAMAuthenticator):  # type: ignore[misc]
    """Checks passwords with PAM, as every other login at the host."""

    async def check_password(self, name: str, password: str) -> bool:
        """Return whether PAM accepts name and password."""

        def ask() -> bool:
            try:
                pamela.authenticate(name, password, service=self.service, encoding=self.encoding)
            except pamela.PAMError as error:
                self.log.info("PAM refuses %s: %s", name, error)
                if error.errno in REFUSED:
                    raise HTTPError(403, NOT_ALLOWED) from None
                return False
            return True

        return await accounts.check_password(ask, self.password_timeout)
