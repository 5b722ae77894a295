"""Every message of role web about its settings and certificates, and settings that it takes."""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from plugins.modules.certificate import covers
from tests.settings.validation import answered_otherwise, facts

NOW = dt.datetime.now(dt.timezone.utc).replace(microsecond=0)
DAY = dt.timedelta(days=1)

PORT = "Give a number from 1 to 65535;"
CONNECTIONS = "is fewer than a page of JupyterLab takes while it loads. Give at least 200, or 0 for no limit."
SIZE = "is not a size. Give a number of bytes, or one with k, m or g, such as 500m or 10g; 0 means no limit."
NAME = (
    "is not a host name. Give the name that people type into their browser, such as jupyter.example.org, "
    "with letters, digits and hyphens only and other alphabets in their xn-- form."
)
ALIAS = "is not a host name. Give a name like jupyter.example.org, or an IP address."
NETWORK = "is not a network. Give one like 10.20.0.0/16 or 2001:db8::/32, or a single address."
UPSTREAM = (
    "is not the URL of a server. Give the address of the proxy of JupyterHub without a path, "
    "such as http://127.0.0.1:980."
)
ADDRESS = "is not an IP address. Give an address of the host, like 192.0.2.1 or [2001:db8::1]."
ABSOLUTE = (
    "is not an absolute path. Begin it with a slash, or with {{ inventory_dir }}/ "
    "when the file is kept beside the inventory."
)
UNREADABLE = "cannot be read on the controller. Is the path right, and may the user who runs Ansible read it?"
NO_CERTIFICATE = (
    "holds no certificate in PEM. It must have a line '-----BEGIN CERTIFICATE-----'. "
    "DER is converted by: openssl x509 -inform der -in FILE -out NEW"
)
NO_KEY = (
    "holds no private key in PEM. It must have a line '-----BEGIN PRIVATE KEY-----'. "
    "DER is converted by: openssl pkey -inform der -in FILE -out NEW"
)
PASSPHRASE = (
    "is protected with a passphrase, and nobody is there to type it when nginx starts. "
    "Remove it with: openssl pkey -in FILE -out NEW, and encrypt the file with ansible-vault instead."
)
OTHER_KEY = (
    "Give the key that the certificate was requested with, and put the server's own certificate before its chain."
)
COVER = "Get one for all of web_server_name and web_server_aliases, or correct these."
ORDER = (
    "is not followed by the certificate that signed it. "
    "Put the chain in order, each certificate followed by the one that signed it."
)
EMAIL = "is not an e-mail address. Give the address of those who run the server; the ACME service writes to it."
DIRECTORY = (
    "is not an https URL. Give the directory of the service, such as https://acme-v02.api.letsencrypt.org/directory."
)
PUBLIC = (
    "is not a name that an ACME service gives a certificate for. Give a name with a domain, "
    "such as jupyter.example.org, or choose another web_tls_mode than acme."
)
RESERVED = "is reserved for examples. Give the name that people type into their browser."
SUPPORTED = (
    "is not supported. Use Debian 12 or 13, Ubuntu 22.04 or 24.04, "
    "or Enterprise Linux 9 (RHEL, Rocky, AlmaLinux, CentOS Stream, Oracle)."
)


@dataclass
class Authority:
    """Signs certificates and writes them to files."""

    directory: Path
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def certificate(
        self,
        name: str,
        key: ec.EllipticCurvePrivateKey,
        names: tuple[str, ...] = (),
        begins: dt.datetime = NOW - DAY,
        ends: dt.datetime = NOW + 90 * DAY,
    ) -> str:
        """A certificate in PEM."""
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test CA")]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(ends)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([alternative(name) for name in names]), False)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    def own(self) -> str:
        """The authority's own certificate."""
        return self.certificate("Test CA", self.key)

    def write(self, name: str, text: str | bytes) -> str:
        """Write a file and return its path."""
        path = self.directory / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return str(path)


def alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def key_pem(key: ec.EllipticCurvePrivateKey, passphrase: bytes | None = None) -> str:
    protection = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection).decode()


def shown_by_openssl(moment: dt.datetime) -> str:
    return f"{moment:%b} {moment.day:2d} {moment:%H:%M:%S %Y} GMT"


