"""Every message of role jupyter about its settings, settings that it takes, and its lock."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.settings.validation import ROOT, answered_otherwise, facts, rendered, run_for

SUPPORTED = (
    "is not supported. Use Debian 12 or 13, Ubuntu 22.04 or 24.04, "
    "or Enterprise Linux 9 (RHEL, Rocky, AlmaLinux, CentOS Stream, Oracle)."
)
PACKAGE = (
    "cannot be read as a package. Write one name an entry, with the versions that are wanted, "
    "such as astropy>=6 or jupyterlab-git==0.51.*."
)
PATH = "is no absolute path. Write the whole path, such as /usr/bin/python3.12, or leave it out."

FILES = ROOT / "roles/jupyter/files"
LANGUAGES = re.findall(
    r"^jupyterlab-language-pack-([a-z-]+)==", (FILES / "languages/requirements.txt").read_text(), re.MULTILINE
)
LANGUAGE = (
    "is no language pack of the lock. Write language and country, such as ru-RU or de-DE. "
    f"There are: {' '.join(LANGUAGES)}."
)

BAD: dict[str, tuple[dict[str, Any], list[str]]] = {
    "debian11": (
        {"facts": facts("Debian", "11", "bullseye")},
        [f'distribution = "Debian 11" {SUPPORTED}'],
    ),
    "ubuntu2004": (
        {"facts": facts("Ubuntu", "20.04", "focal")},
        [f'distribution = "Ubuntu 20.04" {SUPPORTED}'],
    ),
    "rocky8": ({"facts": facts("Rocky", "8.10", "Green Obsidian")}, [f'distribution = "Rocky 8" {SUPPORTED}']),
    "python": ({"jupyter_python": "python3"}, [f'jupyter_python = "python3" {PATH}']),
    "option": (
        {"jupyter_extra_packages": ["numpy", "--index-url=https://example.org"]},
        [f'jupyter_extra_packages[1] = "--index-url=https://example.org" {PACKAGE}'],
    ),
    "two-packages": (
        {"jupyter_extra_packages": ["astropy fitsio"]},
        [f'jupyter_extra_packages[0] = "astropy fitsio" {PACKAGE}'],
    ),
    "two-lines": (
        {"jupyter_extra_packages": ["astropy\n--pre"]},
        [f'jupyter_extra_packages[0] = "astropy\\n--pre" {PACKAGE}'],
    ),
    "single-equals": (
        {"jupyter_extra_packages": ["astropy=6"]},
        [f'jupyter_extra_packages[0] = "astropy=6" {PACKAGE}'],
    ),
    "keep": (
        {"jupyter_keep_versions": -1},
        ["jupyter_keep_versions = -1 is negative. Write how many older versions to keep, such as 1."],
    ),
    "timeout": (
        {"jupyter_kernel_idle_timeout": -5},
        ["jupyter_kernel_idle_timeout = -5 is negative. Write a number of seconds, or 0 to stop no kernel."],
    ),
    "language": (
        {"jupyter_languages": ["ru-RU", "ru"]},
        [f'jupyter_languages[1] = "ru" {LANGUAGE}'],
    ),
    "module": (
        {"jupyter_prefork_kernel_modules": ["numpy", "scipy optimize"]},
        [
            (
                'jupyter_prefork_kernel_modules[1] = "scipy optimize" cannot be the name of a module. '
                "Write it as a notebook imports it, such as scipy.optimize."
            )
        ],
    ),
    "several": (
        {"jupyter_python": "3.12", "jupyter_keep_versions": -2, "jupyter_extra_packages": ["ok", "-e ."]},
        [
            f'jupyter_python = "3.12" {PATH}',
            f'jupyter_extra_packages[1] = "-e ." {PACKAGE}',
            "jupyter_keep_versions = -2 is negative. Write how many older versions to keep, such as 1.",
        ],
    ),
    "misspelt": (
        {"jupyter_extra_package": ["astropy"]},
        ["jupyter_extra_package is no setting of role jupyter. Did you mean jupyter_extra_packages?"],
    ),
}

GOOD: dict[str, dict[str, Any]] = {
    "nothing": {},
    "languages": {"jupyter_languages": ["ru-RU", "de-DE", "zh-CN"]},
    "english": {"jupyter_languages": []},
    "debian13": {"facts": facts("Debian", "13", "trixie")},
    "ubuntu2204": {"facts": facts("Ubuntu", "22.04", "jammy")},
    "rocky9": {"facts": facts("Rocky", "9.5", "Blue Onyx")},
    "everything": {
        "jupyter_python": "/opt/python/bin/python3.12",
        "jupyter_extra_packages": [
            "astropy",
            "astropy>=6,<8",
            "dask[array, distributed] ~= 2025.1",
            "jupyterlab-git==0.51.*",
            "mine @ https://example.org/mine-1.0-py3-none-any.whl",
            "pyqt5; python_version < '3.13'",
        ],
        "jupyter_keep_versions": 0,
        "jupyter_kernel_idle_timeout": 0,
    },
}


def test_bad_settings_are_named_with_a_remedy_and_good_ones_pass() -> None:
    good: dict[str, tuple[dict[str, Any], list[str]]] = {name: (settings, []) for name, settings in GOOD.items()}
    assert answered_otherwise("jupyter", BAD | good) == {}


def test_the_environment_gets_the_languages_of_the_site() -> None:
    hosts: dict[str, dict[str, Any]] = {
        "none": {"jupyter_languages": []},
        "two": {"jupyter_languages": ["ru-RU", "zh-cn"]},
    }
    found = run_for("jupyter", hosts, {}, "__jupyter_wanted_packs")
    assert found["none"] == []
    assert [text.partition("==")[0][-5:] for text in found["two"]] == ["ru-ru", "zh-cn"]
    assert all(text.count("--hash=sha256:") == 2 for text in found["two"])


def test_each_service_that_forks_has_its_switch() -> None:
    hosts: dict[str, dict[str, Any]] = {
        "both": {"jupyter_prefork_kernel_modules": ["numpy", "scipy.optimize"]},
        "servers": {"jupyter_prefork_kernels": False},
        "neither": {"jupyter_prefork": False},
    }
    found = rendered("jupyter", hosts, "__jupyter_prefork_files")
    names = {host: [path.rpartition("/")[2] for path in files] for host, files in found.items()}
    both = ["campushub-prefork.service", "campushub-prefork-kernels.service"]
    assert names == {"both": both, "servers": both[:1], "neither": []}
    servers, kernels = found["both"].values()
    assert "/bin/campushub-prefork /run/campushub-prefork/user.sock\n" in servers
    socket = "/run/campushub-prefork-kernels/user.sock"
    assert f"/bin/campushub-prefork-kernels {socket} numpy scipy.optimize\n" in kernels
    # Both are shut off from the host in the same way.
    assert len(set(servers.splitlines()) ^ set(kernels.splitlines())) == 6


def test_a_unit_that_a_run_has_left_is_stopped_later() -> None:
    """As the next run finds it: its file is gone, and it still runs."""
    tasks = {task["name"]: task for task in yaml.safe_load((ROOT / "roles/jupyter/tasks/install.yml").read_text())}
    timer = tasks["Switch the warm-up of environments on or off"]
    loop = tasks["Stop a service that forks servers or kernels"]
    wants = "/etc/systemd/system/multi-user.target.wants/campushub-"
    there = [timer["vars"]["__jupyter_warm_up_link"], f"{wants}prefork.service", f"{wants}prefork-kernels.service"]
    settings = {**timer["vars"], **loop["vars"], "jupyter_prefork_kernels": False}
    hosts = {
        "left": {**settings, "facts": facts(campushub={"markers": there})},
        "nothing": {**settings, "facts": facts(campushub={"markers": []})},
        "unknown": settings,
    }
    expression = f"[{timer['when']}, {loop['loop'].strip().removeprefix('{{').removesuffix('}}')}]"
    kernels = ["campushub-prefork-kernels.service"]
    assert run_for("jupyter", hosts, {}, expression) == {
        "left": [True, kernels],
        "nothing": [False, []],
        "unknown": [True, kernels],
    }


def locked(role: str) -> dict[str, str]:
    """Versions of the packages in a role's lock."""
    text = (ROOT / "roles" / role / "files/requirements.txt").read_text()
    return dict(re.findall(r"^([a-z0-9-]+)==([^ \\]+)", text, re.MULTILINE))


