"""Every message of role base about its settings, and settings that it takes."""

from __future__ import annotations

import subprocess
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from tests.settings.validation import answered_otherwise, facts

if TYPE_CHECKING:
    from pathlib import Path

SUPPORTED = (
    "Use Debian 12 or 13, Ubuntu 22.04 or 24.04, or Enterprise Linux 9 (RHEL, Rocky, AlmaLinux, CentOS Stream, Oracle)."
)
NO_FILE = "Give the absolute path of a PEM file there, or the text of the certificate itself."
NO_PEM = (
    "It begins with -----BEGIN CERTIFICATE-----. Convert DER with: openssl x509 -inform der -in FILE -out FILE.pem."
)
PROXY = "Write it like http://proxy.example.org:3128."
NO_PROXY = "Write entries like mirror.example.org, .example.org or 10.0.0.0/8."
ROCKY = facts("Rocky", "9.5", "Blue Onyx")


def cases(directory: Path) -> dict[str, tuple[dict[str, Any], list[str]]]:
    """For each fake host its settings and what must be said about them."""
    der, text, tar = directory / "ca.der", directory / "note.txt", directory / "wheels.tar"
    der.write_bytes(b"\x30\x82\x01")
    text.write_text("no certificate")
    pem = directory / "ca.pem"
    request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=Test -keyout"
    subprocess.run(["openssl", *request.split(), directory / "ca.key", "-out", pem], check=True, capture_output=True)
    with tarfile.open(tar, "w") as archive:
        archive.add(text, "note.txt")
    torn = "-----BEGIN CERTIFICATE-----AAAA-----END CERTIFICATE-----"
    return {
        "defaults": ({}, []),
        "everything": (
            {
                "base_ca_certificates": [str(pem), pem.read_text()],
                "base_http_proxy": "http://user:pass@proxy.example.org:3128/",
                "base_https_proxy": "http://[2001:db8::1]:3128",
                "base_no_proxy": ["mirror.example.org", ".example.org", "10.0.0.0/8", "::1", "*.local"],
                "base_apt_mirror": "http://mirror.example.org:8080/debian",
                "base_apt_security_mirror": "http://mirror.example.org/debian-security",
                "base_python_index_url": "https://mirror.example.org/pypi/simple/",
                "base_npm_registry": "https://mirror.example.org/npm?x=1",
                "base_wheelhouse": str(tar),
                "base_packages": ["git", "g++", "libc6:i386"],
                "base_timezone": "Europe/Berlin",
                "base_locale": "ca_ES.UTF-8@valencia",
                "facts": facts("Debian", "13", "trixie"),
            },
            [],
        ),
        "ubuntu": ({"facts": facts("Ubuntu", "24.04", "noble")}, []),
        "rocky": ({"facts": ROCKY}, []),
        "debian11": (
            {"facts": facts("Debian", "11", "bullseye")},
            [f'distribution = "Debian 11" is not supported. {SUPPORTED}'],
        ),
        "ubuntu2004": (
            {"facts": facts("Ubuntu", "20.04", "focal")},
            [f'distribution = "Ubuntu 20.04" is not supported. {SUPPORTED}'],
        ),
        "suse": ({"facts": facts("SLES", "15.5", "")}, [f'distribution = "SLES 15" is not supported. {SUPPORTED}']),
        "misspelt": ({"base_timezon": "UTC"}, ["base_timezon is no setting of role base. Did you mean base_timezone?"]),
        "state": ({"base_state": "absnt"}, ['base_state = "absnt" is none of present, absent. Did you mean absent?']),
        "ca-missing": (
            {"base_ca_certificates": [str(pem), "/nowhere/ca.pem"]},
            [f'base_ca_certificates[1] = "/nowhere/ca.pem" is no file on the controller. {NO_FILE}'],
        ),
        "ca-relative": (
            {"base_ca_certificates": ["files/ca.pem"]},
            [f'base_ca_certificates[0] = "files/ca.pem" is no file on the controller. {NO_FILE}'],
        ),
        "ca-der": (
            {"base_ca_certificates": [str(der)]},
            [f'base_ca_certificates[0] = "{der}" holds no PEM certificate, or one that cannot be read. {NO_PEM}'],
        ),
        "ca-torn": (
            {"base_ca_certificates": [torn]},
            [f'base_ca_certificates[0] = "{torn}" holds no PEM certificate, or one that cannot be read. {NO_PEM}'],
        ),
        "proxies": (
            {
                "base_http_proxy": "proxy.example.org:3128",
                "base_https_proxy": "http://me:secret@proxy example.org",
                "base_no_proxy": ["http://mirror.example.org", "a, b"],
            },
            [
                f'base_http_proxy = "proxy.example.org:3128" is no URL of a proxy. {PROXY}',
                f'base_https_proxy = "http://…@proxy example.org" is no URL of a proxy. {PROXY}',
                'base_no_proxy[0] = "http://mirror.example.org" is no host name, domain, address or network. '
                + NO_PROXY,
                f'base_no_proxy[1] = "a, b" is no host name, domain, address or network. {NO_PROXY}',
            ],
        ),
        "mirrors": (
            {
                "base_apt_mirror": "mirror.example.org/debian",
                "base_apt_security_mirror": "htp://mirror.example.org",
                "base_python_index_url": "https://me:secret@/simple",
                "base_npm_registry": 'https://mirror.example.org/"',
            },
            [
                'base_apt_mirror = "mirror.example.org/debian" is no URL. Write it like http://mirror.example.org/debian.',
                (
                    'base_apt_security_mirror = "htp://mirror.example.org" is no URL.'
                    " Write it like http://mirror.example.org/debian-security."
                ),
                (
                    'base_python_index_url = "https://…@/simple" is no URL.'
                    " Write it like https://mirror.example.org/pypi/simple."
                ),
                (
                    r'base_npm_registry = "https://mirror.example.org/\"" is no URL.'
                    " Write it like https://mirror.example.org/npm."
                ),
            ],
        ),
        "mirror-without-apt": (
            {"base_apt_mirror": "http://mirror.example.org/debian", "facts": ROCKY},
            [
                (
                    'base_apt_mirror = "http://mirror.example.org/debian" is of no use on a host without apt.'
                    " Set it for the hosts with Debian or Ubuntu only."
                )
            ],
        ),
        "security-alone": (
            {"base_apt_security_mirror": "http://mirror.example.org/debian-security"},
            [
                (
                    'base_apt_security_mirror = "http://mirror.example.org/debian-security" has no effect without'
                    " base_apt_mirror. Set base_apt_mirror, too."
                )
            ],
        ),
        "wheelhouse-missing": (
            {"base_wheelhouse": "/nowhere/wheels.tar"},
            [
                (
                    'base_wheelhouse = "/nowhere/wheels.tar" is no file on the controller.'
                    " Give the absolute path of the tar file there."
                )
            ],
        ),
        "wheelhouse-text": (
            {"base_wheelhouse": str(text)},
            [
                (
                    f'base_wheelhouse = "{text}" is no tar file.'
                    " Pack the wheels and the folder npm-cache with tar, plain or compressed."
                )
            ],
        ),
        "packages": (
            {"base_packages": ["git curl", "-y"]},
            [
                'base_packages[0] = "git curl" is no name of a package. Write one name an entry, such as git.',
                'base_packages[1] = "-y" is no name of a package. Write one name an entry, such as git.',
            ],
        ),
        "timezone": (
            {"base_timezone": "Europe/Petersburg"},
            [
                (
                    'base_timezone = "Europe/Petersburg" is no time zone.'
                    " Take a name from `timedatectl list-timezones`, such as Europe/Berlin."
                )
            ],
        ),
        "timezone-path": (
            {"base_timezone": "../../etc/passwd"},
            [
                (
                    'base_timezone = "../../etc/passwd" is no time zone.'
                    " Take a name from `timedatectl list-timezones`, such as Europe/Berlin."
                )
            ],
        ),
        "locale": (
            {"base_locale": "german"},
            ['base_locale = "german" is no UTF-8 locale. Write it like de_DE.UTF-8 or C.UTF-8.'],
        ),
        "types": (
            {"base_packages": "git,curl", "base_no_proxy": None},
            [
                (
                    "base_no_proxy = null is empty, but a list of texts is needed. Write [] for none."
                    " See docs/reference/settings/base.md."
                ),
                (
                    'base_packages = "git,curl" is a text, but a list of texts is needed.'
                    " Begin a line with a dash for each entry. See docs/reference/settings/base.md."
                ),
            ],
        ),
    }


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[dict[str, Any], list[str]]]:
    return cases(tmp_path_factory.mktemp("base"))


def test_every_mistake_is_named_with_its_remedy(expected: dict[str, tuple[dict[str, Any], list[str]]]) -> None:
    assert answered_otherwise("base", expected) == {}