def cases(directory: Path) -> dict[str, tuple[dict[str, Any], list[str]]]:
    """For each fake host its settings and what must be said about them."""
    authority = Authority(directory)
    key, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    leaf = authority.certificate("hub", key, ("hub.site.test", "*.lab.site.test", "192.0.2.7", "2001:db8::7"))
    chain = authority.own()
    good = authority.write("good.pem", leaf)
    full = authority.write("full.pem", leaf + chain)
    reverse = authority.write("reverse.pem", chain + leaf)
    unrelated = authority.write("unrelated.pem", leaf + authority.certificate("other", other))
    chain_file = authority.write("chain.pem", chain)
    key_file = authority.write("key.pem", key_pem(key))
    other_key = authority.write("other.key", key_pem(other))
    locked = authority.write("locked.key", key_pem(key, b"secret"))
    old = authority.write("old.pem", authority.certificate("hub", key, ("hub.site.test",), NOW - 9 * DAY, NOW - DAY))
    early = authority.write("early.pem", authority.certificate("hub", key, ("hub.site.test",), NOW + DAY))
    nameless = authority.write("nameless.pem", authority.certificate("hub.site.test", key))
    note = authority.write("note.txt", "not what you look for")
    der = authority.write("leaf.der", b"\x30\x82\x01\x0a")
    torn = authority.write("torn.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    gone = str(directory / "gone.pem")
    wild = authority.write("wild.pem", authority.certificate("hub", key, ("hub.site.test", "*.hub.site.test")))
    example = authority.write("example.pem", authority.certificate("hub", key, ("hub.example.net",)))
    hook = authority.write("hook", "#!/bin/sh\nexit 0\n")

    def own(certificate: str = good, key: str = key_file, **others: Any) -> dict[str, Any]:
        named = {"web_server_name": "hub.site.test", "web_tls_mode": "own"}
        return {**named, "web_tls_certificate": certificate, "web_tls_key": key, **others}

    def acme(**others: Any) -> dict[str, Any]:
        named = {"web_server_name": "hub.site.test", "web_tls_mode": "acme", "web_acme_email": "ops@example.org"}
        return {**named, **others}

    other_first = f'web_tls_key = "{key_file}" does not belong to the first certificate in'
    return {
        "defaults": ({}, []),
        "everything": (
            {
                "web_server_name": "xn--80aa3ak3a.xn--p1ai",
                "web_server_aliases": ["localhost", "192.0.2.1", "2001:db8::1", "a-1.b2"],
                "web_addresses": ["127.0.0.1", "[2001:db8::1]", "[::1]"],
                "web_http_port": "8080",
                "web_https_port": 8443,
                "web_access_networks": ["10.0.0.0/8", "192.0.2.1", "2001:db8::/32", "::1", "0.0.0.0/0"],
                "web_upload_limit": 1048576,
                "web_upstream_url": "http://[::1]:980/",
                "web_hsts_max_age": 0,
            },
            [],
        ),
        "own": (own(), []),
        "own-chain-in-file": (own(full), []),
        "own-chain-apart": (own(web_tls_chain=chain_file), []),
        "own-aliases": (own(web_server_aliases=["A.lab.site.test", "192.0.2.7", "2001:DB8:0::7"]), []),
        "acme": (acme(web_acme_ca_certificate=chain_file, web_acme_eab_key_id="k", web_acme_eab_hmac_key="h"), []),
        "subdomains": ({"web_user_subdomains": True, "web_server_name": "localhost", "web_public_port": 8443}, []),
        "subdomains-own": (own(wild, web_user_subdomains=True), []),
        "subdomains-acme": (acme(web_user_subdomains="yes", web_acme_dns_hook=hook, web_http_port=8080), []),
        "subdomains-certificate": (
            own(web_user_subdomains=True),
            [
                (
                    f'web_tls_certificate = "{good}" does not cover *.hub.site.test; it is for hub.site.test, '
                    "*.lab.site.test, 192.0.2.7, 2001:db8::7. Get one for all of web_server_name and "
                    "web_server_aliases, and for *.hub.site.test, in which the names of users are, or correct these."
                )
            ],
        ),
        "subdomains-names": (
            {
                "web_user_subdomains": True,
                "web_server_name": "hub.site.test",
                "web_server_aliases": ["www.example.org", "www.hub.site.test", "a.b.hub.site.test"],
                "web_public_port": 0,
            },
            [
                (
                    'web_server_aliases[1] = "www.hub.site.test" is a name that a user\'s server may have. '
                    "Give one that is not below hub.site.test, since web_user_subdomains is on."
                ),
                (
                    "web_public_port = 0 is not a port. "
                    "Give the one that people have in their browser's address, 443 where they have none."
                ),
            ],
        ),
        "subdomains-address": (
            {"web_user_subdomains": True, "web_server_name": "192.0.2.1"},
            [
                (
                    "web_user_subdomains = true wants names below web_server_name, which is an IP address. "
                    "Give web_server_name a host name, such as jupyter.example.org, "
                    "or leave web_user_subdomains at false."
                )
            ],
        ),
        "subdomains-no-hook": (
            acme(web_user_subdomains=True),
            [
                (
                    'web_acme_dns_hook = "" is missing, and a certificate for *.hub.site.test (web_user_subdomains) '
                    "is only given by way of DNS. Give the path of a program that puts a TXT record into DNS, "
                    "or a certificate of your own with web_tls_mode own."
                )
            ],
        ),
        "subdomains-hook": (
            acme(web_user_subdomains=True, web_acme_dns_hook=note),
            [
                (
                    f'web_acme_dns_hook = "{note}" cannot be read on the controller, or is no script for a shell, '
                    "Python, Perl or Ruby. Give the absolute path of a script whose first line names its interpreter, "
                    "such as #!/bin/sh. It may call any other program."
                )
            ],
        ),
        "ubuntu": ({"facts": facts("Ubuntu", "22.04", "jammy")}, []),
        "rocky": ({"facts": facts("Rocky", "9.5", "Blue Onyx")}, []),
        "absent": ({"web_state": "absent", "web_server_name": "no name", "web_tls_mode": "own"}, []),
        "fedora": ({"facts": facts("Fedora", "42", "")}, [f'distribution = "Fedora 42" {SUPPORTED}']),
        "debian11": ({"facts": facts("Debian", "11.9", "bullseye")}, [f'distribution = "Debian 11" {SUPPORTED}']),
        "mode": (
            {"web_tls_mode": "letsencrypt"},
            ['web_tls_mode = "letsencrypt" is none of own, acme, self_signed. See docs/reference/settings/web.md.'],
        ),
        "many": (
            {
                "web_server_name": "hub_1.site.test",
                "web_server_aliases": ["ok.example.org", "https://hub.site.test", "300.1.1.1"],
                "web_http_port": 0,
                "web_https_port": 70000,
                "web_upload_limit": "10 gigs",
                "web_upstream_url": "127.0.0.1:980",
                "web_access_networks": ["10.0.0.0/33", "office"],
                "web_websocket_timeout": 5,
                "web_connections_per_user": 20,
                "web_connections_per_address": -1,
                "web_hsts_max_age": -1,
            },
            [
                f'web_server_name = "hub_1.site.test" {NAME}',
                f'web_server_aliases[1] = "https://hub.site.test" {ALIAS}',
                f'web_server_aliases[2] = "300.1.1.1" {ALIAS}',
                f"web_http_port = 0 is not a port. {PORT} 80 is usual.",
                f"web_https_port = 70000 is not a port. {PORT} 443 is usual.",
                f'web_access_networks[0] = "10.0.0.0/33" {NETWORK}',
                f'web_access_networks[1] = "office" {NETWORK}',
                f'web_upstream_url = "127.0.0.1:980" {UPSTREAM}',
                f'web_upload_limit = "10 gigs" {SIZE}',
                (
                    "web_websocket_timeout = 5 is too short. "
                    "Give at least 60 seconds: notebooks are silent for half a minute between two signs of life."
                ),
                f"web_connections_per_user = 20 {CONNECTIONS}",
                f"web_connections_per_address = -1 {CONNECTIONS}",
                "web_hsts_max_age = -1 is not a number of seconds. Give 31536000 for a year, or 0 for no such header.",
            ],
        ),
        "name-too-long": (
            {"web_server_name": "a" * 64 + ".org"},
            [f'web_server_name = "{"a" * 64}.org" {NAME}'],
        ),
        "name-cyrillic": ({"web_server_name": "хаб.рф"}, [f'web_server_name = "хаб.рф" {NAME}']),
        "same-port": (
            {"web_http_port": 443},
            ["web_https_port = 443 is the port of web_http_port too. Give each a port of its own, such as 443 and 80."],
        ),
        "addresses": (
            {"web_addresses": ["eth0", "::"]},
            [f'web_addresses[0] = "eth0" {ADDRESS}', f'web_addresses[1] = "::" {ADDRESS}'],
        ),
        "no-address": (
            {"web_addresses": []},
            ["web_addresses = [] is empty. Leave it at [0.0.0.0, '[::]'] to listen on all addresses of the host."],
        ),
        "upstream-path": ({"web_upstream_url": "http://a:1/b"}, [f'web_upstream_url = "http://a:1/b" {UPSTREAM}']),
        "upstream-port": ({"web_upstream_url": "http://a:99999"}, [f'web_upstream_url = "http://a:99999" {UPSTREAM}']),
        "upload-unit": ({"web_upload_limit": "1t"}, [f'web_upload_limit = "1t" {SIZE}']),
        "own-nothing": (
            {"web_tls_mode": "own"},
            [
                (
                    'web_tls_certificate = "" is missing. '
                    "Give the path of the certificate, or choose another web_tls_mode than own."
                ),
                (
                    'web_tls_key = "" is missing. '
                    "Give the path of the key of the certificate, or choose another web_tls_mode than own."
                ),
            ],
        ),
        "own-relative": (
            own("hub.pem", "hub.key"),
            [f'web_tls_certificate = "hub.pem" {ABSOLUTE}', f'web_tls_key = "hub.key" {ABSOLUTE}'],
        ),
        "own-gone": (
            own(gone, gone),
            [f'web_tls_certificate = "{gone}" {UNREADABLE}', f'web_tls_key = "{gone}" {UNREADABLE}'],
        ),
        "own-no-pem": (
            own(note, note),
            [f'web_tls_certificate = "{note}" {NO_CERTIFICATE}', f'web_tls_key = "{note}" {NO_KEY}'],
        ),
        "own-torn": (own(torn), [f'web_tls_certificate = "{torn}" {NO_CERTIFICATE}']),
        "own-swapped": (
            own(key_file, good),
            [f'web_tls_certificate = "{key_file}" {NO_CERTIFICATE}', f'web_tls_key = "{good}" {NO_KEY}'],
        ),
        "own-passphrase": (own(key=locked), [f'web_tls_key = "{locked}" {PASSPHRASE}']),
        "own-other-key": (
            own(key=other_key),
            [f'web_tls_key = "{other_key}" does not belong to the first certificate in {good}. {OTHER_KEY}'],
        ),
        "own-reverse": (
            own(reverse),
            [
                f"{other_first} {reverse}. {OTHER_KEY}",
                f'web_tls_certificate = "{reverse}" does not cover hub.site.test; it is for no name at all. {COVER}',
                f'web_tls_certificate = "{reverse}" {ORDER}',
            ],
        ),
        "own-unrelated": (own(unrelated), [f'web_tls_certificate = "{unrelated}" {ORDER}']),
        "own-expired": (
            own(old),
            [f'web_tls_certificate = "{old}" expired on {shown_by_openssl(NOW - DAY)}. Get a new one.'],
        ),
        "own-early": (
            own(early),
            [
                (
                    f'web_tls_certificate = "{early}" is not valid before {shown_by_openssl(NOW + DAY)}. '
                    "Wait until then, or look at the clock of the controller."
                )
            ],
        ),
        "own-names": (
            own(web_server_aliases=["jupyter.example.org", "lab.site.test", "a.b.lab.site.test", "192.0.2.8"]),
            [
                f'web_tls_certificate = "{good}" does not cover jupyter.example.org, lab.site.test, '
                "a.b.lab.site.test, 192.0.2.8; it is for hub.site.test, *.lab.site.test, 192.0.2.7, 2001:db8::7. "
                + COVER
            ],
        ),
        "own-common-name-only": (
            own(nameless),
            [f'web_tls_certificate = "{nameless}" does not cover hub.site.test; it is for no name at all. {COVER}'],
        ),
        "own-expired-and-other-key": (
            own(old, other_key),
            [
                f'web_tls_key = "{other_key}" does not belong to the first certificate in {old}. {OTHER_KEY}',
                f'web_tls_certificate = "{old}" expired on {shown_by_openssl(NOW - DAY)}. Get a new one.',
            ],
        ),
        "own-chain-no-pem": (
            own(web_tls_chain=note),
            [
                (
                    f'web_tls_chain = "{note}" is no file with certificates in PEM. Give the absolute path of the '
                    "intermediate certificates, or nothing when they follow in web_tls_certificate."
                )
            ],
        ),
        "own-der": (own(der), [f'web_tls_certificate = "{der}" {NO_CERTIFICATE}']),
        "host-chain": (
            own("hub.pem", "hub.key", web_tls_files_on="host", web_tls_chain=chain_file),
            [
                f'web_tls_certificate = "hub.pem" {ABSOLUTE}',
                f'web_tls_key = "hub.key" {ABSOLUTE}',
                (
                    f'web_tls_chain = "{chain_file}" is for files on the controller only. '
                    "On the host, append the chain to the file of web_tls_certificate."
                ),
            ],
        ),
        "acme-email": (acme(web_acme_email=""), [f'web_acme_email = "" {EMAIL}']),
        "acme-directory": (
            acme(web_acme_directory_url="http://ca.example.org/dir"),
            [f'web_acme_directory_url = "http://ca.example.org/dir" {DIRECTORY}'],
        ),
        "acme-names": (
            acme(web_server_name="hub", web_server_aliases=["hub.site.test", "192.0.2.1", "2001:db8::1"]),
            [
                f'web_server_name = "hub" {PUBLIC}',
                f'web_server_aliases[1] = "192.0.2.1" {PUBLIC}',
                f'web_server_aliases[2] = "2001:db8::1" {PUBLIC}',
            ],
        ),
        "example-own": (
            own(example, web_server_name="Hub.Example.NET"),
            [f'web_server_name = "Hub.Example.NET" {RESERVED}'],
        ),
        "example-acme": (acme(web_server_name="hub.example"), [f'web_server_name = "hub.example" {RESERVED}']),
        "example-near": (acme(web_server_name="hub.myexample.org"), []),
        "example-self-signed": ({"web_server_name": "jupyter.example.org"}, []),
        "acme-ca": (
            acme(web_acme_ca_certificate=gone),
            [
                (
                    f'web_acme_ca_certificate = "{gone}" is no file with a certificate in PEM. '
                    "Give the absolute path of the CA certificate on the controller, "
                    "or nothing when the host trusts it anyway."
                )
            ],
        ),
        "acme-eab": (
            acme(web_acme_eab_key_id="kid-1"),
            [
                (
                    'web_acme_eab_key_id = "kid-1" and web_acme_eab_hmac_key are not both given. '
                    "Give both as the ACME service told them, or neither."
                )
            ],
        ),
        "misspelt": (
            {"web_tls_certifcate": "/x", "web_upload_limit": ["1g"]},
            [
                "web_tls_certifcate is no setting of role web. Did you mean web_tls_certificate?",
                'web_upload_limit = ["1g"] is a list, but a text is needed. See docs/reference/settings/web.md.',
            ],
        ),
    }


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[dict[str, Any], list[str]]]:
    return cases(tmp_path_factory.mktemp("web"))


def test_every_mistake_is_named_with_its_remedy(expected: dict[str, tuple[dict[str, Any], list[str]]]) -> None:
    assert answered_otherwise("web", expected) == {}


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("hub.example.org", "HUB.example.org.", True),
        ("*.example.org", "hub.example.org", True),
        ("*.example.org", "example.org", False),
        ("*.example.org", "a.hub.example.org", False),
        ("hub.example.org", "hub.example.com", False),
        ("*.hub.example.org", "*.hub.example.org", True),
        ("*.example.org", "*.hub.example.org", False),
        ("2001:db8::1", "2001:DB8:0:0::1", True),
        ("192.0.2.1", "192.0.2.10", False),
        ("*.0.2.1", "192.0.2.1", False),
    ],
)
def test_names_in_certificates_are_read_as_browsers_do(pattern: str, name: str, fits: bool) -> None:
    assert covers(pattern, name) is fits
