"""The manual: its links lead somewhere, what is generated is up to date, and each setting is described once."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
DEPENDENCIES = (DOCS / "reference" / "dependencies.md").read_text()
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *ROOT.glob("roles/*/*.md"), *ROOT.glob("files/*/README.md")])
README_LINES = 150
# Groups, programs and packages whose names look like settings.
NO_SETTINGS = {
    "cvmfs_clients",
    "cvmfs_config",
    "cvmfs_talk",
    "eos_clients",
    "jupyter_client",
    "jupyter_core",
    "jupyter_events",
    "jupyter_server",
    "slurm_acct_db",
}


def prose(page: Path) -> str:
    """Text of a page without what stands in blocks of code."""
    return re.sub(r"^( *)(```|~~~).*?^\1\2", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Anchors of the headings of a page, as forges and MyST make them."""
    found: Counter[str] = Counter()
    names = set()
    for heading in re.findall(r"^#+ +(.+?) *#*$", prose(page), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", text.lower()).strip().replace(" ", "-")
        names.add(f"{slug}-{found[slug]}" if found[slug] else slug)
        found[slug] += 1
    return names


def links(page: Path) -> list[str]:
    """Targets of the links and pictures of a page that lie in this checkout."""
    text = re.sub(r"`[^`\n]*`", "", prose(page))
    targets = re.findall(r"\]\(<?([^)>\s]+)", text) + re.findall(r"(?:src|href|srcset)=\"([^\"]+)\"", text)
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page: Path) -> None:
    broken = []
    for link in links(page):
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


def test_the_manual_is_reached_from_its_indexes() -> None:
    reached, waiting = set(), [DOCS / "index.md"]
    while waiting:
        page = waiting.pop()
        if page not in reached:
            reached.add(page)
            targets = [(page.parent / link.partition("#")[0]).resolve() for link in links(page)]
            waiting += [target for target in targets if target.suffix == ".md" and DOCS in target.parents]
    assert not set(DOCS.rglob("*.md")) - reached


def test_readme_is_a_landing_page() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= README_LINES


def test_generated_pages_are_up_to_date() -> None:
    command = [sys.executable, str(DOCS / "generate.py"), "--check"]
    check = subprocess.run(command, capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stdout + check.stderr


def declared_settings() -> set[str]:
    """Names of the settings of all roles."""
    found: set[str] = set()
    for path in ROOT.glob("roles/*/meta/argument_specs.yml"):
        found |= set(yaml.safe_load(path.read_text())["argument_specs"]["main"].get("options", {}))
    return found


def test_each_setting_is_described_once() -> None:
    declared = declared_settings()
    described: Counter[str] = Counter()
    for page in PAGES:
        described.update(re.findall(r"^##+ +`?([a-z]+_[a-z0-9_]+)`?$", prose(page), re.MULTILINE))
    assert declared
    assert {name: described[name] for name in declared} == dict.fromkeys(declared, 1)


def test_settings_that_pages_name_exist() -> None:
    declared = declared_settings()
    prefixes = "|".join(sorted({name.partition("_")[0] for name in declared}))
    unknown = {}
    for page in [ROOT / "README.md", *DOCS.rglob("*.md")]:
        if page.name != "changelog.md":
            named = set(re.findall(rf"(?<![\w/.])(?:{prefixes})_[a-z0-9_]+(?![\w/.-])", page.read_text()))
            unknown[str(page.relative_to(ROOT))] = named - declared - NO_SETTINGS
    assert not {page: names for page, names in unknown.items() if names}


def test_no_markup_of_ansible_is_left_over() -> None:
    pages = (DOCS / "reference" / "settings").glob("*.md")
    left = {page.name: re.findall(r"\b[BCEFILMOPRUV]\([^)]*\)", page.read_text()) for page in pages}
    assert not {name: found for name, found in left.items() if found}


def test_every_dependency_has_a_reason() -> None:
    for requirements in (ROOT / "requirements.in", ROOT / "tests" / "requirements.in"):
        names = re.findall(r"^([A-Za-z0-9][A-Za-z0-9_.-]*)", requirements.read_text(), re.MULTILINE)
        assert names
        assert not [name for name in names if f"`{name}`" not in DEPENDENCIES]


def test_every_verb_is_described() -> None:
    verbs = {path.stem for path in (ROOT / "playbooks").glob("*.yml")} | {"install", "test"}
    described = re.findall(r"^## (\w+)$", (DOCS / "reference" / "verbs.md").read_text(), re.MULTILINE)
    assert sorted(described) == sorted(verbs)


def test_the_changelog_begins_with_this_version() -> None:
    version = (ROOT / "VERSION").read_text().strip()
    first = re.search(r"^## \[?([^\]\s]+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert first
    assert first[1] == version


def test_hooks_run_the_linters_of_the_test_run() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repository["repo"] for repository in hooks] == ["local"]
    ids = {hook["id"] for hook in hooks[0]["hooks"]}
    assert {"ruff-check", "ruff-format", "mypy", "yamllint", "ansible-lint", "shellcheck"} <= ids
    assert {hook["language"] for hook in hooks[0]["hooks"]} == {"system"}
