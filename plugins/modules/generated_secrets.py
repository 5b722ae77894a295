"""Secrets that a host makes for itself."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.result_cache import CacheEntry

DOCUMENTATION = r"""
module: generated_secrets
short_description: Make secrets on a host, once
extends_documentation_fragment: [result_cache]
description:
  - Writes files of lines C(NAME=secret), as C(EnvironmentFile) of systemd reads them, with 32 random bytes in
    hexadecimal; and files of other texts with these secrets in them, for programs that read no such lines.
  - A name that a file has already keeps its secret; a name that is missing is added. Nothing is ever sent to the
    controller, and no secret is in the result or in a difference.
  - Files are 0600 and directories made to hold them 0700, owned by root.
options:
  files:
    description: The files.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Where the file is.
        type: path
        required: true
      names:
        description: Names of the secrets in it.
        type: list
        elements: str
      text:
        description: Instead, the text of the file. In it C({NAME}) stands for a secret of a file before it.
        type: str
"""

EXAMPLES = r"""
- name: Make the secrets, once
  generated_secrets:
    files:
      - path: /etc/jupyterhub/secrets/proxy.env
        names: [CONFIGPROXY_AUTH_TOKEN]
"""

RETURN = r"""
made:
  description: Names of the secrets that were made.
  returned: always
  type: list
  elements: str
"""


def present(text: str) -> dict[str, str]:
    """Return the secrets of a file by their names."""
    pairs = (line.partition("=") for line in text.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs if value.strip()}


def with_secrets(text: str, known: Mapping[str, str]) -> str:
    """Return a text with secrets in the place of their names."""
    return re.sub(r"\{([A-Z_]+)\}", lambda found: known[found[1]], text)


def write(path: Path, text: str) -> None:
    """Replace a file, readable by nobody else at any moment, in one step."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(path)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "files": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "path": {"type": "path", "required": True},
                    "names": {"type": "list", "elements": "str"},
                    "text": {"type": "str"},
                },
                "mutually_exclusive": [("names", "text")],
                "required_one_of": [("names", "text")],
            },
            "cache_key": {"type": "str"},
        },
        supports_check_mode=True,
    )
    # Directories above that of the secrets are for others, too, whatever the umask of Ansible's user.
    os.umask(0o022)
    entry = CacheEntry(module.params["cache_key"], [wanted["path"] for wanted in module.params["files"]])
    made: list[str] = []
    changed = False
    known: dict[str, str] = {}
    for wanted in module.params["files"]:
        path = Path(wanted["path"])
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        after = text
        if wanted["names"]:
            new = {name: secrets.token_hex(32) for name in wanted["names"] if name not in present(text)}
            made += new
            if new:
                lines = [line for line in text.splitlines() if line.partition("=")[0].strip() not in new]
                after = "\n".join([*lines, *(f"{name}={secret}" for name, secret in new.items())]) + "\n"
            known.update(present(after))
        else:
            after = with_secrets(wanted["text"], known)
        if after != text:
            changed = True
            if not module.check_mode:
                write(path, after)
        elif path.exists() and path.stat().st_mode & 0o077:
            changed = True
            if not module.check_mode:
                path.chmod(0o600)
    if not changed:
        entry.store({"made": made})
    module.exit_json(changed=changed, made=made)


if __name__ == "__main__":
    main()
