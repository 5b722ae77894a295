"""A package repository of somebody else's, trusted by the fingerprint of its key."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import subprocess
import time
import urllib.error
from pathlib import Path
from typing import TYPE_CHECKING

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import open_url

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCUMENTATION = r"""
module: signed_repository
short_description: Let apt or dnf use a repository whose key has a known fingerprint
description:
  - Writes C(/etc/apt/sources.list.d/NAME.sources) and C(/etc/apt/keyrings/NAME.asc), or C(/etc/yum.repos.d/NAME.repo)
    and C(/etc/pki/rpm-gpg/RPM-GPG-KEY-NAME), and fetches the list of packages.
  - A key whose fingerprint is another one is never put in place. A repository that does not answer leaves the host as
    it was.
options:
  name:
    description: Name of the files.
    type: str
    required: true
  state:
    description:
      - Whether the repository shall be used. V(checked) changes nothing and says whether the key is the right one, in
        RV(ansible_facts); a key that cannot be had is neither right nor wrong.
    type: str
    choices: [present, absent, checked]
    default: present
  format:
    description: Who reads the repository.
    type: str
    choices: [apt, yum]
    default: apt
  url:
    description: Address of the repository.
    type: str
    default: ''
  suite:
    description: Suite, such as V(bookworm).
    type: str
    default: ''
  components:
    description: Its components.
    type: list
    elements: str
    default: [main]
  key:
    description: The public key, or the URL of it.
    type: str
    default: ''
  fingerprint:
    description: Fingerprint of the key, in hexadecimal, or several with commas between them; spaces do not matter.
    type: str
    default: ''
  optional:
    description:
      - Whether a repository that does not answer is no error. It is a warning then, and remembered, so that later runs
        do not wait for it again.
    type: bool
    default: false
  ask_again_after:
    description: Seconds after which a repository that did not answer is asked again.
    type: int
    default: 86400
"""

EXAMPLES = r"""
- name: Use the repository of Example
  signed_repository:
    name: example
    url: https://apt.example.org
    suite: bookworm
    key: https://apt.example.org/key.asc
    fingerprint: 0123 4567 89AB CDEF 0123 4567 89AB CDEF 0123 4567
"""

RETURN = r"""
usable:
  description: Whether apt has the repository's packages now, or would have them.
  returned: always
  type: bool
problem:
  description: Why not.
  returned: always
  type: str
ansible_facts:
  description:
    - C(signed_repository_NAME) with C(problem), what is wrong with the key, and C(silence), why it cannot be had.
      Each is empty if nothing is.
  returned: when checked
  type: dict
"""

PUBLIC_KEY = 6
TIMEOUT = 5


class KeyFaultError(Exception):
    """A key that is not to be trusted, with the reason."""


class NoAnswerError(Exception):
    """A repository, or its key, that cannot be had, with the reason."""


def dearmored(key: bytes) -> bytes:
    """Return the packets of a key, whether it is armored or not (RFC 9580, section 6)."""
    text = key.strip()
    if not text.startswith(b"-----BEGIN PGP PUBLIC KEY BLOCK-----"):
        return key
    lines = [line.strip() for line in text.splitlines()]
    end = next((number for number, line in enumerate(lines) if line.startswith(b"-----END")), len(lines))
    begin = lines.index(b"") + 1 if b"" in lines[:end] else 1
    try:
        return base64.b64decode(b"".join(line for line in lines[begin:end] if not line.startswith(b"=")), validate=True)
    except binascii.Error as error:
        raise KeyFaultError(f"cannot be read: {error}") from error


def packets(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and body of each packet (RFC 9580, section 4.2)."""
    position = 0
    while position < len(data):
        head = data[position]
        if not head & 0x80:
            raise KeyFaultError("is no OpenPGP key")
        position += 1
        if head & 0x40:
            tag = head & 0x3F
            first = data[position]
            if first < 192:
                length, size = first, 1
            elif first < 224:
                length, size = ((first - 192) << 8) + data[position + 1] + 192, 2
            elif first == 255:
                length, size = int.from_bytes(data[position + 1 : position + 5], "big"), 5
            else:
                raise KeyFaultError("is no OpenPGP key")
        else:
            tag = head >> 2 & 0x0F
            size = (1, 2, 4, 0)[head & 3]
            length = int.from_bytes(data[position : position + size], "big") if size else len(data) - position
        position += size
        yield tag, data[position : position + length]
        position += length


def fingerprints(key: bytes) -> list[str]:
    """
    Return the fingerprints of all primary keys in a file, in upper case.

    Raises KeyFaultError if it has none, or if it cannot be read.
    """
    found = []
    try:
        for tag, body in packets(dearmored(key)):
            if tag == PUBLIC_KEY:
                if body[0] != 4:
                    raise KeyFaultError(f"is of version {body[0]}, which apt may not know")
                hashed = hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body)  # noqa: S324 (as OpenPGP has it)
                found.append(hashed.hexdigest().upper())
    except IndexError:
        raise KeyFaultError("is cut off") from None
    if not found:
        raise KeyFaultError("is no OpenPGP key")
    return found


