"""Every message of role cvmfs about its settings, settings that it takes, and the files that it makes of them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.settings.validation import answered_otherwise, facts, rendered

# Made by openssl for this test.
KEY = """-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAqHIqvYyJmJk5nTQ5n0eQ
i0iYgqfNAkZGrfvnAi2OY8EV7JbWj2mxIkIsFbJ7bBo2uOJfZbYHTnQ2rYKPaUlA
6ZBuOzbmdUDcD3JTHzjXBRLUYkKbwqPCGoR5UWSGfg4qg2S4XjVfQtKzPo+5XhcG
gZs1OLJ3eTUuzsgLr6BlpFq+v1DnPxkUPBnFKKcWHFCzoO+d5L9FpJZ7kKXWhl5T
LZPC4xGVPZ/rLyrqbYbZQkPUjsvfYu9tdULf7dUb2OZNTMd5dlNDmNeXWhu7Z2BT
5q2aFqnvQ6iw8XjbdG1O5hOGAeEBbqrENo6NYWKwnvGvXnUL3xk2rmjdYQ/5QHdL
hwIDAQAB
-----END PUBLIC KEY-----
"""
ROOM = {"space_mb": 50000, "files": 20000}
KEY_IS_RIGHT = {"problem": ""}


def host(*distribution: str, room: dict[str, int] | None = None, key: str = "") -> dict[str, Any]:
    """A host that was looked at already."""
    return facts(
        *(distribution or ("Debian", "12", "bookworm")),
        cvmfs_room=room or ROOM,
        signed_repository_campushub_cvmfs={"problem": key},
    )


def settings(**others: Any) -> dict[str, Any]:
    """Settings that are right but for those that are given."""
    return {"facts": host(), "cvmfs_repositories": ["sft.cern.ch"], "cvmfs_direct": True, **others}


def own(**others: Any) -> dict[str, Any]:
    """A repository of the site's own."""
    servers = ["http://stratum1.example.org/cvmfs/@fqrn@"]
    return {"name": "software.example.org", "server_urls": servers, "public_keys": [KEY], **others}


SUPPORTED = (
    "is not supported. Use Debian 12 or 13, Ubuntu 22.04 or 24.04, or Enterprise Linux 9 or 10 "
    "(RHEL, Rocky, AlmaLinux, CentOS Stream, Oracle)."
)
URL = "is no address of a repository. Begin it with https:// or http://, or say cvmfs_repository_manage=false."
PLACE = (
    "is neither an address nor an absolute path. "
    "Begin it with https://, or with {{ inventory_dir }}/ when the file is kept beside the inventory."
)
NAME = "is no full name of a repository. Write it with its domain, such as"
SERVERS = (
    "has an entry that is no URL of a server, or none at all. Write such as http://stratum1.example.org/cvmfs/@fqrn@."
)
PEM = (
    "has something that is no public key in PEM, or none at all. A key of CVMFS has a line "
    "'-----BEGIN PUBLIC KEY-----'. It is in /etc/cvmfs/keys of the server that publishes."
)
KEY_PATH = "has a path of no file on the controller. Give the path of the public key, or its text."
OPTION = "has a name that is no parameter of CVMFS. Names are CVMFS_ and then capital letters, digits and underscores."
LINES = (
    "has a value of several lines or with a single quote. "
    "Write it in one line; the client's own tools cannot read a single quote."
)
VALUE = (
    "is no value of one line without single quotes. "
    "Write a text, a number, true or false; the client's own tools cannot read a single quote."
)
PROXIES = (
    "is no group of proxies. Write one such as http://squid1.example.org:3128, several with a vertical bar between "
    "them, each group as an entry of its own; for no proxy say cvmfs_direct=true."
)
NO_WAY = (
    "cvmfs_proxies = [] is empty, and cvmfs_direct is false, so that nothing could be fetched. "
    "Put hosts into the group squid, name the site's proxies, or say cvmfs_direct=true."
)
MEGABYTES = "is not a whole number of megabytes. Write digits only, such as 4000 for 4 GB."
PARAMETER = (
    "is no parameter of CVMFS. Names are CVMFS_ and then capital letters, digits and underscores, such as "
    "CVMFS_TIMEOUT."
)
WHOLE_PATH = "is no absolute path. Write the whole path, such as /var/lib/cvmfs."
OLD_FINGERPRINT = "70B9890488208E315ED45208230D389D8AE45CE7"
FINGERPRINT = "FD80468D49B3B24C341741FC8CE0A76C497EA957"

