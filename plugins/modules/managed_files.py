"""Many small files of one role, written in one call."""

from __future__ import annotations

import errno
import glob
import grp
import os
import pwd
import re
import stat
from collections.abc import Iterable, Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.files import MARKER, ValidationError, replace_block, write
from ansible.module_utils.result_cache import CacheEntry

DOCUMENTATION = r"""
module: managed_files
short_description: Write, link and remove many small files at once
extends_documentation_fragment: [result_cache]
description:
  - Does for a list of files what M(ansible.builtin.copy), M(ansible.builtin.file) and M(ansible.builtin.blockinfile)
    would do one by one, in the time of one of them.
  - A file that somebody else wrote is not lost. When O(files[].content) holds O(marker) and the file that is there
    does not, that file is kept as C(PATH.campushub.disabled), and comes back when ours is removed.
  - A file is replaced in one step, so that nobody reads half of it.
  - Is not run on a host whose cached result of it is valid.
options:
  files:
    description: The files.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Where the file is. Missing directories above it are made, mode 0755.
        type: path
        required: true
      state:
        description:
          - V(present) writes O(files[].content), O(files[].secret), O(files[].block) or O(files[].link), or what
            O(files[].replace) and O(files[].by) say.
          - V(absent) removes a link, a block, or a file that holds O(marker); a file of somebody else stays.
          - V(directory) makes a directory, or gives the one that is there O(files[].owner), O(files[].group) and
            O(files[].mode), which must be said. What is in it is left alone.
          - V(diverted) renames a file of somebody else to C(PATH.campushub.disabled), V(undiverted) renames it back.
        type: str
        choices: [present, absent, directory, diverted, undiverted]
        default: present
      content:
        description: The whole text of the file.
        type: str
      block:
        description: Lines kept between two comments with O(marker) in a file that others write, too.
        type: str
      replace:
        description:
          - A regular expression for what is to be O(files[].by) in a file that somebody else has written, and that must
            be there. V(^) is the beginning of a line.
        type: str
      by:
        description: What takes the place of each match of O(files[].replace), with V(\\1) for its first group.
        type: str
        default: ""
      link:
        description: Target of a symbolic link.
        type: str
      mode:
        description: Permissions of the file.
        type: str
        default: "0644"
      owner:
        description: Owner of the file.
        type: str
        default: root
      group:
        description: Group of the file.
        type: str
        default: root
      validate:
        description:
          - A command that ends with an error if the text is wrong; C(%s) in it stands for a file with the new text.
            It runs before the new file takes the place of the old one.
        type: str
      secret:
        description: The whole text of a file that is in no log and no difference.
        type: str
  prune:
    description: Patterns of paths that are ours alone. What matches and is not among O(files) is removed.
    type: list
    elements: str
    default: []
  prune_marked:
    description:
      - Patterns of paths among which there are files of others. What matches, holds O(marker) and is not among O(files)
        is removed. A directory that this leaves empty goes, too, if its name is a part of the pattern.
    type: list
    elements: str
    default: []
  links_record:
    description:
      - A file in which the links of O(files) are listed. A link holds no marker by which it would be known.
      - One that it lists and O(files) does not have any more is removed, if it still leads where it did.
    type: path
  skip_occupied:
    description: Whether links where something is mounted are left out and named in RV(occupied), and no failure.
    type: bool
    default: false
  marker:
    description: Words by which our files and blocks are known.
    type: str
    default: Managed by CampusHub
"""

EXAMPLES = r"""
- name: Configure pip and npm
  managed_files:
    files:
      - path: /etc/pip.conf
        content: |
          # Managed by CampusHub
          [global]
          index-url = https://mirror.example.org/simple
      - path: /etc/environment
        block: NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt
"""

RETURN = r"""
changed_paths:
  description: Paths of the files that were written, moved or removed.
  returned: always
  type: list
  elements: str
occupied:
  description: Paths of links where something is mounted.
  returned: always
  type: list
  elements: str
"""

DIVERTED = ".campushub.disabled"


def read(path: str) -> str | None:
    """Return the text of a regular file; None where there is none."""
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return None
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None


class Files:
    """Brings files to their wanted state and remembers what that changed."""

    def __init__(self, marker: str, check: bool) -> None:
        """Change nothing at all if `check`."""
        self.marker = marker
        self.check = check
        self.changed: list[str] = []
        self.occupied: list[str] = []
        self.differences: list[dict[str, str]] = []

    def apply(self, wanted: Mapping[str, Any]) -> None:
        """Bring one file to its state."""
        path = wanted["path"]
        if wanted["state"] == "diverted":
            self._divert(path)
        elif wanted["state"] == "undiverted":
            self._undivert(path)
        elif wanted["state"] == "directory":
            self._directory(path, wanted)
        elif wanted["link"] is not None:
            self._link(path, wanted["link"], wanted["state"])
        elif wanted["block"] is not None:
            self._block(path, wanted)
        elif wanted["replace"] is not None:
            self._replace(path, wanted)
        elif wanted["state"] == "absent":
            self._remove(path, wanted["secret"] is not None)
        else:
            self._content(path, wanted)

    def prune(self, patterns: Iterable[str], keep: set[str]) -> None:
        """Remove what matches our own patterns and is no longer wanted."""
        for pattern in patterns:
            for path in sorted(set(glob.glob(pattern)) - keep):
                self._note(path, "present", "absent")
                if not self.check:
                    os.unlink(path)

    def prune_marked(self, patterns: list[str], keep: set[str]) -> None:
        """Remove what is no longer wanted and is ours by its text, and the links to it."""
        found = sorted(path for pattern in patterns for path in set(glob.glob(pattern)) - keep)
        for path in [path for path in found if self.marker in (read(os.path.realpath(path)) or "")]:
            if os.path.islink(path) and os.path.realpath(path) in keep:
                continue
            self._note(path, "present", "absent")
            directory = os.path.dirname(path)
            if not self.check:
                os.unlink(path)
                # A directory that a pattern names outright is there for others, too.
                if directory not in {os.path.dirname(pattern) for pattern in patterns} and not os.listdir(directory):
                    os.rmdir(directory)

    def prune_links(self, record: str, wanted: Mapping[str, str]) -> None:
        """Remove the links that the record lists and that are no longer wanted, and list the wanted ones in it."""
        before = read(record) or ""
        for line in before.splitlines():
            path, _, target = line.partition(" -> ")
            if target and path not in wanted:
                self._link(path, target, "absent")
        after = "".join(f"{line}\n" for line in [f"# {self.marker}", *map(" -> ".join, wanted.items())] if wanted)
        if after != before:
            self._note(record, before, after)
        if self.check or after == before:
            return
        if wanted:
            write(record, after, 0o644, (os.getuid(), os.getgid()))
        else:
            os.unlink(record)

    def _note(self, path: str, before: str, after: str) -> None:
        if path not in self.changed:
            self.changed.append(path)
        self.differences.append({"before_header": path, "after_header": path, "before": before, "after": after})

    def _move(self, source: str, target: str) -> None:
        self._note(source, f"{source}\n", f"{target}\n")
        if not self.check:
            os.replace(source, target)

    def _directory(self, path: str, wanted: Mapping[str, Any]) -> None:
        there = os.path.isdir(path)
        if there and self._attributes(path, wanted):
            return
        mode = f"{stat.S_IMODE(os.stat(path).st_mode):04o}" if there else "absent"
        self._note(path, f"directory {mode}\n", f"directory {wanted['owner']}:{wanted['group']} {wanted['mode']}\n")
        if not self.check:
            if not there:
                os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
                os.mkdir(path, 0o700)
            os.chown(path, *self._owner(wanted))
            os.chmod(path, int(wanted["mode"], 8))

    def _divert(self, path: str) -> None:
        text = read(path)
        if text is not None and self.marker not in text:
            self._move(path, path + DIVERTED)

    def _undivert(self, path: str) -> None:
        if os.path.lexists(path + DIVERTED) and (self.check or not os.path.lexists(path)):
            self._move(path + DIVERTED, path)

    def _link(self, path: str, target: str, state: str) -> None:
        try:
            # Where a file system is mounted that hangs, this does not ask it, as a stat would.
            current = os.readlink(path)
        except OSError:
            current = None
        if state == "absent":
            if current == target:
                self._note(path, f"link to {current}\n", "absent\n")
                if not self.check:
                    os.unlink(path)
        elif current != target and (self.check or self._make_link(path, target)):
            self._note(path, f"link to {current}\n" if current else "", f"link to {target}\n")

    def _make_link(self, path: str, target: str) -> bool:
        """Return whether a link could be made, which cannot be where something is mounted."""
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        temporary = f"{path}.campushub-link"
        if os.path.lexists(temporary):
            os.unlink(temporary)
        try:
            # An empty directory is what a mount leaves behind.
            os.rmdir(path)
        except OSError as error:
            if error.errno == errno.EBUSY:
                self.occupied.append(path)
                return False
        os.symlink(target, temporary)
        os.replace(temporary, path)
        return True

    def _block(self, path: str, wanted: Mapping[str, Any]) -> None:
        text = read(path)
        after = replace_block(text or "", wanted["block"] if wanted["state"] == "present" else "", self.marker)
        if after == (text or ""):
            return
        self._note(path, text or "", after)
        if self.check:
            return
        if text is None:
            self._write(path, after, wanted)
        else:
            self._write_for_others(path, after)

    def _replace(self, path: str, wanted: Mapping[str, Any]) -> None:
        text = read(path)
        if text is None:
            # An earlier task would have put it there.
            if self.check:
                return
            raise ValidationError("there is no such file, of which a part is to be replaced")
        after = re.sub(wanted["replace"], wanted["by"], text, flags=re.MULTILINE)
        if after != text:
            self._note(path, text, after)
            if not self.check:
                self._write_for_others(path, after)

    @staticmethod
    def _write_for_others(path: str, text: str) -> None:
        """Write a file of somebody else, whose owner and mode stay."""
        now = os.stat(path)
        write(path, text, stat.S_IMODE(now.st_mode), (now.st_uid, now.st_gid))

    def _remove(self, path: str, secret: bool) -> None:
        text = read(path)
        if text is None or self.marker in text:
            if text is not None:
                self._note(path, "a secret\n" if secret else text, "")
                if not self.check:
                    os.unlink(path)
            self._undivert(path)

    def _content(self, path: str, wanted: Mapping[str, Any]) -> None:
        text = read(path)
        after = wanted["content"] if wanted["secret"] is None else wanted["secret"]
        if text == after and self._attributes(path, wanted):
            return
        if text is not None and self.marker in after and self.marker not in text:
            self._move(path, path + DIVERTED)
        if wanted["secret"] is not None:
            self._note(path, "a secret\n" if text is not None else "", "a new secret\n")
        else:
            self._note(path, text or "", after)
        if not self.check:
            self._write(path, after, wanted)

    def _attributes(self, path: str, wanted: Mapping[str, Any]) -> bool:
        """Whether mode, owner and group are right."""
        now = os.stat(path)
        try:
            owner, group = self._owner(wanted)
        except KeyError:
            return False
        return (stat.S_IMODE(now.st_mode), now.st_uid, now.st_gid) == (int(wanted["mode"], 8), owner, group)

    def _write(self, path: str, text: str, wanted: Mapping[str, Any]) -> None:
        write(path, text, int(wanted["mode"], 8), self._owner(wanted), wanted["validate"])

    @staticmethod
    def _owner(wanted: Mapping[str, Any]) -> tuple[int, int]:
        return pwd.getpwnam(wanted["owner"]).pw_uid, grp.getgrnam(wanted["group"]).gr_gid