def checked(key: bytes, fingerprint: str) -> bytes:
    """
    Return the key if it is the one that is wanted and nothing beside it.

    Raises KeyFaultError.
    """
    wanted = "".join(fingerprint.split()).upper().split(",")
    found = fingerprints(key)
    if sorted(found) != sorted(wanted):
        raise KeyFaultError(f"has fingerprint {', '.join(found)}, not {', '.join(wanted)}")
    return key


def armored(key: bytes) -> bytes:
    """Return a key in the form that a file whose name ends in .asc must have."""
    if key.strip().startswith(b"-----BEGIN"):
        return key
    check = 0xB704CE
    for byte in key:
        check ^= byte << 16
        for _ in range(8):
            check = check << 1 ^ (0x1864CFB if check & 0x800000 else 0)
    text = base64.b64encode(key)
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    lines = [b"-----BEGIN PGP PUBLIC KEY BLOCK-----", b"", *lines, b"=" + base64.b64encode(check.to_bytes(3, "big"))]
    return b"\n".join([*lines, b"-----END PGP PUBLIC KEY BLOCK-----", b""])


def fetch(url: str) -> bytes:
    """
    Return what is at an address.

    Raises NoAnswerError.
    """
    try:
        with open_url(url, timeout=TIMEOUT) as answer:
            content: bytes = answer.read(1 << 20)
            return content
    except (OSError, ValueError, urllib.error.URLError) as error:
        raise NoAnswerError(f"{url}: {getattr(error, 'reason', error)}") from error


class Silence:
    """A repository's failure to answer, as it is remembered."""

    def __init__(self, name: str, address: str, directory: Path = Path("/var/cache/campushub")) -> None:
        """Say where, and what was asked."""
        self.path = directory / f"{name}.unreachable"
        self.address = address

    def last(self, seconds: int) -> str:
        """Return why it did not answer when it was asked in the last so many seconds, or nothing."""
        try:
            address, _, problem = self.path.read_text().partition("\n")
            recent = 0 <= time.time() - self.path.stat().st_mtime < seconds
        except OSError:
            return ""
        return problem if recent and address == self.address else ""

    def remember(self, problem: str) -> None:
        """Keep the reason."""
        self.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        self.path.write_text(f"{self.address}\n{problem}")

    def forget(self) -> None:
        """It has answered, or is not wanted any more."""
        self.path.unlink(missing_ok=True)


class Repository:
    """The two files of a repository that apt reads."""

    def __init__(self, name: str, root: Path = Path("/etc/apt")) -> None:
        """Say where they are."""
        self.name = name
        self.sources = root / "sources.list.d" / f"{name}.sources"
        self.key = root / "keyrings" / f"{name}.asc"

    def text(self, url: str, suite: str, components: list[str]) -> str:
        """Return what belongs into the list of sources."""
        return (
            "# Managed by CampusHub\n"
            f"Types: deb\nURIs: {url.rstrip('/')}\nSuites: {suite}\nComponents: {' '.join(components)}\n"
            f"Signed-By: {self.key}\n"
        )

    def is_there(self, text: str, fingerprint: str) -> bool:
        """Return whether both files are as they should be."""
        try:
            return self.sources.read_text() == text and bool(checked(self.key.read_bytes(), fingerprint))
        except (OSError, KeyFaultError):
            return False

    def remove(self) -> bool:
        """Remove both; return whether there was something."""
        there = [path for path in (self.sources, self.key) if path.exists()]
        for path in there:
            path.unlink()
        return bool(there)

    def put(self, text: str, key: bytes) -> None:
        """
        Write both and fetch the list of packages; if that fails, put back what was there.

        Raises NoAnswerError.
        """
        before = {path: path.read_bytes() if path.exists() else None for path in (self.sources, self.key)}
        self.key.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        for path, content in ((self.key, armored(key)), (self.sources, text.encode())):
            path.write_bytes(content)
            path.chmod(0o644)
        command = self.command()
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})
        if done.returncode:
            for path, old in before.items():
                if old is None:
                    path.unlink()
                else:
                    path.write_bytes(old)
            said = [line for line in done.stderr.splitlines() if line.startswith(("E:", "W:", "Error"))]
            raise NoAnswerError("; ".join(said) or f"{command[0]} {command[1]} ended with {done.returncode}")

    def command(self) -> list[str]:
        """Return what fetches the list of packages of this repository alone."""
        only = [f"Dir::Etc::sourcelist={self.sources}", "Dir::Etc::sourceparts=-", "APT::Get::List-Cleanup=0"]
        options = [word for option in [*only, f"Acquire::http::Timeout={TIMEOUT}"] for word in ("-o", option)]
        return ["apt-get", "update", "-q", "--error-on=any", *options]