BAD: dict[str, tuple[dict[str, Any], list[str]]] = {
    "fedora": (settings(facts=host("Fedora", "42", "")), [f'distribution = "Fedora 42" {SUPPORTED}']),
    "apt-url": (settings(cvmfs_apt_url="cvmrepo"), [f'cvmfs_apt_url = "cvmrepo" {URL}']),
    "yum-url": (
        settings(cvmfs_yum_url="cvmrepo", facts=host("Rocky", "9.5", "Blue Onyx")),
        [f'cvmfs_yum_url = "cvmrepo" {URL}'],
    ),
    "suite": (
        settings(cvmfs_apt_suite="book worm"),
        [
            (
                'cvmfs_apt_suite = "book worm" cannot be the name of a suite. '
                "Leave it empty for the one of the distribution, such as bookworm-prod."
            )
        ],
    ),
    "key-place": (settings(cvmfs_key_url="cernvm.gpg"), [f'cvmfs_key_url = "cernvm.gpg" {PLACE}']),
    "key-missing": (
        settings(cvmfs_key_url="/nonexistent/cernvm.gpg"),
        [
            (
                'cvmfs_key_url = "/nonexistent/cernvm.gpg" is no file on the controller. '
                "Give the path of the public key that the packages are signed with."
            )
        ],
    ),
    "fingerprint": (
        settings(cvmfs_key_fingerprint="497EA957", facts=host(key="has fingerprint 1, not 497EA957")),
        [
            (
                'cvmfs_key_fingerprint = "497EA957" is no fingerprint of a key. '
                "Give its 40 hexadecimal digits, as gpg --show-keys prints them."
            )
        ],
    ),
    "other-key": (
        settings(facts=host(key=f"has fingerprint {'0' * 40}, not {FINGERPRINT}")),
        [
            (
                f'cvmfs_key_fingerprint = "{FINGERPRINT}" does not fit the key at '
                f"https://cvmrepo.s3.cern.ch/cvmrepo/apt/cernvm.gpg, which has fingerprint {'0' * 40}, "
                f"not {FINGERPRINT}. "
                "Ask those who run the repository which key is theirs before you change it."
            )
        ],
    ),
    "old-key": (
        settings(facts=host("Rocky", "9.5", "Blue Onyx", key="has fingerprint 1, not 2")),
        [
            (
                f'cvmfs_key_fingerprint = "{OLD_FINGERPRINT}" does not fit the key at '
                "https://cvmrepo.s3.cern.ch/cvmrepo/yum/RPM-GPG-KEY-CernVM, which has fingerprint 1, not 2. "
                "Ask those who run the repository which key is theirs before you change it."
            )
        ],
    ),
    "version": (
        settings(cvmfs_version="newest"),
        [
            (
                'cvmfs_version = "newest" is no version of a package. '
                "Write it as apt-cache policy cvmfs or dnf list cvmfs shows it, or leave it empty for the newest."
            )
        ],
    ),
    **{
        version: (
            settings(cvmfs_version=version),
            [
                (
                    f'cvmfs_version = "{version}" can hang for good when an unmount meets an automount '
                    "(issue 3993 of CVMFS). Use 2.13.3 or newer."
                )
            ],
        )
        for version in ("2.13.0~1+debian12", "2.13.1-1.el9", "2.13.2")
    },
    "config": (
        settings(cvmfs_config_package="cvmfs-config-defaults"),
        [
            (
                'cvmfs_config_package = "cvmfs-config-defaults" is none of cvmfs-config-default, cvmfs-config-none. '
                "Did you mean cvmfs-config-default?"
            )
        ],
    ),
    "names": (
        settings(cvmfs_repositories=["sft", "sft.cern.ch", "/cvmfs/sft.cern.ch", "sft..ch", "a.b\n"]),
        [
            f'cvmfs_repositories[0] = "sft" {NAME} sft.cern.ch.',
            f'cvmfs_repositories[2] = "/cvmfs/sft.cern.ch" {NAME} sft.cern.ch.',
            f'cvmfs_repositories[3] = "sft..ch" {NAME} sft.cern.ch.',
            f'cvmfs_repositories[4] = "a.b\\n" {NAME} sft.cern.ch.',
        ],
    ),
    "none-at-all": (
        settings(cvmfs_repositories=[], cvmfs_config_package="cvmfs-config-none"),
        [
            (
                "cvmfs_repositories = [] is empty, and there is no other repository. "
                "Name one, such as sft.cern.ch, or one of your own in cvmfs_own_repositories."
            )
        ],
    ),
    "own-name": (
        settings(cvmfs_own_repositories=[own(name="software")]),
        [f'cvmfs_own_repositories[0].name = "software" {NAME} software.example.org.'],
    ),
    "own-twice": (
        settings(cvmfs_own_repositories=[own(), own()]),
        ['cvmfs_own_repositories[1].name = "software.example.org" is there already. Describe each repository once.'],
    ),
    "own-servers": (
        settings(cvmfs_own_repositories=[own(server_urls=["http://a.example.org/cvmfs/@fqrn@;b"])]),
        [
            (
                "cvmfs_own_repositories[0].server_urls = "
                f'["http://a.example.org/cvmfs/@fqrn@;b"] (software.example.org) {SERVERS}'
            )
        ],
    ),
    "own-no-servers": (
        settings(cvmfs_own_repositories=[own(server_urls=[])]),
        [f"cvmfs_own_repositories[0].server_urls = [] (software.example.org) {SERVERS}"],
    ),
    "own-key": (
        settings(cvmfs_own_repositories=[own(public_keys=[KEY, "ssh-rsa AAAA"])]),
        [f'cvmfs_own_repositories[0].public_keys = ["ssh-rsa AAAA"] (software.example.org) {PEM}'],
    ),
    "own-private-key": (
        settings(cvmfs_own_repositories=[own(public_keys=[KEY.replace("PUBLIC", "PRIVATE")])]),
        [(f'cvmfs_own_repositories[0].public_keys = ["-----BEGIN PRIVATE..."] (software.example.org) {PEM}')],
    ),
    "own-no-key": (
        settings(cvmfs_own_repositories=[own(public_keys=[])]),
        [f"cvmfs_own_repositories[0].public_keys = [] (software.example.org) {PEM}"],
    ),
    "own-key-path": (
        settings(cvmfs_own_repositories=[own(public_keys=["/nonexistent/software.pub"])]),
        [f'cvmfs_own_repositories[0].public_keys = ["/nonexistent/software.pub"] (software.example.org) {KEY_PATH}'],
    ),
    "own-options": (
        settings(cvmfs_own_repositories=[own(options={"HTTP_PROXY": "DIRECT"})]),
        [f'cvmfs_own_repositories[0].options = {{"HTTP_PROXY": "DIRECT"}} (software.example.org) {OPTION}'],
    ),
    "own-lines": (
        settings(cvmfs_own_repositories=[own(options={"CVMFS_TIMEOUT": "5\n6"})]),
        [f'cvmfs_own_repositories[0].options = {{"CVMFS_TIMEOUT": "5\\n6"}} (software.example.org) {LINES}'],
    ),
    "domain": (
        settings(
            cvmfs_own_domains=[
                own(name="exa mple", server_urls=["ftp://x/"], public_keys=["no"], options={"x": 1}),
                own(name="example.org", options={"CVMFS_X": "\t"}),
                own(name="example.org", public_keys=["/nonexistent/k"]),
            ]
        ),
        [
            'cvmfs_own_domains[0].name = "exa mple" is no domain. Write it such as example.org.',
            'cvmfs_own_domains[2].name = "example.org" is there already. Describe each domain once.',
            f'cvmfs_own_domains[0].server_urls = ["ftp://x/"] (exa mple) {SERVERS}',
            f'cvmfs_own_domains[2].public_keys = ["/nonexistent/k"] (example.org) {KEY_PATH}',
            f'cvmfs_own_domains[0].public_keys = ["no"] (exa mple) {PEM}',
            f'cvmfs_own_domains[0].options = {{"x": 1}} (exa mple) {OPTION}',
            f'cvmfs_own_domains[1].options = {{"CVMFS_X": "\\t"}} (example.org) {LINES}',
        ],
    ),
    "no-way": (settings(cvmfs_direct=False), [NO_WAY]),
    "single-is-no-way-either": (settings(cvmfs_direct=False, cvmfs_client_profile="single"), [NO_WAY]),
    "proxies": (
        settings(
            cvmfs_proxies=[
                "http://a:3128|http://b:3128",
                "a:3128",
                "http://a:3128;DIRECT",
                "http://a:3128|",
                "DIRECT",
                "http://a",
            ]
        ),
        [
            f'cvmfs_proxies[{number}] = "{value}" {PROXIES}'
            for number, value in (
                (1, "a:3128"),
                (2, "http://a:3128;DIRECT"),
                (3, "http://a:3128|"),
                (4, "DIRECT"),
                (5, "http://a"),
            )
        ],
    ),
    "cache": (settings(cvmfs_cache_directory="cache"), [f'cvmfs_cache_directory = "cache" {WHOLE_PATH}']),
    "alien": (
        settings(cvmfs_alien_cache="shared"),
        [
            (
                'cvmfs_alien_cache = "shared" is no absolute path. '
                "Write the whole path of a directory on the cluster file system, or leave it empty."
            )
        ],
    ),
    "quota-unit": (settings(cvmfs_quota_limit="4GB"), [f'cvmfs_quota_limit = "4GB" {MEGABYTES}']),
    "quota-half": (settings(cvmfs_quota_limit=4000.5), [f"cvmfs_quota_limit = 4000.5 {MEGABYTES}"]),
    "quota-small": (
        settings(cvmfs_quota_limit=999),
        ["cvmfs_quota_limit = 999 is too small. Give at least 1000 megabytes: one program may need that much at once."],
    ),
    "quota-large": (
        settings(cvmfs_quota_limit="50001"),
        [
            (
                'cvmfs_quota_limit = "50001" is more than the 50000 megabytes of the file system with /var/lib/cvmfs. '
                "Give less, or choose another cvmfs_cache_directory."
            )
        ],
    ),
    "files-few": (
        settings(cvmfs_nfiles=100),
        ["cvmfs_nfiles = 100 is too small. Give at least 1024, or 0 for as many as the host allows."],
    ),
    "files-many": (
        settings(cvmfs_nfiles=131072),
        [
            (
                "cvmfs_nfiles = 131072 is more than the 20000 files that a service of this host may open. "
                "Give less, or 0 for as many as the host allows."
            )
        ],
    ),
    "extra": (
        settings(
            cvmfs_extra={
                "TIMEOUT": 5,
                "CVMFS_timeout": 5,
                "CVMFS_X; reboot": 1,
                "CVMFS_LIST": [1],
                "CVMFS_Y": "a\nb",
                "CVMFS_Z": "it's",
            }
        ),
        [
            f'cvmfs_extra["CVMFS_X; reboot"] = 1 {PARAMETER}',
            f'cvmfs_extra["CVMFS_timeout"] = 5 {PARAMETER}',
            f'cvmfs_extra["TIMEOUT"] = 5 {PARAMETER}',
            f'cvmfs_extra["CVMFS_LIST"] = [1] {VALUE}',
            f'cvmfs_extra["CVMFS_Y"] = "a\\nb" {VALUE}',
            f'cvmfs_extra["CVMFS_Z"] = "it\'s" {VALUE}',
        ],
    ),
    "extra-config": (
        settings(cvmfs_extra={"CVMFS_CONFIG_REPOSITORY": "config.example.org"}),
        [
            (
                'cvmfs_extra["CVMFS_CONFIG_REPOSITORY"] = "config.example.org" cannot be set here, for the client '
                "takes it from /etc/cvmfs/default.d alone. Put it into a file /etc/cvmfs/default.d/60-site.conf."
            )
        ],
    ),
    "extra-twice": (
        settings(cvmfs_extra={"CVMFS_QUOTA_LIMIT": "4GB"}),
        [
            (
                'cvmfs_extra["CVMFS_QUOTA_LIMIT"] = "4GB" has a setting of its own. Use '
                "cvmfs_repositories, cvmfs_proxies, cvmfs_cache_directory, cvmfs_quota_limit, cvmfs_shared_cache, "
                "cvmfs_alien_cache, cvmfs_nfiles, cvmfs_strict_mount, cvmfs_use_cdn, cvmfs_client_profile."
            )
        ],
    ),
    "method": (
        settings(cvmfs_mount_method="automount"),
        ['cvmfs_mount_method = "automount" is none of autofs, systemd. See docs/reference/settings/cvmfs.md.'],
    ),
    "deadline": (
        settings(cvmfs_check_deadline=1),
        ["cvmfs_check_deadline = 1 is too short. Give at least 5 seconds; a first mount takes some."],
    ),
    "misspelt": (
        settings(cvmfs_quota=4000),
        ["cvmfs_quota is no setting of role cvmfs. Did you mean cvmfs_quota_limit?"],
    ),
}

