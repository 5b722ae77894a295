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


def ask(name: str, password: str, service: str, encoding: str) -> tuple[int, bool]:
    """Return PAM's code, which is 0 for a user who may log in, and whether the password is right. Raises PAMError."""
    # pamela.authenticate() does not tell whose code it is, that of the password or that of the account.
    answers = pamela.new_simple_password_conv((password,), encoding)
    handle = pamela.pam_start(service, name, conv_func=answers, encoding=encoding)
    code, right = pamela.PAM_AUTHENTICATE(handle, 0), False
    if code == pamela.PAM_SUCCESS:
        code, right = pamela.PAM_ACCT_MGMT(handle, 0), True
    if code == pamela.PAM_SUCCESS:
        # Gets the ticket of a user of Kerberos; a login without one is a login.
        pamela.PAM_SETCRED(handle, pamela.PAM_REINITIALIZE_CRED)
    pamela.PAM_END(handle, code)
    return code, right


class CampusPAMAuthenticator(CampusAuthenticator, PAMAuthenticator):  # type: ignore[misc]
    """Checks passwords with PAM, as every other login at the host."""

    async def check_password(self, name: str, password: str) -> bool:
        """Return whether PAM accepts name and password. Raises HTTPError if it refuses the user for another reason."""

        def check() -> bool:
            try:
                code, right = ask(name, password, self.service, self.encoding)
            except pamela.PAMError as error:
                code, right = error.errno, False
            if code == pamela.PAM_SUCCESS:
                return True
            reason = pamela.PAMError(errno=code)
            self.log.info("PAM refuses %s: %s", name, reason)
            if code in WRONG and not right:
                return False
            if code in REFUSED or right:
                raise HTTPError(403, REFUSED.get(code, NOT_ALLOWED))
            if code in UNAVAILABLE and self.directory.exists():
                raise accounts.DirectoryTimeoutError
            self.log.error("The host cannot check passwords: %s. See /etc/pam.d/%s", reason, self.service)
            raise HTTPError(503, BROKEN)

        return await accounts.check_password(check, self.password_timeout)