class YumRepository(Repository):
    """The two files of a repository that dnf reads."""

    def __init__(self, name: str, root: Path = Path("/etc")) -> None:
        """Say where they are."""
        super().__init__(name, root)
        self.sources = root / "yum.repos.d" / f"{name}.repo"
        self.key = root / "pki" / "rpm-gpg" / f"RPM-GPG-KEY-{name}"

    def text(self, url: str, suite: str, components: list[str]) -> str:  # noqa: ARG002  # only apt has these
        """Return what belongs into the description of the repository."""
        return (
            "# Managed by CampusHub\n"
            f"[{self.name}]\nname={self.name}\nbaseurl={url.rstrip('/')}\nenabled=1\n"
            f"gpgcheck=1\ngpgkey=file://{self.key}\ntimeout={TIMEOUT}\n"
        )

    def command(self) -> list[str]:
        """Return what fetches the list of packages of this repository alone."""
        return ["dnf", "makecache", "--quiet", "--disablerepo=*", f"--enablerepo={self.name}"]


def key_at(place: str) -> bytes:
    """
    Return a key that is given as its URL, or as its text.

    Raises NoAnswerError.
    """
    return fetch(place) if place.startswith(("http://", "https://")) else place.encode("utf-8", "surrogateescape")


def key_findings(repository: Repository, place: str, fingerprint: str) -> dict[str, str]:
    """Return what is wrong with the key, before anything is changed, or why it cannot be had."""
    found = {"problem": "", "silence": ""}
    try:
        checked(repository.key.read_bytes(), fingerprint)
    except (OSError, KeyFaultError):
        try:
            checked(key_at(place), fingerprint)
        except KeyFaultError as error:
            found["problem"] = str(error)
        except NoAnswerError as error:
            found["silence"] = str(error)
    return found


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent", "checked"], "default": "present"},
            "format": {"type": "str", "choices": ["apt", "yum"], "default": "apt"},
            "url": {"type": "str", "default": ""},
            "suite": {"type": "str", "default": ""},
            "components": {"type": "list", "elements": "str", "default": ["main"]},
            "key": {"type": "str", "default": "", "no_log": False},
            "fingerprint": {"type": "str", "default": ""},
            "optional": {"type": "bool", "default": False},
            "ask_again_after": {"type": "int", "default": 86400},
        },
        required_if=[("state", "present", ["url", "key", "fingerprint"])],
        supports_check_mode=True,
    )
    wanted = module.params
    if wanted["state"] == "present" and wanted["format"] == "apt" and not wanted["suite"]:
        module.fail_json(msg="suite is missing: a repository of apt has at least one.")
    os.umask(0o022)
    repository = YumRepository(wanted["name"]) if wanted["format"] == "yum" else Repository(wanted["name"])
    silence = Silence(wanted["name"], f"{wanted['url']} {wanted['suite']}")
    if wanted["state"] == "checked":
        found = key_findings(repository, wanted["key"], wanted["fingerprint"])
        name = f"ansible_signed_repository_{wanted['name'].replace('-', '_')}"
        module.exit_json(changed=False, usable=False, problem=found["problem"], ansible_facts={name: found})
    if wanted["state"] == "absent":
        there = repository.sources.exists() or repository.key.exists()
        if not module.check_mode:
            repository.remove()
            silence.forget()
        module.exit_json(changed=there, usable=False, problem="")
    text = repository.text(wanted["url"], wanted["suite"], wanted["components"])
    if repository.is_there(text, wanted["fingerprint"]):
        module.exit_json(changed=False, usable=True, problem="")
    if wanted["optional"] and (problem := silence.last(wanted["ask_again_after"])):
        module.exit_json(changed=False, usable=False, problem=problem)
    try:
        key = key_at(wanted["key"])
        checked(key, wanted["fingerprint"])
        if not module.check_mode:
            repository.put(text, key)
            silence.forget()
    except KeyFaultError as error:
        module.fail_json(msg=f"The key of {wanted['url']} {error}. It is not trusted, and nothing was changed.")
    except NoAnswerError as error:
        if wanted["optional"]:
            if not module.check_mode:
                silence.remember(str(error))
            module.warn(f"The repository {wanted['url']} does not answer; this host does without it. {error}")
            module.exit_json(changed=False, usable=False, problem=str(error))
        module.fail_json(msg=f"The repository {wanted['url']} cannot be used, and nothing was changed: {error}")
    module.exit_json(changed=True, usable=True, problem="")


if __name__ == "__main__":
    main()
