"""
Certificates for what goes between the hub, its proxy and the servers on nodes of a cluster.

There are two authorities: one for hub and proxy, whose key nobody keeps, and one by which the hub signs the certificate
of each server. A server believes the first alone, so that no other user's server can take the part of the hub.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import ipaddress
import ssl
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

YEARS = dt.timedelta(days=3650)


class Pair(NamedTuple):
    """A certificate and its key, in PEM."""

    certificate: str
    key: str


def name_of(name: str) -> x509.Name:
    """Return a name as certificates have it; more than 64 letters are refused there."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])


def alternative(name: str) -> x509.GeneralName:
    """Return a host's name or address as a certificate has it."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def make(name: str, hosts: list[str], authority: Pair | None = None) -> Pair:
    """Return a certificate for some hosts; without an authority to sign it, that of an authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.now(dt.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name_of(name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # Clocks differ.
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + YEARS)
        .add_extension(x509.BasicConstraints(ca=authority is None, path_length=None), critical=True)
    )
    signing_key, issuer = key, name_of(name)
    if authority:
        issuer = x509.load_pem_x509_certificate(authority.certificate.encode()).subject
        loaded = serialization.load_pem_private_key(authority.key.encode(), None)
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise ValueError("the key of the authority is of another kind")
        signing_key = loaded
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    else:
        builder = builder.add_extension(
            x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=True,
                crl_sign=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
    if hosts:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([alternative(host) for host in hosts]), critical=False
        )
    signing_public = x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key())
    builder = builder.add_extension(signing_public, critical=False)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    signed = builder.issuer_name(issuer).sign(signing_key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Pair(signed.public_bytes(pem).decode(), private.decode())


def fingerprint(certificate: bytes) -> str:
    """Return by what a certificate, in DER, is known."""
    return hashlib.sha256(certificate).hexdigest()


class Certificates:
    """The directory of the host with what `bin/make_certificates.py` has made."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        # The hub is restarted when the files have changed.
        self._contexts: dict[ssl.Purpose, ssl.SSLContext] = {}

    def text(self, name: str) -> str:
        """Return the text of a file."""
        return (self.directory / name).read_text()

    @property
    def centre_authority(self) -> str:
        """The certificate by which servers know hub and proxy."""
        return self.text("centre-ca.pem")

    def for_server(self, user: str, address: str) -> Pair:
        """Return a certificate for a server of a user on a node."""
        return make(f"server of {user}", [address], Pair(self.text("servers-ca.pem"), self.text("servers-ca.key")))

    def hub_context(self, purpose: ssl.Purpose = ssl.Purpose.SERVER_AUTH) -> ssl.SSLContext:
        """Return how the hub speaks to servers, or, for clients, how they speak to it: both sides show who they are."""
        if purpose not in self._contexts:
            context = ssl.create_default_context(purpose, cafile=str(self.directory / "servers-ca.pem"))
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_cert_chain(self.directory / "hub.pem", self.directory / "hub.key")
            self._contexts[purpose] = context
        return self._contexts[purpose]
