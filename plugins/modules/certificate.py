"""Look at a TLS certificate and its key, and make a self-signed pair where that is wanted."""

from __future__ import annotations

import calendar
import ipaddress
import re
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.result_cache import CacheEntry

if TYPE_CHECKING:
    from collections.abc import Iterable

DOCUMENTATION = r"""
module: certificate
short_description: Look at a TLS certificate and its key
extends_documentation_fragment: [result_cache]
description:
  - Tells what stands in a certificate and whether a server can use it with a key. That is, whether they belong
    together, whether the certificate is valid now, covers the names of the server, and is followed by its chain
    in the right order.
  - Does not fail when something is wrong. What it returns is for C(check_settings), which says so in words.
  - With O(self_signed) it writes a self-signed certificate and its key, in one file, where there is none that fits.
  - Needs C(openssl) and nothing else, on a host or on the controller.
options:
  certificate:
    description: The certificate in PEM. Its chain can follow.
    type: str
  chain:
    description: The certificates that signed it, when O(certificate) is without them.
    type: str
    default: ''
  key:
    description: The key in PEM.
    type: str
  certificate_path:
    description: File with the certificate, and its chain, in place of O(certificate).
    type: path
  key_path:
    description: File with the key, in place of O(key).
    type: path
  names:
    description: Host names and addresses that the certificate must cover.
    type: list
    elements: str
    default: []
  self_signed:
    description:
      - V(never) only looks.
      - V(missing) makes a pair when O(certificate_path) holds none that could be used with its key.
      - V(always) makes one also when it was not made here, does not cover the names, or expires within O(renew_days).
      - The pair is written to O(certificate_path), mode 0600.
    type: str
    choices: [never, missing, always]
    default: never
  days:
    description: How long a self-signed certificate is valid. Browsers do not accept more than 825 days.
    type: int
    default: 397
  renew_days:
    description: How many days before its end a self-signed certificate is renewed.
    type: int
    default: 30
"""

EXAMPLES = r"""
- name: Look at the certificate
  certificate:
    certificate_path: /etc/ssl/certs/hub.example.org.pem
    key_path: /etc/ssl/private/hub.example.org.key
    names: [hub.example.org]
  register: pair
"""

RETURN = r"""
certificate:
  description: What the certificate says. Only C(found) and C(pem) are there when it cannot be read.
  returned: always
  type: dict
  contains:
    found: {description: Whether there is any text., type: bool}
    pem: {description: Whether the text is a certificate in PEM., type: bool}
    names: {description: Host names and addresses that it is for., type: list}
    missing: {description: Names that it should cover and does not., type: list}
    begins: {description: First moment of its validity., type: str}
    ends: {description: Last moment of its validity., type: str}
    valid: {description: One of early, now and expired., type: str}
    days_left: {description: Whole days until it ends., type: int}
    self_signed: {description: Whether it was signed with its own key., type: bool}
    made_here: {description: Whether this module made it., type: bool}
    chain: {description: Whether each certificate is followed by its issuer. One of ok and order and none., type: str}
key:
  description: What can be said about the key.
  returned: always
  type: dict
  contains:
    found: {description: Whether there is any text., type: bool}
    pem: {description: Whether the text is a private key in PEM., type: bool}
    encrypted: {description: Whether it can be read with a passphrase only., type: bool}
    private: {description: Whether nobody but root can read the file., type: bool}
matches:
  description: Whether the key belongs to the first certificate.
  returned: always
  type: bool
"""

PEM_CERTIFICATE = re.compile(
    r"-----BEGIN (?:TRUSTED )?CERTIFICATE-----.*?-----END (?:TRUSTED )?CERTIFICATE-----", re.DOTALL
)
PEM_KEY = re.compile(r"-----BEGIN ([A-Z ]*)PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", re.DOTALL)
MADE_HERE = "CampusHub self-signed"


class Pair(NamedTuple):
    """A certificate and a key, as texts, and whether nobody but root can read the key."""

    certificate: str
    chain: str
    key: str
    private: bool


def openssl(arguments: list[str], text: str = "") -> str | None:
    """Return what openssl prints, or None when it refuses the text."""
    run = subprocess.run(["openssl", *arguments], input=text, capture_output=True, text=True, check=False)
    return run.stdout if run.returncode == 0 else None