HOSTILE = 'its "$HOME" `id`; $(reboot) \\ | & #x  *'

GOOD: dict[str, dict[str, Any]] = {
    "direct": settings(),
    "two-proxies": settings(cvmfs_direct=False, cvmfs_proxies=["http://squid1:3128|http://[2001:db8::1]:3128", "auto"]),
    "rocky10": settings(facts=host("Rocky", "10.0", "Red Quartz"), cvmfs_apt_url=""),
    "ubuntu": settings(facts=host("Ubuntu", "24.04", "noble")),
    "absent": {"cvmfs_state": "absent"},
    "everything": settings(
        cvmfs_apt_suite="trixie-prod",
        cvmfs_key_fingerprint=f"FD80 468D 49B3 B24C 3417  41FC 8CE0 A76C 497E A957,{'0' * 40}",
        cvmfs_version="2.13.3~1+debian12",
        cvmfs_config_package="cvmfs-config-none",
        cvmfs_repositories=["sft.cern.ch", "tools.example.org", "under_score.example-1.org"],
        cvmfs_own_repositories=[own(options={"CVMFS_HTTP_PROXY": "DIRECT", "CVMFS_HOSTILE": HOSTILE})],
        cvmfs_own_domains=[own(name="example.org", public_keys=[KEY, KEY])],
        cvmfs_proxies=["http://a.example.org:3128|http://b.example.org:3128", "http://backup.example.org:3128"],
        cvmfs_client_profile="single",
        cvmfs_quota_limit="50000",
        cvmfs_nfiles=20000,
        cvmfs_strict_mount=True,
        cvmfs_use_cdn=True,
        cvmfs_extra={"CVMFS_HOSTILE": HOSTILE, "CVMFS_TIMEOUT": 7, "CVMFS_SEND_INFO_HEADER": True},
        cvmfs_mount_method="systemd",
    ),
    "shared-cache": settings(cvmfs_alien_cache="/shared/cvmfs", cvmfs_quota_limit=100000),
}


