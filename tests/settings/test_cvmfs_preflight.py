"""The preflight checks look at a host for CVMFS: this machine stands for it, and nothing on it is changed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.settings.validation import preflight
from tests.unit.test_signed_repository import FINGERPRINT, KEY


def test_preflight_looks_at_the_host_and_at_the_key(tmp_path: Path) -> None:
    (tmp_path / "packages.asc").write_bytes(KEY)
    here = {
        "ansible_connection": "local",
        "ansible_become": False,
        "ansible_python_interpreter": sys.executable,
        # Nothing listens there: the sources are refused at once.
        **dict.fromkeys(("base_apt_mirror", "base_python_index_url", "base_npm_registry"), "http://127.0.0.1:1"),
        "cvmfs_repositories": ["sft.cern.ch"],
        "cvmfs_key_url": str(tmp_path / "packages.asc"),
        "cvmfs_quota_limit": 999999999,
        "cvmfs_cache_directory": str(tmp_path / "not" / "yet"),
        "jupyter_cvmfs_kernels": [
            {"name": "eessi", "display_name": "EESSI", "environment": "eessi", "version": "2023.06"}
        ],
    }
    groups = {name: {"hosts": {"hub1": here if name == "hub" else {}}} for name in ("hub", "cvmfs_clients", "squid")}
    groups["cvmfs_clients"]["hosts"]["node1"] = here | {"cvmfs_key_url": "http://127.0.0.1:1/cernvm.gpg"}
    status, output = preflight(tmp_path, groups)
    assert status != 0
    there = os.statvfs(tmp_path)
    space = there.f_blocks * there.f_frsize // 1_000_000
    for message in (
        f"does not fit the key at {tmp_path}/packages.asc, which has fingerprint {FINGERPRINT}, not FD80468D",
        f"cvmfs_quota_limit = 999999999 is more than the {space} megabytes of the file system with {tmp_path}/not/yet",
        'cvmfs_key_url = "http://127.0.0.1:1/cernvm.gpg" cannot be fetched by the host: ',
        "hub1: squid_client_networks = [] is empty, so that no client could use the cache.",
        'jupyter_cvmfs_kernels[0] = "software.eessi.io" (eessi) is in a repository that the host does not mount.',
    ):
        assert message in output, output
    # The host is in the group squid, so there is a proxy.
    assert "cvmfs_proxies" not in output
    assert not (tmp_path / "not").exists()
