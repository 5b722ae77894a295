"""Passwords checked by PAM."""

from __future__ import annotations

import pamela
from jupyterhub.auth import PAMAuthenticator
from tornado.web import HTTPError

from campushub_hub import accounts

from .base import ACCOUNT_EXPIRED, BROKEN, LOCKED, MORE_NEEDED, NOT_ALLOWED, PASSWORD_EXPIRED, CampusAuthenticator

# Return codes of PAM as Linux numbers them (pam(3)). Those that are in none of these say that the host's PAM is broken.
# PAM_AUTH_ERR and PAM_USER_UNKNOWN, which must not be told apart: the attempt has failed.
WRONG = {7, 10}
# PAM_AUTHINFO_UNAVAIL, PAM_AUTHTOK_LOCK_BUSY and PAM_TRY_AGAIN: it was not checked.
UNAVAILABLE = {9, 22, 24}
# The user is refused, and for another reason than a wrong password.
REFUSED = {
    6: NOT_ALLOWED,  # PAM_PERM_DENIED
    11: LOCKED,  # PAM_MAXTRIES
    12: PASSWORD_EXPIRED,  # PAM_NEW_AUTHTOK_REQD
    13: ACCOUNT_EXPIRED,  # PAM_ACCT_EXPIRED
    16: PASSWORD_EXPIRED,  # PAM_CRED_EXPIRED
    19: MORE_NEEDED,  # PAM_CONV_ERR
    27: PASSWORD_EXPIRED,  # PAM_AUTHTOK_EXPIRED
}


class CampusPAMAuthenticator(CampusAuthenticator, PAMAuthenticator):  # type: ignore[misc]
    """Checks passwords with PAM, as every other login at the host."""

    async def check_password(self, name: str, password: str) -> bool:
        """Return whether PAM accepts name and password. Raises HTTPError if it refuses the user for another reason."""

        def ask() -> bool:
            try:
                pamela.authenticate(name, password, service=self.service, encoding=self.encoding)
            except pamela.PAMError as error:
                code = error.errno
                self.log.info("PAM refuses %s: %s", name, error)
                if code in WRONG:
                    return False
                if code in REFUSED:
                    raise HTTPError(403, REFUSED[code]) from None
                if code in UNAVAILABLE and self.directory.exists():
                    raise accounts.DirectoryTimeoutError from None
                self.log.error("The host cannot check passwords: %s. See %s", error, f"/etc/pam.d/{self.service}")  # noqa: TRY400 (no bug of ours)
                raise HTTPError(503, BROKEN) from None
            return True

        return await accounts.check_password(ask, self.password_timeout)