def cache_entry(parameters: Mapping[str, Any]) -> CacheEntry:
    """Prepare to store that there is nothing to change."""
    files, record = parameters["files"], parameters["links_record"]
    # What has been removed leaves nothing behind. Who owns a file of another than root is a name, which may be given to
    # another number.
    lasting = any(wanted["state"] in ("present", "directory") for wanted in files)
    roots = all(wanted["owner"] == wanted["group"] == "root" for wanted in files)
    paths = [wanted["path"] for wanted in files] + ([record] if record else [])
    patterns = parameters["prune"] + parameters["prune_marked"]
    matches = [os.path.realpath(path) for pattern in parameters["prune_marked"] for path in glob.glob(pattern)]
    key = parameters["cache_key"] if lasting and roots else None
    return CacheEntry(key, [*paths, *(path + DIVERTED for path in paths), *matches], patterns)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "files": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "mutually_exclusive": [("content", "secret", "block", "replace", "link")],
                "options": {
                    "path": {"type": "path", "required": True},
                    "state": {
                        "type": "str",
                        "default": "present",
                        "choices": ["present", "absent", "directory", "diverted", "undiverted"],
                    },
                    "content": {"type": "str"},
                    "block": {"type": "str"},
                    "replace": {"type": "str"},
                    "by": {"type": "str", "default": ""},
                    "link": {"type": "str"},
                    "mode": {"type": "str", "default": "0644"},
                    "owner": {"type": "str", "default": "root"},
                    "group": {"type": "str", "default": "root"},
                    "validate": {"type": "str"},
                    "secret": {"type": "str", "no_log": True},
                },
            },
            "prune": {"type": "list", "elements": "str", "default": []},
            "prune_marked": {"type": "list", "elements": "str", "default": []},
            "links_record": {"type": "path"},
            "skip_occupied": {"type": "bool", "default": False},
            "marker": {"type": "str", "default": MARKER},
            "cache_key": {"type": "str"},
        },
        supports_check_mode=True,
    )
    # Directories that are made on the way are for everybody, whatever root's own mask is.
    os.umask(0o022)
    entry = cache_entry(module.params)
    files = Files(module.params["marker"], module.check_mode)
    for wanted in module.params["files"]:
        if wanted["state"] == "present" and all(
            wanted[kind] is None for kind in ("content", "secret", "block", "replace", "link")
        ):
            module.fail_json(msg=f"{wanted['path']}: one of content, secret, block, replace or link is needed")
        if wanted["state"] == "directory" and int(wanted["mode"], 8) & 0o111 == 0:
            module.fail_json(msg=f"{wanted['path']}: nobody could enter a directory with mode {wanted['mode']}")
        try:
            files.apply(wanted)
        except (OSError, KeyError, ValidationError) as error:
            module.fail_json(msg=f"{wanted['path']}: {error}", changed_paths=files.changed)
    if files.occupied and not module.params["skip_occupied"]:
        places = ", ".join(files.occupied)
        module.fail_json(msg=f"{places}: no link can be made where something is mounted", changed_paths=files.changed)
    keep = {wanted["path"] for wanted in module.params["files"]}
    files.prune(module.params["prune"], keep)
    files.prune_marked(module.params["prune_marked"], keep)
    if module.params["links_record"]:
        links = [wanted for wanted in module.params["files"] if wanted["link"] is not None]
        there = {wanted["path"]: wanted["link"] for wanted in links if wanted["state"] == "present"}
        files.prune_links(module.params["links_record"], there)
    if not files.changed and not files.occupied:
        entry.store({"changed_paths": [], "occupied": []})
    module.exit_json(
        changed=bool(files.changed),
        changed_paths=files.changed,
        occupied=files.occupied,
        diff=files.differences,
    )


if __name__ == "__main__":
    main()
