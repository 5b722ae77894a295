"""Every message of role eos about its settings, settings that it takes, and the files that it makes of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.settings.validation import ROOT, answered_otherwise, facts, rendered

FINGERPRINT = "0123 4567 89AB CDEF 0123 4567 89AB CDEF 0123 4567"


def host(*distribution: str, space_mb: int = 50000, key: str = "") -> dict[str, Any]:
    """A host that was looked at already."""
    return facts(
        *(distribution or ("Ubuntu", "22.04", "jammy")),
        eos_room={"space_mb": space_mb, "files": 20000},
        signed_repository_campushub_eos={"problem": key},
    )


def instance(**others: Any) -> dict[str, Any]:
    return {
        "name": "user",
        "hostport": "eos.example.org:1094",
        "remote_directory": "/eos/user/",
        "local_directory": "/eos/user",
        "auth": "unix",
        **others,
    }


def settings(**others: Any) -> dict[str, Any]:
    """Settings that are right but for those that are given."""
    return {"facts": host(), "eos_key_fingerprint": FINGERPRINT, "eos_instances": [instance()], **others}


def with_instance(**others: Any) -> dict[str, Any]:
    return settings(eos_instances=[instance(**others)])


NO_PACKAGES = (
    "has no packages of the client of EOS: CERN makes them for EL 8, 9 and 10 and for Ubuntu 22.04, 24.04 and 26.04."
)
SOURCE = (
    "Name a repository that has eos-fusex for it in {}, or say eos_repository_manage=false where packages come "
    "from elsewhere."
)
URL = "is no address of a repository. Begin it with https:// or http://, or say eos_repository_manage=false."
VOUCH = (
    "is no fingerprint of the key of the packages, so that nobody would vouch for them. Give the 40 hexadecimal digits "
    "that gpg --show-keys prints for the key, after you have compared it with somebody who has it from elsewhere."
)
KEYTAB = (
    "Give the path of the keytab on the controller, or with {{ inventory_dir }}/ before it when it is kept beside the "
    "inventory."
)
LOCAL = "is no absolute path. Write it without a slash at its end, such as /eos/user."
PORT = (
    "is no name of a host with a port. Write both, such as eos.example.org:1094. An address of IPv6 needs a name, for "
    "the client cuts it at its first colon."
)
NO_NUMBER = (
    "has a value that is no number, with which the client does not mount and says nothing. Write numbers without "
    "quotes, and 1 or 0 for yes or no."
)
WRONG_TYPE = (
    "has a value of the wrong type, with which the client does not mount and says nothing. Write "
    "flush-nowait-executables and no-fsync as lists, and overlay-mode in quotes."
)


@pytest.fixture(scope="module")
def keytabs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("keytabs")
    for name, mode in (("good", 0o600), ("strict", 0o400), ("group", 0o640), ("world", 0o604)):
        (directory / name).write_text("0 u:anybody g:anygroup n:test\n")
        (directory / name).chmod(mode)
    return directory


def bad(keytabs: Path) -> dict[str, tuple[dict[str, Any], list[str]]]:
    return {
        "debian12": (
            settings(facts=host("Debian", "12", "bookworm")),
            [f'distribution = "Debian 12" {NO_PACKAGES} {SOURCE.format("eos_apt_url")}'],
        ),
        "debian13": (
            settings(facts=host("Debian", "13", "trixie")),
            [f'distribution = "Debian 13" {NO_PACKAGES} {SOURCE.format("eos_apt_url")}'],
        ),
        "rocky11": (
            settings(facts=host("Rocky", "11.0", "Smoky Quartz")),
            [
                (
                    'distribution = "Rocky 11" is not supported. Use Debian 12 or 13, Ubuntu 22.04, 24.04 or 26.04, or '
                    "Enterprise Linux 8, 9 or 10 (RHEL, Rocky, AlmaLinux, CentOS Stream, Oracle)."
                )
            ],
        ),
        "apt-url": (settings(eos_apt_url="eos.example.org"), [f'eos_apt_url = "eos.example.org" {URL}']),
        "yum-url": (
            settings(facts=host("Rocky", "9.4", "Blue Onyx"), eos_yum_urls=["https://eos.example.org/el", "ftp://x/"]),
            [f'eos_yum_urls[1] = "ftp://x/" {URL}'],
        ),
        "suite": (
            settings(eos_apt_suite="jammy main"),
            [
                (
                    'eos_apt_suite = "jammy main" cannot be the name of a suite. '
                    "Leave it empty for the one of the distribution, such as jammy."
                )
            ],
        ),
        "component": (
            settings(eos_apt_components=["main", ""]),
            [
                (
                    'eos_apt_components[1] = "" cannot be the name of a component. '
                    "Leave the list empty for those of CERN, such as jammy/tag/5.4."
                )
            ],
        ),
        "series": (
            settings(eos_series="5"),
            ['eos_series = "5" is no series of the client. Write it in quotes with one dot, such as "5.4".'],
        ),
        "version": (
            settings(eos_version="newest"),
            [
                (
                    'eos_version = "newest" is no version of a package. Write it as apt-cache policy eos-fusex or '
                    "dnf list eos-fusex shows it, or leave it empty for the newest."
                )
            ],
        ),
        "key-place": (
            settings(eos_key_url="storageci.key"),
            [
                (
                    'eos_key_url = "storageci.key" is neither an address nor an absolute path. Begin it with '
                    "https://, or with {{ inventory_dir }}/ when the file is kept beside the inventory."
                )
            ],
        ),
        "key-file": (
            settings(eos_key_url="/nowhere/storageci.key"),
            [
                (
                    'eos_key_url = "/nowhere/storageci.key" is no file on the controller. '
                    "Give the path of the public key that the packages are signed with."
                )
            ],
        ),
        "no-fingerprint": (settings(eos_key_fingerprint=""), [f'eos_key_fingerprint = "" {VOUCH}']),
        "short-fingerprint": (settings(eos_key_fingerprint="ABCD"), [f'eos_key_fingerprint = "ABCD" {VOUCH}']),
        "wrong-key": (
            settings(facts=host(key="has the fingerprint FF")),
            [
                (
                    f'eos_key_fingerprint = "{FINGERPRINT}" does not fit the key at '
                    "http://storage-ci.web.cern.ch/storage-ci/storageci.key, which has the fingerprint FF. "
                    "Ask those who run the repository which key is theirs before you change it."
                )
            ],
        ),
        "nothing": (
            settings(eos_instances=[]),
            [
                (
                    "eos_instances = [] is empty, so that there is nothing to mount. "
                    "Describe the instances, or take the host out of the group eos_clients."
                )
            ],
        ),
        "name": (
            with_instance(name="home a"),
            [
                (
                    'eos_instances[0].name = "home a" cannot be the name of an instance. '
                    "Use letters, digits, hyphens and underscores, such as home-a."
                )
            ],
        ),
        "name-twice": (
            settings(eos_instances=[instance(), instance(local_directory="/eos/other")]),
            ['eos_instances[1].name = "user" is there already. Describe each instance once.'],
        ),
        "no-port": (
            with_instance(hostport="eos.example.org"),
            [f'eos_instances[0].hostport = "eos.example.org" (user) {PORT}'],
        ),
        "no-host": (with_instance(hostport=":1094"), [f'eos_instances[0].hostport = ":1094" (user) {PORT}']),
        "remote": (
            with_instance(remote_directory="eos/user"),
            [
                (
                    'eos_instances[0].remote_directory = "eos/user" (user) is no absolute path. '
                    "Write the whole path on the instance, such as /eos/user/."
                )
            ],
        ),
        "local": (
            with_instance(local_directory="/eos/user/"),
            [f'eos_instances[0].local_directory = "/eos/user/" (user) {LOCAL}'],
        ),
        "overlap": (
            settings(
                eos_instances=[
                    instance(),
                    instance(name="inside", local_directory="/eos/user/a"),
                    instance(name="above", local_directory="/eos"),
                    instance(name="beside", local_directory="/eos/user2"),
                    instance(name="same", local_directory="/eos/user2"),
                ]
            ),
            [
                f'eos_instances[{number}].local_directory = "{place}" ({name}) overlaps with the local directory of an '
                "instance before it. Mount each instance beside the others, such as /eos/home-a and /eos/home-b."
                for number, place, name in (
                    (1, "/eos/user/a", "inside"),
                    (2, "/eos", "above"),
                    (3, "/eos/user2", "beside"),
                    (4, "/eos/user2", "same"),
                )
            ],
        ),
        "auth": (
            with_instance(auth="password"),
            [
                (
                    'eos_instances[0].auth = "password" is none of krb5, sss, oauth2, unix.'
                    " See docs/reference/settings/eos.md."
                ),
            ],
        ),
        "no-keytab": (
            with_instance(auth="sss"),
            [f'eos_instances[0].sss_keytab = "" (user) is no absolute path, and its auth needs a keytab. {KEYTAB}'],
        ),
        "oauth2-keytab": (
            with_instance(auth="oauth2", sss_keytab="eos.keytab"),
            [
                (
                    'eos_instances[0].sss_keytab = "eos.keytab" (user) is no absolute path, and its auth needs a '
                    f"keytab. {KEYTAB}"
                )
            ],
        ),
        "missing-keytab": (
            with_instance(auth="sss", sss_keytab=f"{keytabs}/missing"),
            [f'eos_instances[0].sss_keytab = "{keytabs}/missing" (user) is no file on the controller. {KEYTAB}'],
        ),
        **{
            f"{name}-keytab": (
                with_instance(auth="sss", sss_keytab=f"{keytabs}/{name}"),
                [
                    (
                        f'eos_instances[0].sss_keytab = "{keytabs}/{name}" (user) can be read by others on the '
                        "controller. Who has it is anybody on EOS. Take their rights with chmod 600, and have a new "
                        "key made if others may have read it."
                    )
                ],
            )
            for name in ("group", "world")
        },
        "no-realm": (
            with_instance(auth="krb5"),
            [
                (
                    'eos_instances[0].auth = "krb5" (user) needs a realm, and eos_kerberos_realm is empty. Set '
                    "accounts_kerberos_realm, so that logins get tickets, or name in eos_kerberos_realm the realm "
                    "whose tickets they get from elsewhere."
                )
            ],
        ),
        "realm": (
            settings(eos_kerberos_realm="EXAMPLE ORG"),
            ['eos_kerberos_realm = "EXAMPLE ORG" is no realm. Write it such as EXAMPLE.ORG.'],
        ),
        "ipv6": (
            with_instance(hostport="[2001:db8::1]:1094"),
            [f'eos_instances[0].hostport = "[2001:db8::1]:1094" (user) {PORT}'],
        ),
        "number-in-quotes": (
            with_instance(options={"leasetime": "300", "md-kernelcache": 1, "rm-rf-bulk": "yes", "fd-limit": [4]}),
            [
                (
                    'eos_instances[0].options = {"fd-limit": [4], "leasetime": "300", "rm-rf-bulk": "yes"} (user) '
                    f"{NO_NUMBER}"
                )
            ],
        ),
        "number-too-large": (
            with_instance(options={"flush-wait-open-size": 5000000000, "leasetime": 300, "rm-is-sync": True}),
            [
                (
                    'eos_instances[0].options = {"flush-wait-open-size": 5000000000} (user) has a number of more than '
                    "32 bits, with which the client does not mount and says nothing. Give at most 2147483647."
                )
            ],
        ),
        "list-as-text": (
            with_instance(options={"no-fsync": ".db"}),
            [f'eos_instances[0].options = {{"no-fsync": ".db"}} (user) {WRONG_TYPE}'],
        ),
        "list-as-number": (
            with_instance(options={"no-fsync": 1}),
            [f'eos_instances[0].options = {{"no-fsync": 1}} (user) {WRONG_TYPE}'],
        ),
        "mode-as-number": (
            with_instance(options={"overlay-mode": 777}),
            [f'eos_instances[0].options = {{"overlay-mode": 777}} (user) {WRONG_TYPE}'],
        ),
        "watched-elsewhere": (
            settings(eos_watched_elsewhere="/eos/user/"),
            [
                (
                    'eos_watched_elsewhere = "/eos/user/" is no absolute path. Write it without a slash at its end, '
                    "such as /eos/user, or / for everything."
                )
            ],
        ),
        "manager-timeout": (
            settings(eos_manager_timeout=0),
            [
                (
                    "eos_manager_timeout = 0 is no time to wait for a manager. Give 1 to 86400 seconds; 60 is usual "
                    "for homes, and 86400 is the client's own default."
                )
            ],
        ),
        "cache": (
            with_instance(cache_mb=10),
            [
                (
                    "eos_instances[0].cache_mb = 10 (user) is too small for a cache. "
                    "Give at least 100 megabytes; 10000 is usual."
                )
            ],
        ),
        "cache-place": (
            with_instance(cache_directory="cache"),
            [
                (
                    'eos_instances[0].cache_directory = "cache" (user) is no absolute path. '
                    "Leave it empty for one below /var/cache/eos/fusex, or write the whole path."
                )
            ],
        ),
        "disk": (
            settings(eos_instances=[instance(), instance(name="b", local_directory="/eos/b", cache_mb=41000)]),
            [
                (
                    "eos_instances = 51000 megabytes of caches in all are more than the disk of the caches has, 50000. "
                    "Give smaller caches in cache_mb."
                )
            ],
        ),
        "link": (
            settings(eos_links=[{"path": "user/a", "target": "/eos/a"}]),
            [
                (
                    'eos_links[0].path = "user/a" is no absolute path. '
                    "Write it without a slash at its end, such as /eos/user/a."
                )
            ],
        ),
        "link-inside": (
            settings(eos_links=[{"path": "/eos/user/a", "target": "/eos/a"}]),
            [
                (
                    'eos_links[0].path = "/eos/user/a" is in an instance, where it would be made on the storage or be '
                    "hidden by it. Give a path beside the instances, such as /eos/user/a while they are at /eos/home-a."
                )
            ],
        ),
        "link-twice": (
            settings(eos_links=[{"path": "/eos/a", "target": "/eos/user"}, {"path": "/eos/a", "target": "/eos/user"}]),
            ['eos_links[1].path = "/eos/a" is there already. Describe each link once.'],
        ),
        "link-target": (
            settings(eos_links=[{"path": "/eos/a", "target": "user"}]),
            ['eos_links[0].target = "user" is no absolute path. Write where the link leads, such as /eos/home-a.'],
        ),
    }


def good(keytabs: Path) -> dict[str, dict[str, Any]]:
    return {
        "ubuntu2204": settings(),
        "rocky8": settings(facts=host("Rocky", "8.10", "Green Obsidian")),
        "rocky9": settings(facts=host("Rocky", "9.4", "Blue Onyx")),
        "own-source": settings(facts=host("Debian", "12", "bookworm"), eos_apt_url="https://mirror.example.org/eos"),
        "managed-elsewhere": settings(
            facts=host("Debian", "12", "bookworm"), eos_repository_manage=False, eos_key_fingerprint=""
        ),
        "in-the-image": settings(facts=host("Debian", "13", "trixie"), eos_install=False, eos_key_fingerprint=""),
        "krb5": {**with_instance(auth="krb5"), "eos_kerberos_realm": "EXAMPLE.ORG"},
        "sss": with_instance(auth="sss", sss_keytab=f"{keytabs}/good"),
        "oauth2": with_instance(auth="oauth2", sss_keytab=f"{keytabs}/strict"),
        "rocky10": settings(facts=host("Rocky", "10.0", "Red Quartz")),
        "ubuntu2604": settings(facts=host("Ubuntu", "26.04", "resolute")),
        "options": with_instance(
            options={"leasetime": 300, "hide-versions": True, "no-fsync": [".db"], "overlay-mode": "0755"}
        ),
        # What is removed is not looked at.
        "absent": {"facts": host("Debian", "12", "bookworm"), "eos_state": "absent"},
    }


def test_every_message_and_what_is_taken(keytabs: Path) -> None:
    cases = {**bad(keytabs), **{name: (given, []) for name, given in good(keytabs).items()}}
    assert not answered_otherwise("eos", cases)


LETTERS = [
    {"path": "/eos/user/a", "target": "/eos/home-a"},
    {"path": "/eos/user/b", "target": "/eos/home-b", "method": "bind"},
]
HOMES = [
    instance(name="home-a", local_directory="/eos/home-a", options={"md-kernelcache": 1}, cache_mb=500),
    instance(name="home-b", local_directory="/eos/home-b", auth="krb5", cache_directory="/data/eos"),
]


@pytest.fixture(scope="module")
def files(keytabs: Path) -> dict[str, dict[str, str]]:
    """The files of two hosts, by method of mounting."""
    sss = instance(name="shared", local_directory="/eos/shared", auth="sss", sss_keytab=f"{keytabs}/good")
    oauth2 = instance(name="token", local_directory="/eos/token", auth="oauth2", sss_keytab=f"{keytabs}/good")
    given = settings(eos_instances=[*HOMES, sss, oauth2], eos_links=LETTERS, eos_kerberos_realm="EXAMPLE.ORG")
    hosts = {method: {**given, "eos_mount_method": method} for method in ("autofs", "systemd")}
    return rendered("eos", hosts, "__eos_mount_files + (__eos_files | selectattr('content', 'defined') | list)")


def test_instances_are_described_in_json(files: dict[str, dict[str, str]]) -> None:
    found = {
        path: json.loads(text)
        for path, text in files["autofs"].items()
        if path.startswith("/etc/eos/") and path.endswith(".conf")
    }
    assert found["/etc/eos/fuse.home-a.conf"] == {
        "comment": "Managed by CampusHub (eos)",
        "name": "home-a",
        "hostport": "eos.example.org:1094",
        "remotemountdir": "/eos/user/",
        "localmountdir": "/eos/home-a",
        "options": {"backtrace": 0, "md-backend.timeout": 60, "md-kernelcache": 1},
        "cache": {
            "type": "disk",
            "size-mb": 500,
            "location": "/var/cache/eos/fusex/home-a/data",
            "journal": "/var/cache/eos/fusex/home-a/journal",
        },
        "auth": {"shared-mount": 1, "gsi-first": 0, "krb5": 0, "oauth2": 0, "sss": 0, "unix": 1, "ztn": 0},
    }
    assert found["/etc/eos/fuse.home-b.conf"]["cache"]["location"] == "/data/eos/data"
    used = {
        name: {method for method in ("krb5", "oauth2", "sss", "unix", "ztn") if found[path]["auth"][method]}
        for path in found
        for name in re.findall(r"fuse\.(.*)\.conf", path)
    }
    assert used == {"home-a": {"unix"}, "home-b": {"krb5"}, "shared": {"sss"}, "token": {"oauth2"}}
    assert found["/etc/eos/fuse.shared.conf"]["auth"]["ssskeytab"] == "/etc/eos/campushub.shared.keytab"
    assert "ssskeytab" not in found["/etc/eos/fuse.home-b.conf"]["auth"]


def test_autofs_mounts_each_instance_and_binds(files: dict[str, dict[str, str]]) -> None:
    assert files["autofs"]["/etc/auto.master.d/campushub-eos.autofs"].splitlines()[1:] == [
        "/- /etc/auto.campushub-eos --timeout=600"
    ]
    assert [line.split() for line in files["autofs"]["/etc/auto.campushub-eos"].splitlines()[1:]] == [
        ["/eos/home-a", "-fstype=eosx,fsname=home-a", ":eosxd"],
        ["/eos/home-b", "-fstype=eosx,fsname=home-b", ":eosxd"],
        ["/eos/shared", "-fstype=eosx,fsname=shared", ":eosxd"],
        ["/eos/token", "-fstype=eosx,fsname=token", ":eosxd"],
        ["/eos/user/b", "-fstype=bind", ":/eos/home-b"],
    ]


def test_units_mount_the_same(files: dict[str, dict[str, str]]) -> None:
    units = {Path(path).name: text for path, text in files["systemd"].items() if "/systemd/" in path}
    assert {name for name in units if name.endswith(".automount")} == {
        *(rf"eos-{name}.automount" for name in (r"home\x2da", r"home\x2db", "shared", "token", "user-b"))
    }
    assert "/etc/auto.campushub-eos" not in files["systemd"]
    mount = units[r"eos-home\x2da.mount"]
    assert re.findall(r"^(What|Where|Type|Options)=(.*)$", mount, re.MULTILINE) == [
        ("What", "eosxd"),
        ("Where", "/eos/home-a"),
        ("Type", "eosx"),
        # On what it does not know, such as _netdev, libfuse 2 ends, and systemd has taken it for mounted by then.
        ("Options", "fsname=home-a,nodev,nosuid"),
    ]
    for ordering in ("After=network-online.target", "Before=remote-fs.target umount.target", "Conflicts=umount.target"):
        assert ordering in mount.splitlines()
    assert "What=/eos/home-b\nWhere=/eos/user/b\nType=none\nOptions=bind,nodev,nosuid\n" in units["eos-user-b.mount"]
    for text in units.values():
        assert text.startswith("# Managed by CampusHub (eos)\n")


@pytest.mark.parametrize(
    ("elsewhere", "watched"),
    [("", "/eos/home-a:/eos/home-b:/eos/user/b"), ("/eos/user", "/eos/home-a:/eos/home-b"), ("/eos", ""), ("/", "")],
)
def test_what_nothing_else_watches_is_watched(elsewhere: str, watched: str) -> None:
    given = settings(
        eos_instances=HOMES, eos_links=LETTERS, eos_kerberos_realm="EXAMPLE.ORG", eos_watched_elsewhere=elsewhere
    )
    files = rendered("eos", {"host": given}, "__eos_watch_files")["host"]
    if not watched:
        assert files == {}
        return
    assert set(files) == {
        "/usr/local/lib/campushub/watch_eos.py",
        "/etc/systemd/system/campushub-watch-eos.service",
        "/etc/systemd/system/campushub-watch-eos.timer",
    }
    # By this they are known when they are no longer wanted.
    assert all("# Managed by CampusHub (eos)\n" in text for text in files.values())
    service = files["/etc/systemd/system/campushub-watch-eos.service"]
    metrics = "/var/lib/prometheus/node-exporter/campushub_eos.prom"
    assert f"\nExecStart=/usr/local/lib/campushub/watch_eos.py {watched} 5 {metrics} log\n" in service
    assert files["/usr/local/lib/campushub/watch_eos.py"].startswith("#!/usr/bin/python3 -IS\n# Managed by")


def test_what_is_secret_is_nowhere_else() -> None:
    """Keytabs go through `secret`, which is in no log and no difference."""
    variables = (ROOT / "roles/eos/vars/main.yml").read_text()
    text = variables + "".join(path.read_text() for path in (ROOT / "roles/eos/templates").iterdir())
    uses = [line for line in text.splitlines() if "lookup('ansible.builtin.file', instance.sss_keytab" in line]
    assert len(uses) == 1
    assert "'mode': '0600', 'secret': lookup" in uses[0]
    assert yaml.safe_load(variables)["__eos_with_keytab"] == ["sss", "oauth2"]
