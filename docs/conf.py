"""
How Sphinx builds the manual.

The pages are plain Markdown that is also read as it is. So the table of contents is written nowhere else: it is the
lists of links to pages in each `index.md`, in their order.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parent.parent

project = "CampusHub"
author = "CampusHub contributors"
version = release = (ROOT / "VERSION").read_text().strip()

extensions = ["myst_parser"]
myst_heading_anchors = 4
exclude_patterns = ["screenshots"]
nitpicky = True

html_theme = "pydata_sphinx_theme"
html_title = f"CampusHub {release}"
html_static_path = ["_static"]
html_css_files = ["campushub.css"]
html_show_sourcelink = False
html_copy_source = False
html_use_index = False
html_theme_options = {
    "logo": {"text": "CampusHub"},
    "navbar_align": "left",
    "navbar_persistent": ["search-button"],
    "header_links_before_dropdown": 7,
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": ["theme-version"],
}
html_sidebars: dict[str, list[str]] = {"index": [], "changelog": []}
copyright = "CampusHub contributors, BSD 3-Clause"  # noqa: A001 - Sphinx gives it this name


def add_table_of_contents(_app: Sphinx, page: str, source: list[str]) -> None:
    """Give an index page the hidden table of contents that its lists of links make."""
    if page == "index" or page.endswith("/index"):
        pages = dict.fromkeys(re.findall(r"^- \[.*?\]\(([a-z][\w/.-]*)\.md\)", source[0], re.MULTILINE))
        source[0] += "\n\n```{toctree}\n:hidden:\n\n" + "\n".join(pages) + "\n```\n"


def setup(app: Sphinx) -> None:
    """Connect what this project adds to Sphinx."""
    app.connect("source-read", add_table_of_contents)