def test_bad_settings_are_named_with_a_remedy_and_good_ones_pass() -> None:
    good: dict[str, tuple[dict[str, Any], list[str]]] = {name: (settings, []) for name, settings in GOOD.items()}
    assert answered_otherwise("cvmfs", BAD | good) == {}


@pytest.fixture(scope="module")
def files() -> dict[str, dict[str, str]]:
    """The files that the role would write, for each set of good settings."""
    return rendered(
        "cvmfs",
        {name: given for name, given in GOOD.items() if name != "absent"},
        "(__cvmfs_files + __cvmfs_mount_files)",
    )


def sourced(text: str, scratch: Path, shell: str = "sh") -> dict[str, str]:
    """What a shell makes of a file of parameters."""
    (scratch / "parameters").write_text(text)
    script = 'set -eu; . "$1"; shift; for name; do eval "printf \'%s\\\\0\' \\"\\$$name\\""; done'
    names = [line.partition("=")[0] for line in text.splitlines() if not line.startswith("#")]
    run = subprocess.run(
        [shell, "-c", script, shell, scratch / "parameters", *names], capture_output=True, text=True, check=True
    )
    return dict(zip(names, run.stdout.split("\0"), strict=False))


def test_parameters_are_what_a_shell_reads(files: dict[str, dict[str, str]], tmp_path: Path) -> None:
    mine = files["everything"]
    assert sourced(mine["/etc/cvmfs/default.local"], tmp_path) == {
        "CVMFS_REPOSITORIES": "sft.cern.ch,tools.example.org,under_score.example-1.org,software.example.org",
        "CVMFS_HTTP_PROXY": (
            "http://a.example.org:3128|http://b.example.org:3128;http://backup.example.org:3128;DIRECT"
        ),
        "CVMFS_CACHE_BASE": "/var/lib/cvmfs",
        "CVMFS_QUOTA_LIMIT": "50000",
        "CVMFS_SHARED_CACHE": "yes",
        "CVMFS_NFILES": "20000",
        "CVMFS_STRICT_MOUNT": "yes",
        "CVMFS_USE_CDN": "yes",
        "CVMFS_CLIENT_PROFILE": "single",
        "CVMFS_HOSTILE": HOSTILE,
        "CVMFS_TIMEOUT": "7",
        "CVMFS_SEND_INFO_HEADER": "yes",
    }
    assert sourced(mine["/etc/cvmfs/config.d/software.example.org.local"], tmp_path) == {
        "CVMFS_SERVER_URL": "http://stratum1.example.org/cvmfs/@fqrn@",
        "CVMFS_KEYS_DIR": "/etc/cvmfs/keys/campushub/software.example.org",
        "CVMFS_HTTP_PROXY": "DIRECT",
        "CVMFS_HOSTILE": HOSTILE,
    }
    assert mine["/etc/cvmfs/keys/campushub/example.org/2.pub"] == KEY