def test_users_servers_have_the_version_of_their_hub() -> None:
    assert locked("jupyter")["jupyterhub"] == locked("jupyterhub")["jupyterhub"]


@pytest.mark.parametrize("role", ["jupyter", "jupyterhub"])
def test_lock_has_what_is_asked_for_and_nothing_else(role: str) -> None:
    folder = ROOT / "roles" / role / "files"
    asked = re.findall(r"^([a-z0-9-]+)", (folder / "requirements.in").read_text(), re.MULTILINE)
    assert set(asked) <= set(locked(role))
    left_out = re.findall(r"^([a-z0-9-]+) ;", (FILES / "overrides.txt").read_text(), re.MULTILINE)
    found = re.findall(r"^([a-z0-9-]+)==\S+ (.*)", (folder / "requirements.txt").read_text(), re.MULTILINE)
    markers = {name: marker for name, marker in found if name in left_out}
    assert "rfc3987-syntax" in markers
    assert {name for name, marker in markers.items() if not marker.startswith("; sys_platform == 'never'")} == set()


def test_every_locked_package_has_hashes() -> None:
    text = (ROOT / "roles/jupyter/files/requirements.txt").read_text()
    entries = re.split(r"^(?=[a-z0-9])", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE), flags=re.MULTILINE)[1:]
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []
