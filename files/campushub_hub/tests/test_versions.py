"""What these tests run is what the role installs."""

from __future__ import annotations

import re
from importlib.metadata import version

import pytest
from tests.settings.validation import ROOT


@pytest.mark.parametrize(
    "package", ["jupyterhub", "jupyterhub-systemdspawner", "sudospawner", "tornado", "traitlets", "pamela"]
)
def test_tests_run_with_the_hubs_versions(package: str) -> None:
    lock = (ROOT / "roles/jupyterhub/files/requirements.txt").read_text()
    pinned = re.findall(rf"^{package}==(\S+)", lock, re.MULTILINE)
    assert version(package) in pinned