def test_limits_fit_the_host(files: dict[str, dict[str, str]], tmp_path: Path) -> None:
    plain = sourced(files["direct"]["/etc/cvmfs/default.local"], tmp_path)
    assert plain["CVMFS_NFILES"] == "20000"
    assert plain["CVMFS_HTTP_PROXY"] == "DIRECT"
    assert plain["CVMFS_REPOSITORIES"] == "cvmfs-config.cern.ch,sft.cern.ch"


def test_a_cache_of_several_hosts_has_no_quota(files: dict[str, dict[str, str]], tmp_path: Path) -> None:
    alien = sourced(files["shared-cache"]["/etc/cvmfs/default.local"], tmp_path)
    assert (alien["CVMFS_ALIEN_CACHE"], alien["CVMFS_SHARED_CACHE"], alien["CVMFS_QUOTA_LIMIT"]) == (
        "/shared/cvmfs",
        "no",
        "-1",
    )


def test_the_map_of_autofs_has_one_entry(files: dict[str, dict[str, str]]) -> None:
    lines = [line.split() for line in files["direct"]["/etc/auto.master.d/cvmfs.autofs"].splitlines() if line[0] != "#"]
    assert lines == [["/cvmfs", "/etc/auto.cvmfs", "--negative-timeout=10"]]
    assert not [path for path in files["everything"] if "auto" in path and not path.endswith(".automount")]


def test_units_have_the_names_that_systemd_wants(files: dict[str, dict[str, str]]) -> None:
    names = sorted(path for path in files["everything"] if path.endswith(".automount"))
    directory = "/etc/systemd/system"
    assert names == [
        f"{directory}/cvmfs-sft.cern.ch.automount",
        f"{directory}/cvmfs-software.example.org.automount",
        f"{directory}/cvmfs-tools.example.org.automount",
        f"{directory}/cvmfs-under_score.example\\x2d1.org.automount",
    ]
    mount = files["everything"][f"{directory}/cvmfs-under_score.example\\x2d1.org.mount"]
    assert "Where=/cvmfs/under_score.example-1.org\n" in mount
    assert "What=under_score.example-1.org\n" in mount