def moment(text: str) -> float:
    """Translate a time as openssl writes it, such as `Nov 21 23:42:00 2026 GMT`."""
    month, day, clock, year = text.split()[:4]
    months = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
    hour, minute, second = (int(part) for part in clock.split(":"))
    return calendar.timegm((int(year), months.index(month) + 1, int(day), hour, minute, second))


def is_address(name: str) -> bool:
    """Whether a name is an IP address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def covers(pattern: str, name: str) -> bool:
    """Whether a name in a certificate is for this server, by the rules of browsers: `*` is one whole label."""
    if is_address(name) or is_address(pattern):
        return is_address(name) and is_address(pattern) and ipaddress.ip_address(name) == ipaddress.ip_address(pattern)
    pattern, name = pattern.lower().rstrip("."), name.lower().rstrip(".")
    if pattern.startswith("*."):
        return name.partition(".")[2] == pattern[2:]
    return name == pattern


def alternative_names(text: str) -> list[str]:
    """Find the names in a certificate as openssl shows it. Browsers ignore the common name, and so does this."""
    found = re.search(r"X509v3 Subject Alternative Name:[^\n]*\n([^\n]*)", text)
    entries = found.group(1).split(",") if found else []
    names = []
    for entry in entries:
        kind, _, value = entry.strip().partition(":")
        if kind == "DNS":
            names.append(value)
        elif kind == "IP Address":
            names.append(str(ipaddress.ip_address(value)))
    return names


def parties(pem: str) -> tuple[str, str]:
    """Subject and issuer of a certificate."""
    lines = (openssl(["x509", "-noout", "-subject", "-issuer"], pem) or "").splitlines()
    subject, issuer = (line.partition("=")[2].strip() for line in lines[:2]) if len(lines) >= 2 else ("", "")
    return subject, issuer


def chain_state(certificates: list[str]) -> str:
    """Whether each certificate is followed by its issuer; `none` when a signed one stands alone."""
    sides = [parties(pem) for pem in certificates]
    if any(sides[number][1] != sides[number + 1][0] for number in range(len(sides) - 1)):
        return "order"
    return "none" if len(sides) == 1 and sides[0][0] != sides[0][1] else "ok"


def look_at_certificate(text: str, chain: str, names: Iterable[str], now: float) -> tuple[dict[str, Any], str]:
    """Describe the first certificate of a text, and return its public key."""
    certificates = PEM_CERTIFICATE.findall(text)
    shown = openssl(["x509", "-noout", "-text", "-dates"], certificates[0]) if certificates else None
    if shown is None:
        return {"found": bool(text.strip()), "pem": False}, ""
    dates = dict(re.findall(r"^(notBefore|notAfter)=(.*)$", shown, re.MULTILINE))
    covered = alternative_names(shown)
    begin, end = moment(dates["notBefore"]), moment(dates["notAfter"])
    subject, issuer = parties(certificates[0])
    return {
        "found": True,
        "pem": True,
        "names": covered,
        "missing": [name for name in names if not any(covers(pattern, name) for pattern in covered)],
        "begins": dates["notBefore"],
        "ends": dates["notAfter"],
        "valid": "early" if now < begin else "expired" if now > end else "now",
        "days_left": int((end - now) // 86400),
        "self_signed": subject == issuer,
        "made_here": MADE_HERE in subject,
        "chain": chain_state(certificates + PEM_CERTIFICATE.findall(chain)),
    }, openssl(["x509", "-noout", "-pubkey"], certificates[0]) or ""


def look_at_key(text: str, private: bool) -> tuple[dict[str, Any], str]:
    """Describe the key in a text, and return its public half."""
    found = PEM_KEY.search(text)
    encrypted = bool(found and ("ENCRYPTED" in found.group(1) or "Proc-Type: 4,ENCRYPTED" in found.group(0)))
    public = openssl(["pkey", "-pubout", "-passin", "pass:"], found.group(0)) if found and not encrypted else None
    state = {"found": bool(text.strip()), "pem": public is not None, "encrypted": encrypted, "private": private}
    return state, public or ""


def look(pair: Pair, names: Iterable[str], now: float) -> dict[str, Any]:
    """Describe a certificate, its key, and whether they belong together."""
    certificate, public = look_at_certificate(pair.certificate, pair.chain, names, now)
    key, other = look_at_key(pair.key, pair.private)
    return {"certificate": certificate, "key": key, "matches": bool(public) and public == other}


def fits(found: dict[str, Any], self_signed: str, renew_days: int) -> bool:
    """Whether a pair can stay in its place."""
    certificate, key = found["certificate"], found["key"]
    if not (found["matches"] and key["private"]):
        return False
    if self_signed == "missing":
        return True
    return bool(
        certificate["made_here"]
        and not certificate["missing"]
        and certificate["valid"] == "now"
        and certificate["days_left"] >= renew_days
    )


REQUEST = """\
[req]
prompt = no
distinguished_name = subject
x509_extensions = extensions
[subject]
O = {organisation}
CN = {common}
[extensions]
subjectAltName = {names}
extendedKeyUsage = serverAuth
basicConstraints = critical, CA:FALSE
"""


def make(path: Path, names: list[str], days: int) -> None:
    """Write a self-signed certificate with its key to one file, complete from the first moment on."""
    entries = ",".join(f"{'IP' if is_address(name) else 'DNS'}:{name}" for name in names)
    # A common name has at most 64 characters; browsers read the alternative names.
    common = names[0] if len(names[0]) <= 64 else "campushub"
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".campushub-") as scratch:
        request, key, certificate, both = (Path(scratch) / name for name in ("request", "key", "certificate", "both"))
        request.write_text(REQUEST.format(organisation=MADE_HERE, common=common, names=entries))
        command = ["openssl", "req", "-x509", "-config", str(request), "-days", str(days), "-sha256", "-nodes"]
        command += [
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-keyout",
            str(key),
            "-out",
            str(certificate),
        ]
        subprocess.run(command, check=True, capture_output=True, text=True)
        both.touch(0o600)
        both.write_text(certificate.read_text() + key.read_text())
        both.replace(path)


def read(path: str) -> tuple[str, bool]:
    """Return the text of a file, empty when there is none, and whether it is root's alone."""
    try:
        status = Path(path).stat()
        return Path(path).read_text(errors="replace"), status.st_uid == 0 and not status.st_mode & 0o077
    except OSError:
        return "", False


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "certificate": {"type": "str"},
            "chain": {"type": "str", "default": ""},
            "key": {"type": "str", "no_log": True},
            "certificate_path": {"type": "path"},
            "key_path": {"type": "path", "no_log": False},
            "names": {"type": "list", "elements": "str", "default": []},
            "self_signed": {"type": "str", "choices": ["never", "missing", "always"], "default": "never"},
            "days": {"type": "int", "default": 397},
            "renew_days": {"type": "int", "default": 30},
            "cache_key": {"type": "str"},
        },
        required_one_of=[("certificate", "certificate_path"), ("key", "key_path")],
        mutually_exclusive=[("certificate", "certificate_path"), ("key", "key_path")],
        supports_check_mode=True,
    )
    given = module.params
    module.get_bin_path("openssl", required=True)
    entry = CacheEntry(given["cache_key"], filter(None, (given["certificate_path"], given["key_path"])))
    certificate, private = (given["certificate"] or "", True)
    if given["certificate_path"]:
        certificate, private = read(given["certificate_path"])
    key = given["key"] or ""
    if given["key_path"]:
        key, private = read(given["key_path"])

    found = look(Pair(certificate, given["chain"], key, private), given["names"], time.time())
    changed = given["self_signed"] != "never" and not fits(found, given["self_signed"], given["renew_days"])
    if changed and not module.check_mode:
        try:
            make(Path(given["certificate_path"]), given["names"], given["days"])
        except subprocess.CalledProcessError as error:
            module.fail_json(msg=f"openssl could not make a certificate: {error.stderr}")
        text, private = read(given["certificate_path"])
        found = look(Pair(text, "", text, private), given["names"], time.time())
    if given["self_signed"] != "never" and not changed:
        renewal = time.time() + (found["certificate"].get("days_left", 0) - given["renew_days"]) * 86400
        entry.store(found, until=renewal if given["self_signed"] == "always" else None)
    module.exit_json(changed=changed, **found)


if __name__ == "__main__":
    main()
