"""A third-party package repository, trusted by the fingerprint of its key."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
import urllib.error
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.files import private_directory
from ansible.module_utils.urls import open_url

DOCUMENTATION = r"""
module: signed_repository
short_description: Let apt or dnf use a repository whose key has a known fingerprint
description:
  - Writes C(/etc/apt/sources.list.d/NAME.sources) and C(/etc/apt/keyrings/NAME.asc), or C(/etc/yum.repos.d/NAME.repo)
    and C(/etc/pki/rpm-gpg/RPM-GPG-KEY-NAME), and fetches the list of packages.
  - A key whose fingerprint is another one is never put in place. A repository that does not answer leaves the host as
    it was.
  - In check mode on a host without GnuPG the key is taken for the right one.
requirements: [gpg]
options:
  name:
    description: Name of the files.
    type: str
    required: true
  state:
    description:
      - Whether the repository is used. V(checked) changes nothing and says whether the key is the right one, in
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

TIMEOUT = 5


class KeyFaultError(Exception):
    """A key that is not to be trusted, with the reason."""


class NoAnswerError(Exception):
    """A repository, or its key, that cannot be had, with the reason."""


class NoGpgError(Exception):
    """GnuPG is not installed, so nothing can be said of keys."""


def gpg(home: str, *arguments: str, given: bytes = b"") -> bytes:
    """
    Run GnuPG with a keyring of its own and return what it prints.

    Raises KeyFaultError and NoGpgError.
    """
    # Since version 2.4 an import starts gpg-agent, which public keys do not need and hosts may not have.
    options = ["--no-autostart", "--batch", "--no-options", "--quiet", "--trust-model", "always"]
    command = ["gpg", "--homedir", home, *options, *arguments]
    try:
        done = subprocess.run(command, input=given, capture_output=True, check=False)
    except FileNotFoundError:
        raise NoGpgError("gpg is not installed") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise KeyFaultError(f"cannot be read: {said[0] if said else 'gpg does not say why'}")
    return done.stdout


def primary_fingerprints(listing: str) -> list[str]:
    """Return the fingerprints of the primary keys in a list of `gpg --with-colons`."""
    found = []
    kind = ""
    for fields in (line.split(":") for line in listing.splitlines()):
        if fields[0] in ("pub", "sub"):
            kind = fields[0]
        elif fields[0] == "fpr" and kind == "pub":
            found.append(fields[9])
    return found


def checked(key: bytes, fingerprint: str) -> bytes:
    """
    Return the key, as text and without anything else, if it is the one that is wanted and no other is with it.

    The result is what GnuPG has imported, so that apt and rpm find nothing in it that was not compared.
    Raises KeyFaultError and NoGpgError.
    """
    wanted = sorted("".join(fingerprint.split()).upper().split(","))
    with tempfile.TemporaryDirectory(dir=private_directory()) as home:
        gpg(home, "--import", given=key)
        found = sorted(primary_fingerprints(gpg(home, "--list-keys", "--with-colons").decode(errors="replace")))
        if found != wanted:
            raise KeyFaultError(f"has fingerprint {', '.join(found)}, not {', '.join(wanted)}")
        return gpg(home, "--export", "--armor", *found)


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
        except (OSError, KeyFaultError, NoGpgError):
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
        for path, content in ((self.key, key), (self.sources, text.encode())):
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
    except (OSError, KeyFaultError, NoGpgError):
        try:
            checked(key_at(place), fingerprint)
        except KeyFaultError as error:
            found["problem"] = str(error)
        except NoAnswerError as error:
            found["silence"] = str(error)
        except NoGpgError:
            pass  # A fresh host gets it from role base, and the key is checked before it is trusted.
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
        key = checked(key_at(wanted["key"]), wanted["fingerprint"])
        if not module.check_mode:
            repository.put(text, key)
            silence.forget()
    except NoGpgError as error:
        if not module.check_mode:
            module.fail_json(msg=f"The key of {wanted['url']} cannot be checked: {error}. Apply role base first.")
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
