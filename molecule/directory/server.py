#!/usr/bin/python3
"""
A university's directory and its Kerberos realm, made from Debian's packages on one test host.

Run as root, with the name of the host: server.py NAME

- `slapd@main` (389, 636) with RFC 2307; `slapd@replica` (1389, 1636) follows it.
- `slapd@bis` (2389, 2636) with RFC 2307bis.
- `slapd@expired` (3636), `slapd@foreign` (4636) and `slapd@elsewhere` (5636) have certificates that are no good.
- A KDC for CAMPUS.TEST whose tickets live for a minute, so that renewal can be seen.
- A provider of OpenID Connect (9443), which says of people what is in /srv/provider/people.json.
- A certificate authority, /srv/ca/ca.pem, and a certificate of it for the domain controller.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

SUFFIX = "dc=campus,dc=test"
REALM = "CAMPUS.TEST"
AUTHORITY = Path("/srv/ca")
SECRET = "reader's secret: %s #;=\""  # noqa: S105 (of the test)
# Every printable character of ASCII, and some that are none.
EVERY_CHARACTER = "".join(map(chr, range(33, 127))) + " пароль ß 密码 🔑"

#: name, number, password. The password of most is their name and "-secret".
PEOPLE = [
    ("ann", 10001, EVERY_CHARACTER),
    ("bob", 10002, "bob-secret"),
    ("carl", 10003, "carl-secret"),
    ("dora", 10004, "dora-secret"),
    ("Emil", 10005, "Emil-secret"),
    *((f"student{number:02}", 10100 + number, f"student{number:02}-secret") for number in range(1, 31)),
]
#: Those whom no host should know, or no hub should start a server for.
HOSTILE = [
    ("root", 10900, "root-secret"),
    ("lowly", 999, "lowly-secret"),
    ("..", 10902, "dots-secret"),
    ("a/b", 10903, "slash-secret"),
    ("two words", 10904, "words-secret"),
    ("иван", 10905, "ivan-secret"),
    ("l" * 64, 10906, "long-secret"),
    ("*)(uid=*", 10907, "filter-secret"),
]
MEMBERS = {
    ("hub users", 11001): ["ann", "bob", "carl", "Emil", *(f"student{number:02}" for number in range(1, 31))],
    ("physics", 11002): ["bob"],
    ("teachers", 11003): ["carl"],
    # Rights on a host are not the directory's to give.
    ("sudo", 11004): ["bob"],
    ("docker", 11005): ["bob"],
}

#: Accounts at the provider and what it says of them.
AT_PROVIDER = {
    "ann": {"email": "Ann@campus.test", "email_verified": True, "groups": ["guests"]},
    "bob": {"email": "bob@campus.test", "email_verified": True, "groups": ["guests"]},
    "new": {"email": "newcomer@campus.test", "email_verified": True, "groups": ["guests", "physics"]},
    "chief": {"email": "chief@campus.test", "email_verified": True, "groups": ["guests", "teachers"]},
    "stranger": {"email": "stranger@campus.test", "email_verified": True, "groups": ["others"]},
    "elsewhere": {"email": "ann@elsewhere.test", "email_verified": True, "groups": ["guests"]},
    "unverified": {"email": "ann@campus.test", "email_verified": False, "groups": ["guests"]},
    "nameless": {"groups": ["guests"]},
    "dora": {"email": "dora@campus.test", "email_verified": True, "groups": ["others"]},
    "root": {"email": "root@campus.test", "email_verified": True, "groups": ["guests"]},
    "dots": {"email": "..@campus.test", "email_verified": True, "groups": ["guests"]},
    "slash": {"email": "a/../../b@campus.test", "email_verified": True, "groups": ["guests"]},
    "letters": {"email": "иван@campus.test", "email_verified": True, "groups": ["guests"]},
    "long": {"email": f"{'l' * 64}@campus.test", "email_verified": True, "groups": ["guests"]},
    "option": {"email": "--root@campus.test", "email_verified": True, "groups": ["guests"]},
    "docker": {"email": "docker@campus.test", "email_verified": True, "groups": ["guests"]},
}

# slapd itself knows uidNumber and gidNumber.
BIS_SCHEMA = """
attributetype ( 1.3.6.1.1.1.1.2 NAME 'gecos' EQUALITY caseIgnoreMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
attributetype ( 1.3.6.1.1.1.1.3 NAME 'homeDirectory' EQUALITY caseExactIA5Match
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.26 SINGLE-VALUE )
attributetype ( 1.3.6.1.1.1.1.4 NAME 'loginShell' EQUALITY caseExactIA5Match
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.26 SINGLE-VALUE )
objectclass ( 1.3.6.1.1.1.2.0 NAME 'posixAccount' SUP top AUXILIARY
  MUST ( cn $ uid $ uidNumber $ gidNumber $ homeDirectory ) MAY ( userPassword $ loginShell $ gecos $ description ) )
objectclass ( 1.3.6.1.1.1.2.2 NAME 'posixGroup' SUP top AUXILIARY MUST gidNumber MAY ( userPassword $ description ) )
"""


def run(*command: str, stdin: str = "") -> str:
    """Run a program to its end and return what it printed."""
    done = subprocess.run(command, input=stdin, text=True, check=False, capture_output=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done.stdout


def certificate(name: str, host: str, days: int, issuer: str) -> None:
    """Make a key, and a certificate for a host by an authority of this directory."""
    key, request, made = (str(AUTHORITY / f"{name}.{end}") for end in ("key", "csr", "pem"))
    wanted = ("-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={host}", "-keyout", key, "-out", request)
    run("openssl", "req", "-new", *wanted)
    extension = AUTHORITY / f"{name}.ext"
    extension.write_text(f"subjectAltName=DNS:{host}\n")
    dates = ["-days", str(days)]
    if days < 0:
        dates = ["-not_before", "20200101000000Z", "-not_after", "20210101000000Z"]
        # OpenSSL 3.0 cannot sign for the past by x509, but by ca.
        (AUTHORITY / "index.txt").touch()
        configuration = AUTHORITY / "ca.cnf"
        configuration.write_text(
            f"[ca]\ndefault_ca=it\n[it]\ndatabase={AUTHORITY}/index.txt\nnew_certs_dir={AUTHORITY}\nrand_serial=yes\n"
            "default_md=sha256\npolicy=any\n[any]\ncommonName=supplied\n"
        )
        run(
            *("openssl", "ca", "-batch", "-config", str(configuration), "-cert", str(AUTHORITY / f"{issuer}.pem")),
            *("-keyfile", str(AUTHORITY / f"{issuer}.key"), "-in", request, "-out", made, "-notext"),
            *("-startdate", "20200101000000Z", "-enddate", "20210101000000Z", "-extfile", str(extension)),
        )
    else:
        run(
            *("openssl", "x509", "-req", "-in", request, "-out", made, "-CA", str(AUTHORITY / f"{issuer}.pem")),
            *("-CAkey", str(AUTHORITY / f"{issuer}.key"), "-CAcreateserial", *dates, "-extfile", str(extension)),
        )
    shutil.chown(key, "openldap")


def authority(name: str) -> None:
    """Make a certificate authority."""
    run(
        *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30"),
        *("-subj", f"/CN={name} of the test"),
        *("-keyout", str(AUTHORITY / f"{name}.key"), "-out", str(AUTHORITY / f"{name}.pem")),
    )


def encoded(text: str) -> str:
    """Return a value of LDIF that may have any characters."""
    return ": " + base64.b64encode(text.encode()).decode()


def person_dn(number: int) -> str:
    """Name entries by number, for names may have any characters; Carl's, as is usual, by name."""
    return f"{'uid=carl' if number == 10003 else f'employeeNumber={number}'},ou=people,{SUFFIX}"


def entries(bis: bool) -> Iterator[str]:
    """Yield the entries of the directory."""
    yield f"dn: {SUFFIX}\nobjectClass: dcObject\nobjectClass: organization\no: Campus\ndc: campus\n"
    for unit in ("people", "groups"):
        yield f"dn: ou={unit},{SUFFIX}\nobjectClass: organizationalUnit\nou: {unit}\n"
    yield (
        f"dn: cn=reader,{SUFFIX}\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\ncn: reader\n"
        f"userPassword:{encoded(SECRET)}\n"
    )
    numbers = {name: number for name, number, _ in PEOPLE}
    for name, number, password in PEOPLE + HOSTILE:
        yield (
            f"dn: {person_dn(number)}\nobjectClass: inetOrgPerson\nobjectClass: posixAccount\n"
            f"cn:{encoded(name)}\nsn:{encoded(name)}\nuid:{encoded(name)}\nemployeeNumber: {number}\n"
            f"uidNumber: {number}\ngidNumber: {number if number < 1000 else 11000}\nloginShell: /bin/bash\n"
            f"homeDirectory: /home/u{number}\nuserPassword:{encoded(password)}\n"
        )
    structural = "groupOfNames\nobjectClass: posixGroup" if bis else "posixGroup"
    for (name, number), members in {("everybody", 11000): ["ann"], **MEMBERS}.items():
        listed = "\n".join(
            f"member: {person_dn(numbers[member])}" if bis else f"memberUid: {member}" for member in members
        )
        yield (
            f"dn: cn={name},ou=groups,{SUFFIX}\nobjectClass: {structural}\ncn: {name}\ngidNumber: {number}\n{listed}\n"
        )


def directory(name: str, port: int, keys: str, bis: bool = False, follows: str = "") -> None:
    """Make a server with all entries, or one that follows another."""
    home = Path(f"/srv/{name}")
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    schema = "include /etc/ldap/schema/nis.schema"
    if bis:
        (home / "bis.schema").write_text(BIS_SCHEMA)
        schema = f"include {home}/bis.schema"
    includes = ["include /etc/ldap/schema/core.schema", "include /etc/ldap/schema/cosine.schema", schema]
    includes.append("include /etc/ldap/schema/inetorgperson.schema")
    if bis:
        includes[2], includes[3] = includes[3], includes[2]
    text = (
        "\n".join(includes)
        + f"""
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload syncprov
pidfile {home}/pid
TLSCACertificateFile {AUTHORITY}/ca.pem
TLSCertificateFile {AUTHORITY}/{keys}.pem
TLSCertificateKeyFile {AUTHORITY}/{keys}.key
database mdb
suffix "{SUFFIX}"
rootdn "cn=admin,{SUFFIX}"
rootpw admin
directory {home}
index objectClass,uid,uidNumber,gidNumber,cn eq
index {"member" if bis else "memberUid"} eq
index entryUUID,entryCSN eq
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="cn=reader,{SUFFIX}" read by users read by * none
overlay syncprov
"""
    )
    if follows:
        text = text.replace(
            "overlay syncprov",
            f'syncrepl rid=1 provider={follows} type=refreshAndPersist retry="1 +" searchbase="{SUFFIX}"'
            f' bindmethod=simple binddn="cn=admin,{SUFFIX}" credentials=admin',
        )
    (home / "slapd.conf").write_text(text)
    if not follows:
        run("slapadd", "-q", "-f", str(home / "slapd.conf"), stdin="\n".join(entries(bis)))
    shutil.chown(home, "openldap", "openldap")
    for path in home.iterdir():
        shutil.chown(path, "openldap", "openldap")
    urls = f"ldap://:{port}/ ldaps://:{port + 247}/"
    Path(f"/etc/systemd/system/slapd@{name}.service").write_text(
        "[Service]\nType=exec\n"
        f'ExecStart=/usr/sbin/slapd -u openldap -g openldap -d 0 -f {home}/slapd.conf -h "{urls}"\n'
    )


def realm(host: str) -> None:
    """Make the realm and a principal for each person."""
    Path("/etc/krb5.conf").write_text(
        f"[libdefaults]\ndefault_realm = {REALM}\n[realms]\n{REALM} = {{\nkdc = {host}\nadmin_server = {host}\n}}\n"
    )
    Path("/etc/krb5kdc/kdc.conf").write_text(f"[realms]\n{REALM} = {{\nmax_life = 60s\nmax_renewable_life = 1d\n}}\n")
    for path in Path("/var/lib/krb5kdc").glob("principal*"):
        path.unlink()
    run("kdb5_util", "create", "-s", "-r", REALM, "-P", "master of the test")
    # Tickets of a minute, so that they must be renewed within the test.
    run("kadmin.local", "modprinc", "-maxrenewlife", "1d", f"krbtgt/{REALM}")
    for name, _, password in PEOPLE:
        run("kadmin.local", "addprinc", "-maxrenewlife", "1d", "-pw", password, name)


def provider(host: str) -> None:
    """Make the provider of OpenID Connect, which knows the hub on a test host."""
    home = Path("/srv/provider")
    (home / "people.json").write_text(json.dumps(AT_PROVIDER))
    words = [f"https://{host}:9443", f"{home}/people.json", f"{AUTHORITY}/good.key", f"{AUTHORITY}/good.pem"]
    Path("/etc/systemd/system/provider.service").write_text(
        f"[Service]\nType=exec\nExecStart=/usr/local/bin/node {home}/provider.mjs {' '.join(words)}"
        " http://127.0.0.1:980/hub/oauth_callback\n"
    )


def main() -> None:
    """Make everything."""
    host = sys.argv[1]
    os.umask(0o022)
    # It is a script of the old kind, which is told to stop only while its own configuration is there.
    run("systemctl", "stop", "slapd.service")
    run("systemctl", "mask", "--quiet", "slapd.service")
    shutil.rmtree(AUTHORITY, ignore_errors=True)
    AUTHORITY.mkdir()
    for name in ("ca", "stranger"):
        authority(name)
    certificate("good", host, 30, "ca")
    certificate("expired", host, -1, "ca")
    certificate("elsewhere", "another.campus.test", 30, "ca")
    certificate("foreign", host, 30, "stranger")
    directory("main", 389, "good")
    directory("replica", 1389, "good", follows="ldap://localhost:389")
    directory("bis", 2389, "good", bis=True)
    directory("expired", 3389, "expired")
    directory("foreign", 4389, "foreign")
    directory("elsewhere", 5389, "elsewhere")
    certificate("domain", "directory-ad.ad.campus.test", 30, "ca")
    realm(host)
    provider(host)
    run("systemctl", "daemon-reload")
    names = [f"slapd@{name}" for name in ("main", "replica", "bis", "expired", "foreign", "elsewhere")]
    run("systemctl", "restart", *names, "krb5-kdc", "provider")


if __name__ == "__main__":
    main()
