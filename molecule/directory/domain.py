#!/usr/bin/python3
"""
A domain of Active Directory, made from Debian's Samba on one test host: AD.CAMPUS.TEST.

Run as root, with a certificate in /etc/ssl/private. Its people have both, a SID and POSIX attributes.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REALM = "AD.CAMPUS.TEST"
SUFFIX = "dc=ad,dc=campus,dc=test"
CONTROLLER = "directory-ad.ad.campus.test"
SECRET = "Reader-4711"  # noqa: S105 (of the test)
#: name, number
PEOPLE = [("Anna", 30001), ("berta", 30002), ("clara", 30003)]
#: name, number, members
GROUPS = [("Hub Users", 31001, ["Anna", "berta"]), ("teachers", 31002, ["berta"]), ("sudo", 31003, ["berta"])]


def password_of(number: int) -> str:
    """Return the password of somebody."""
    return f"Secret-{number}-ß"


def run(*command: str) -> None:
    """Run a program to its end."""
    done = subprocess.run(command, text=True, check=False, capture_output=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stdout}{done.stderr}")


def entries() -> str:
    """Return what is added to the domain as LDIF, passwords aside."""
    text = ""
    for name, number in PEOPLE:
        text += (
            f"dn: cn={name},cn=Users,{SUFFIX}\nobjectClass: user\nsAMAccountName: {name}\nuidNumber: {number}\n"
            f"userPrincipalName: {name}@{REALM.lower()}\ngidNumber: 31000\nunixHomeDirectory: /home/ad/{name.lower()}\n"
            f"loginShell: /bin/bash\n\n"
        )
    text += f"dn: cn=reader,cn=Users,{SUFFIX}\nobjectClass: user\nsAMAccountName: reader\n\n"
    for name, number, members in [("everybody", 31000, []), *GROUPS]:
        listed = "".join(f"member: cn={member},cn=Users,{SUFFIX}\n" for member in members)
        text += (
            f"dn: cn={name},cn=Users,{SUFFIX}\nobjectClass: group\nsAMAccountName: {name}\ngidNumber: {number}\n"
            f"{listed}\n"
        )
    return text


def fill() -> None:
    """Add people and groups."""
    from samba.auth import system_session
    from samba.param import LoadParm
    from samba.samdb import SamDB

    settings = LoadParm()
    settings.load_default()
    database = SamDB(url="/var/lib/samba/private/sam.ldb", session_info=system_session(), lp=settings)
    database.add_ldif(entries())
    for name, password in [("reader", SECRET), *((name, password_of(number)) for name, number in PEOPLE)]:
        database.setpassword(f"(sAMAccountName={name})", password)
        database.enable_account(f"(sAMAccountName={name})")


def main() -> None:
    """Make the domain, its people and groups."""
    subprocess.run(["systemctl", "disable", "--now", "smbd", "nmbd", "winbind", "samba-ad-dc"], check=False)
    Path("/etc/samba/smb.conf").unlink(missing_ok=True)
    keys = {"keyfile": "domain.key", "certfile": "domain.pem", "cafile": "ca.pem"}
    run(
        *("samba-tool", "domain", "provision", "--use-rfc2307", f"--realm={REALM}", "--domain=CAMPUSAD"),
        *("--server-role=dc", "--dns-backend=SAMBA_INTERNAL", "--adminpass=Administrator-1"),
        *(f"--option=tls {name}=/etc/ssl/private/{file}" for name, file in keys.items()),
    )
    fill()
    run("systemctl", "unmask", "samba-ad-dc")
    run("systemctl", "enable", "--now", "samba-ad-dc")
    Path("/srv/domain").touch()


if __name__ == "__main__":
    main()
