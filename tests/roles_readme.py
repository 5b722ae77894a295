#!/usr/bin/env python3
"""
Write the tables of settings in roles/*/README.md from the roles' own specifications and defaults.

Run it after a setting has changed. With `--check` it writes nothing, names the files that are out of
date, and fails if there is one. Only what stands between the two marks of a file is written; a text
of one's own goes before or after them.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROLES = Path(__file__).resolve().parent.parent / "roles"
BEGIN = "<!-- begin: made by tests/roles_readme.py from meta/argument_specs.yml and defaults/main.yml -->"
END = "<!-- end -->"
LONGEST_DEFAULT = 60


def markdown(text: str) -> str:
    """Turn the mark-up of Ansible's documentation into Markdown."""
    text = re.sub(r"\b[COVEP]\(((?:[^()\\]|\\.|\([^()]*\))*)\)", lambda found: f"`{found[1]}`", text)
    text = re.sub(r"\bM\(([^()]*)\)", r"`\1`", text)
    text = re.sub(r"\bI\(([^()]*)\)", r"*\1*", text)
    return re.sub(r"\bB\(([^()]*)\)", r"**\1**", text)


def paragraphs(description: str | list[str]) -> list[str]:
    """Return a description as paragraphs in Markdown."""
    return [markdown(text.strip()) for text in ([description] if isinstance(description, str) else description)]


def shown(value: Any) -> str:
    """Return a default as it is written in an inventory."""
    text = value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
    return f"`{text}`" if len(text) <= LONGEST_DEFAULT and "\n" not in text else "see [defaults](defaults/main.yml)"


def kind(option: Mapping[str, Any]) -> str:
    """Return the type of a setting, or its choices."""
    if option.get("choices"):
        return " or ".join(f"`{choice}`" for choice in option["choices"])
    elements = f" of {option['elements']}" if option.get("elements") else ""
    return f"{option.get('type', 'str')}{elements}"


def rows(options: Mapping[str, Any], defaults: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Return the rows of a table: the settings, each followed by what is inside it."""
    for name, option in options.items():
        if option.get("required"):
            default = "required"
        elif name in defaults:
            default = shown(defaults[name])
        elif "default" in option:
            default = shown(option["default"])
        else:
            default = ""
        cells = [f"`{prefix}{name}`", kind(option), default, " ".join(paragraphs(option.get("description", "")))]
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
        if "options" in option:
            inside = "[]." if option.get("elements") == "dict" else "."
            yield from rows(option["options"], {}, f"{prefix}{name}{inside}")


def load(path: Path) -> dict[str, Any]:
    """Read a YAML file; a file that is not there or empty is an empty one."""
    return (yaml.safe_load(path.read_text()) if path.exists() else None) or {}


def generated(role: Path) -> str:
    """Return what a role's README says about its purpose and settings."""
    spec = load(role / "meta" / "argument_specs.yml")["argument_specs"]["main"]
    lines = [BEGIN, f"{markdown(spec['short_description'])}.", ""]
    for paragraph in paragraphs(spec.get("description", [])):
        lines += [paragraph, ""]
    lines += ["## Settings", "", "| setting | type | default | meaning |", "|---|---|---|---|"]
    lines += rows(spec.get("options", {}), load(role / "defaults" / "main.yml"))
    return "\n".join([*lines, END])


def readme(role: Path) -> str:
    """Return the README of a role as it should be."""
    path = role / "README.md"
    text = path.read_text() if path.exists() else f"# Role {role.name}\n\n{BEGIN}\n{END}\n"
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f"{path} has lost the marks between which its table stands:\n{BEGIN}\n{END}")
    return before + generated(role) + after


def main() -> int:
    """Write or check the files."""
    parser = argparse.ArgumentParser(description="Write the tables of settings in roles/*/README.md.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is out of date")
    check = parser.parse_args().check
    stale = []
    for spec in sorted(ROLES.glob("*/meta/argument_specs.yml")):
        role = spec.parent.parent
        path, text = role / "README.md", readme(role)
        if not path.exists() or path.read_text() != text:
            stale.append(path)
            if not check:
                path.write_text(text)
    for path in stale:
        print(f"{path.relative_to(ROLES.parent)}: {'out of date; run tests/roles_readme.py' if check else 'written'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
