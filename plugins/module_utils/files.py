"""Text files that are replaced in one step, and blocks of lines within files of others."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import tempfile

# Words by which files and blocks are known to be ours.
MARKER = "Managed by CampusHub"


def replace_block(text: str, block: str, marker: str = MARKER) -> str:
    """Return a text with the block in place of the one it has, or at its end; an empty block removes it."""
    begin, end = f"# BEGIN {marker}", f"# END {marker}"
    wanted = f"{begin}\n{block.rstrip()}\n{end}\n" if block.strip() else ""
    pattern = re.compile(rf"^{re.escape(begin)}$.*?^{re.escape(end)}$\n?", re.MULTILINE | re.DOTALL)
    if pattern.search(text):
        return pattern.sub(lambda _: wanted, text, count=1)
    if wanted and text and not text.endswith("\n"):
        text += "\n"
    return text + wanted


def private_directory() -> str | None:
    """Return where root makes temporary files: users can put nothing there, as they can in /tmp. None is /tmp."""
    return "/run" if os.geteuid() == 0 else None


class ValidationError(Exception):
    """The program that reads a file does not accept its new content."""


def validate(path: str, command: str) -> None:
    """Raise ValidationError if a command does not accept the file, whose path replaces %s in the command."""
    argv = [path if word == "%s" else word for word in shlex.split(command)]
    checked = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if checked.returncode:
        raise ValidationError(f"{argv[0]} refuses the new text: {checked.stdout.strip()}")


def write(path: str, text: str, mode: int, owner: tuple[int, int], command: str | None = None) -> None:
    """
    Put a file in its place with its final owner and mode from the first moment on.

    Raises ValidationError, and leaves the old file, if a command is given that does not accept the new one.
    """
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".campushub-")
    try:
        with open(handle, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
        os.chown(temporary, *owner)
        os.chmod(temporary, mode)
        if command:
            validate(temporary, command)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
