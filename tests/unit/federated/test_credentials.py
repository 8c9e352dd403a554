import socket
import ssl
import stat
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from neuroloom.federated.credentials import (
    ServerCredentials,
    make_authority,
    make_server_certificate,
    make_site_key,
)
from neuroloom.schema import ConfigError


@pytest.fixture
def credentials(tmp_path: Path) -> ServerCredentials:
    return make_server_certificate(tmp_path, make_authority(tmp_path), hosts=["hospital.example", "10.1.2.3"])


def handshake(credentials: ServerCredentials, authority: Path, host: str) -> None:
    """A TLS connection to a server with these credentials, by that name, checked as strictly as Python can."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(credentials.certificate, credentials.key)
    client = ssl.create_default_context(cafile=str(authority))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    here, there = socket.socketpair()

    def serve() -> None:
        try:
            server.wrap_socket(there, server_side=True).close()
        except OSError:
            there.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        client.wrap_socket(here, server_hostname=host).close()
    finally:
        here.close()
        thread.join()


@pytest.mark.parametrize("host", ["127.0.0.1", "hospital.example", "10.1.2.3"])
def test_the_server_is_trusted_by_its_names(credentials: ServerCredentials, host: str) -> None:
    handshake(credentials, credentials.authority, host)


def test_the_server_is_not_trusted_by_another_name(credentials: ServerCredentials) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match=r"not valid for 'other\.example'"):
        handshake(credentials, credentials.authority, "other.example")


def test_another_authority_does_not_vouch_for_the_server(credentials: ServerCredentials, tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="verify failed"):
        handshake(credentials, make_authority(tmp_path / "other").certificate, "127.0.0.1")


def test_an_expired_certificate_is_refused(tmp_path: Path) -> None:
    old = make_server_certificate(tmp_path, make_authority(tmp_path), days=0)
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        handshake(old, old.authority, "127.0.0.1")


def test_a_site_key_is_a_pair_on_p384_as_flower_reads_it(tmp_path: Path) -> None:
    key = make_site_key(tmp_path, "north")
    private = serialization.load_ssh_private_key(key.private.read_bytes(), None)
    public = serialization.load_ssh_public_key(key.public.read_bytes())
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    assert private.curve.name == "secp384r1"
    assert private.public_key() == public
    assert key.public.read_text().endswith(" north\n")


def test_only_their_owner_reads_them(credentials: ServerCredentials, tmp_path: Path) -> None:
    make_site_key(tmp_path, "north")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == dict.fromkeys(
        ["authority.crt", "authority.key", "server.crt", "server.key", "north.key", "north.pub"], 0o600
    )


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    key = make_site_key(tmp_path, "north")
    before = key.private.read_bytes()
    with pytest.raises(ConfigError, match=r"north\.key: there is one already"):
        make_site_key(tmp_path, "north")
    assert key.private.read_bytes() == before
