"""A certificate authority for one test run, and a server's certificate for this machine by it."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PEM = serialization.Encoding.PEM
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@cache
def rsa_key(_whose: str) -> rsa.RSAPrivateKey:
    """A key to sign tokens with, one for each issuer; slow to make, so it serves the whole run."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def private_text(key: Key) -> bytes:
    """A private key as PEM, without a password."""
    return key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def self_signed(key: Key, name: str, *, is_authority: bool = False) -> x509.Certificate:
    """A certificate that only its own key vouches for."""
    subject = _name(name)
    builder = _builder(subject, subject, key).add_extension(
        x509.BasicConstraints(ca=is_authority, path_length=None), critical=True
    )
    if is_authority:
        builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
    return builder.sign(key, hashes.SHA256())


class Authority:
    """Writes ``ca.pem`` (what a client trusts) and ``server.pem`` (certificate and key) to a directory.

    The server's certificate is for ``localhost``, ``127.0.0.1`` and ``names``.
    """

    def __init__(self, directory: Path, names: tuple[str, ...] = ()) -> None:
        self.ca_file = directory / "ca.pem"
        self.server_file = directory / "server.pem"
        directory.mkdir(parents=True, exist_ok=True)
        ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        ca = self_signed(ca_key, "Modelport test authority", is_authority=True)
        certificate = (
            _builder(_name("localhost"), ca.subject, key)
            .add_extension(
                x509.SubjectAlternativeName(
                    [
                        *(x509.DNSName(name) for name in ("localhost", *names)),
                        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
                    ]
                ),
                critical=False,
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
            )
            .sign(ca_key, hashes.SHA256())
        )
        self.ca_file.write_bytes(ca.public_bytes(PEM))
        self.server_file.touch(0o600)
        self.server_file.write_bytes(certificate.public_bytes(PEM) + private_text(key))

    def server_side(self) -> ssl.SSLContext:
        """For a server of this machine."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.server_file)
        return context


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(subject: x509.Name, issuer: x509.Name, key: Key) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
