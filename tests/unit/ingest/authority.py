"""Keys and certificates for tests: a certificate authority of our own, and what it signs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


@cache
def rsa_key(which: str) -> RSAPrivateKey:
    """A key of its own for each name; made once."""
    return generate_private_key(65537, 2048)


def certificate(
    name: str,
    *,
    issuer: str = "",
    authority: bool = False,
    hosts: tuple[str, ...] = (),
    start: datetime = datetime(2020, 1, 1, tzinfo=UTC),
    days: int = 10_000,
) -> x509.Certificate:
    """The certificate of the key `name`, signed by the key `issuer` (its own where that is empty)."""

    def common(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    public = rsa_key(name).public_key()
    signer = rsa_key(issuer or name)
    builder = (
        x509.CertificateBuilder()
        .subject_name(common(name))
        .issuer_name(common(issuer or name))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if hosts:
        names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(signer, SHA256())


def pem(*certificates: x509.Certificate) -> bytes:
    """A file with these certificates."""
    return b"".join(found.public_bytes(Encoding.PEM) for found in certificates)


def key_pem(name: str) -> bytes:
    """A file with the private key."""
    return rsa_key(name).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
