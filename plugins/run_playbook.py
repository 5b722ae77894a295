"""Runs ansible-playbook for the launcher, and says what Ansible does not: what keeps it from reading an inventory.

Usage: run_playbook.py LAUNCHER ANSIBLE-PLAYBOOK PLAYBOOK [OPTION …]
"""

from __future__ import annotations

import argparse
import difflib
import glob
import json
import os
import re
import runpy
import shlex
import sys
from pathlib import Path
from typing import NoReturn

import yaml

INVENTORIES = Path(__file__).resolve().parents[1] / "inventories"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
ENCRYPTED_FILE = b"$ANSIBLE_VAULT"
ENCRYPTED_TAGS = ("!vault", "!vault-encrypted")
YAML_HINT = "Usually a wrong indent, a missing colon or missing quotes there or above."
# These use every setting; others run without the password where they need no encrypted one.
EVERY_SETTING = ("site", "preflight", "upgrade")
# These options have a playbook described and not run.
DESCRIBING = ("--list-", "--syntax-check", "--version")
INTERRUPTED = 99  # the status of ansible-playbook


class WrongInventoryError(Exception):
    """What keeps the inventory from being read, for people."""


class Options(argparse.ArgumentParser):
    """Those options of ansible-playbook that say where settings are and how they are decrypted."""

    def __init__(self) -> None:
        super().__init__(add_help=False, usage=argparse.SUPPRESS)
        self.add_argument("-i", "--inventory", "--inventory-file", dest="inventories", action="append", default=[])
        self.add_argument("--ask-vault-password", "--ask-vault-pass", dest="asks", action="store_true")
        self.add_argument("--vault-password-file", "--vault-pass-file", "--vault-id", dest="secrets", action="append")

    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line."""
        name = re.match(r"argument ([^/:]+)\S*: expected one argument", message)
        example = f", such as: {name[1]} inventories/single-server" if name and name[1] == "-i" else ""
        raise WrongInventoryError(f"{name[1]} needs a value{example}" if name else message)


def places(sources: list[str]) -> list[Path]:
    """Return where the inventories are; lists of hosts are nowhere."""
    found = []
    for source in sources:
        path = Path(source).expanduser()
        if path.exists():
            found.append(path)
        elif "," in source:
            # ANSIBLE_INVENTORY may have several.
            found += [path for path in map(Path, source.split(",")) if path.name and path.exists()]
        else:
            raise WrongInventoryError(missing(path))
    return found


def missing(path: Path) -> str:
    """Return that an inventory is not there, and which are."""
    own = INVENTORIES.relative_to(Path.cwd()) if Path.cwd() == INVENTORIES.parent else INVENTORIES
    beside = path.parent if path.parent != Path() and path.parent.is_dir() else own
    names = sorted({hosts.parent.name for hosts in beside.glob("*/hosts*")})
    nearest = difflib.get_close_matches(path.name, names, n=1)
    words = [f"there is no {path}."]
    words += [f"Did you mean {beside / nearest[0]}?"] if nearest else []
    words += [f"In {beside} there are: {', '.join(names)}."] if names else []
    return " ".join(words)


def files(inventory: Path) -> list[Path]:
    """Return the files of hosts and settings that Ansible reads as YAML, or decrypts."""
    directory = inventory if inventory.is_dir() else inventory.parent
    names = glob.glob("*", root_dir=directory) if inventory.is_dir() else [inventory.name]
    hosts = [directory / name for name in names if name.endswith((".yml", ".yaml"))]
    settings = [
        directory / name
        for pattern in ("group_vars/**", "host_vars/**")
        for name in glob.glob(pattern, root_dir=directory, recursive=True)
        if name.endswith((".yml", ".yaml")) or not Path(name).suffix
    ]
    return sorted(path for path in {*hosts, *settings} if path.is_file() and os.access(path, os.R_OK))


def mistake(data: bytes) -> str:
    """Return what is no YAML in a file, beginning with the line; empty if all is."""
    try:
        yaml.compose(data, Loader=LOADER)
    except yaml.MarkedYAMLError as error:
        mark, begin = error.problem_mark, error.context_mark
        line = mark.line + 1 if mark else 1
        where = f", {error.context} that begins in line {begin.line + 1}" if begin and begin.line + 1 < line else ""
        text = f"line {line}: {error.problem}{where}. {YAML_HINT}"
    except yaml.reader.ReaderError as error:
        line = data.count(b"\n", 0, error.position) + 1
        text = f"line {line}: {error.reason}. Write the file in UTF-8, without control characters."
    else:
        return ""
    try:
        # Ansible takes JSON as well, in which tabs are allowed.
        json.loads(data)
    except ValueError:
        return text
    return ""


def has_encrypted_values(data: bytes) -> bool:
    """Return whether a file of YAML has values that are encrypted one by one."""
    return b"!vault" in data and any(
        getattr(event, "tag", None) in ENCRYPTED_TAGS for event in yaml.parse(data, Loader=LOADER)
    )


def can_decrypt() -> bool:
    """Return whether Ansible is told otherwise than by an option how to decrypt."""
    from ansible import constants

    names = ("DEFAULT_ASK_VAULT_PASS", "DEFAULT_VAULT_PASSWORD_FILE", "DEFAULT_VAULT_IDENTITY_LIST")
    return any(getattr(constants, name) for name in names)


def check(playbook: str, options: list[str]) -> list[str]:
    """Return the inventories as they are named; say what keeps Ansible from reading them."""
    known, _others = Options().parse_known_args(options)
    sources = known.inventories or list(filter(None, [os.environ.get("ANSIBLE_INVENTORY")]))
    mistakes, encrypted = [], []
    for path in (path for place in places(sources) for path in files(place)):
        data = path.read_bytes()
        if data.startswith(ENCRYPTED_FILE):
            encrypted.append(path)
        elif text := mistake(data):
            mistakes.append(f"{path}, {text}")
        elif Path(playbook).stem in EVERY_SETTING and has_encrypted_values(data):
            encrypted.append(path)
    if mistakes:
        raise WrongInventoryError("\n".join(mistakes))
    # The short option may be among others in one word, as in -KJ.
    told = known.asks or known.secrets or any(re.fullmatch("-[A-Za-z]*J[A-Za-z]*", option) for option in options)
    if encrypted and not told and not describes(options) and not can_decrypt():
        raise WrongInventoryError(
            f"the inventory has encrypted values ({encrypted[0]}): add --ask-vault-pass, or --vault-password-file FILE"
        )
    return known.inventories


def describes(options: list[str]) -> bool:
    """Return whether Ansible is to tell of the playbook only."""
    return any(option.startswith(DESCRIBING) for option in options)


def main() -> int:
    """Check the inventory, become ansible-playbook, and say what to do next."""
    launcher, program, playbook, *options = sys.argv[1:]
    try:
        inventories = check(playbook, options)
    except WrongInventoryError as error:
        print(f"campushub: {error}", file=sys.stderr)
        return 1
    sys.argv = [program, playbook, *options]
    try:
        runpy.run_path(program, run_name="__main__")
        status: int | str | None = 0
    except SystemExit as end:
        status = end.code
    except KeyboardInterrupt:
        status = INTERRUPTED
    if status == INTERRUPTED:
        print("\nInterrupted. Run the same command again: it goes on where it was.", file=sys.stderr)
    elif not status and Path(playbook).stem == "preflight" and not describes(options):
        words = [launcher, "install", *(word for name in inventories for word in ("-i", name))]
        print(f"No mistakes found; nothing was changed. Next: {shlex.join(words)}")
    return status if isinstance(status, int) else int(bool(status))


if __name__ == "__main__":
    sys.exit(main())
