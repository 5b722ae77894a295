"""A certificate that CampusHub makes is looked at again when it is to be renewed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import result_cache

from plugins.modules import certificate
from tests.unit.modules import run_module


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result_cache, "DIRECTORY", str(tmp_path / "store"))


def ask(path: Path, self_signed: str = "always") -> dict[str, Any]:
    return run_module(
        certificate.main,
        certificate_path=str(path),
        key_path=str(path),
        names=["hub.example.org"],
        self_signed=self_signed,
        days=100,
        cache_key="asked",
    )


@pytest.mark.usefixtures("store")
def test_a_result_holds_until_the_certificate_is_to_be_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "hub.pem"
    assert ask(path)["changed"]
    assert not ask(path)["changed"]
    assert result_cache.valid_results()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 71 * 86400)
    assert not result_cache.valid_results()
    assert ask(path)["changed"]


@pytest.mark.usefixtures("store")
def test_what_is_only_looked_at_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "hub.pem"
    ask(path)
    assert not ask(path, self_signed="never")["changed"]
    assert not result_cache.valid_results()
