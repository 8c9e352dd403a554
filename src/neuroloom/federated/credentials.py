"""What the processes of a federation know each other by: an own authority, a server certificate, a key pair per site.

The authority signs the certificate of the server, and the sites are given the authority's certificate to trust, nothing
else. A site is known by its public key (ECDSA, P-384), which it sends to whoever runs the server; the private key stays
where it was made. Files are readable by their owner alone, and none is ever overwritten.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from neuroloom.federated.processes import LOOPBACK
from neuroloom.schema import ConfigError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

DAYS = 730
BACKDATED = datetime.timedelta(hours=1)  # clocks of hospitals differ


@dataclass(frozen=True)
class Authority:
    """Certificate (given to every site) and key (kept) of the authority."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class ServerCredentials:
    """Certificate and key of the server, and the certificate of the authority that signed it."""

    certificate: Path
    key: Path
    authority: Path


@dataclass(frozen=True)
class SiteKey:
    """Private key (kept by the site) and public key (sent to the server) of a site, as OpenSSH writes them."""

    private: Path
    public: Path


def make_authority(folder: Path, *, days: int = DAYS) -> Authority:
    """Make an authority: `authority.crt` and `authority.key`.

    Raises
    ------
    ConfigError
        If one of the files is there already.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    key = _new_key()
    name = _name("NeuroLoom federation authority")
    certificate = (
        _certificate(name, name, key.public_key(), days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA384())
    )
    return Authority(
        certificate=_write(folder / "authority.crt", _pem(certificate)),
        key=_write(folder / "authority.key", _pem_key(key)),
    )


def make_server_certificate(
    folder: Path, authority: Authority, *, hosts: Sequence[str] = (), days: int = DAYS
) -> ServerCredentials:
    """Make a certificate of the server: `server.crt` and `server.key`, signed by an authority.

    Parameters
    ----------
    folder : Path
        Where they are written.
    authority : Authority
        Of `make_authority`.
    hosts : sequence of str
        Names and addresses that sites reach the server by; the loopback address is added, because the server's own
        processes use it.
    days : int
        How long it is valid.

    Raises
    ------
    ConfigError
        If one of the files is there already.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID

    issuer = x509.load_pem_x509_certificate(authority.certificate.read_bytes())
    issuer_key = serialization.load_pem_private_key(authority.key.read_bytes(), None)
    if not isinstance(issuer_key, ec.EllipticCurvePrivateKey):
        raise ConfigError(f"{authority.key}: not an elliptic curve key; make the authority anew with make_authority")
    key = _new_key()
    names = [_host(host) for host in dict.fromkeys((*hosts, LOOPBACK))]
    certificate = (
        _certificate(_name("NeuroLoom federation server"), issuer.subject, key.public_key(), days)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .sign(issuer_key, hashes.SHA384())
    )
    return ServerCredentials(
        certificate=_write(folder / "server.crt", _pem(certificate)),
        key=_write(folder / "server.key", _pem_key(key)),
        authority=authority.certificate,
    )


def make_site_key(folder: Path, site: str) -> SiteKey:
    """Make the key pair of a site: `<site>.key` and `<site>.pub`.

    Raises
    ------
    ConfigError
        If one of the files is there already.
    """
    from cryptography.hazmat.primitives import serialization

    key = _new_key()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return SiteKey(
        private=_write(folder / f"{site}.key", private),
        public=_write(folder / f"{site}.pub", public + f" {site}\n".encode()),
    )


def _new_key() -> ec.EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP384R1())


def _name(common_name: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _host(host: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    from cryptography import x509

    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _pem(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return certificate.public_bytes(serialization.Encoding.PEM)


def _pem_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes) -> Path:
    """Write a file that only its owner can read, and only if there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ConfigError(
            f"{path}: there is one already, and keys are not overwritten. Use it, or name another folder"
        ) from None
    with os.fdopen(file, "wb") as stream:
        stream.write(content)
    return path
