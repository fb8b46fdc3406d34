"""Certificates: from PEM files, from a keystore, made here; and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tsd.errors import ConfigError
from tsd.settings import TlsSettings
from tsd.tls import Identity, read_identity, server_context

x509 = pytest.importorskip("cryptography.x509")
serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization")
pkcs12 = pytest.importorskip("cryptography.hazmat.primitives.serialization.pkcs12")
PASSWORD = "changeit"


@pytest.fixture(scope="module")
def identity() -> Identity:
    return read_identity(TlsSettings())


def pem_files(folder: Path, identity: Identity) -> TlsSettings:
    (folder / "c.pem").write_bytes(identity.certificate)
    (folder / "k.pem").write_bytes(identity.key)
    return TlsSettings(certificate=folder / "c.pem", private_key=folder / "k.pem")


def keystore(folder: Path, identity: Identity, password: str) -> TlsSettings:
    certificate = x509.load_pem_x509_certificate(identity.certificate)
    key = serialization.load_pem_private_key(identity.key, None)
    encryption = serialization.BestAvailableEncryption(password.encode())
    content = pkcs12.serialize_key_and_certificates(b"ts", key, certificate, None, encryption)
    (folder / "keystore.p12").write_bytes(content)
    return TlsSettings(keystore=folder / "keystore.p12")


def test_pem_files_are_taken_as_they_are(tmp_path: Path, identity: Identity) -> None:
    assert read_identity(pem_files(tmp_path, identity)) == identity
    server_context(identity)


def test_a_keystore_holds_both(tmp_path: Path, identity: Identity) -> None:
    assert read_identity(keystore(tmp_path, identity, PASSWORD)) == identity


def test_one_is_made_where_none_is_named(identity: Identity) -> None:
    again = read_identity(TlsSettings())
    assert again != identity
    assert b"BEGIN CERTIFICATE" in again.certificate


def test_keys_stay_out_of_files_and_descriptors(identity: Identity) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    server_context(identity)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_one_of_two_files_is_not_enough(tmp_path: Path, identity: Identity) -> None:
    files = pem_files(tmp_path, identity)
    with pytest.raises(ConfigError, match=r"needs tls\.certificate and"):
        read_identity(TlsSettings(certificate=files.certificate))


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.p12 cannot be read"):
        read_identity(TlsSettings(keystore=tmp_path / "none.p12"))


def test_a_wrong_password_is_told(tmp_path: Path, identity: Identity) -> None:
    with pytest.raises(ConfigError) as caught:
        read_identity(keystore(tmp_path, identity, "other"))
    assert "keystore_password" in caught.value.fix


def test_a_java_keystore_of_the_old_form_is_told_how_to_become_one(tmp_path: Path) -> None:
    (tmp_path / "keystore.jks").write_bytes(bytes.fromhex("feedfeed00000002"))
    with pytest.raises(ConfigError) as caught:
        read_identity(TlsSettings(keystore=tmp_path / "keystore.jks"))
    assert "keytool -importkeystore" in caught.value.fix


@pytest.mark.parametrize("case", ["other key", "no key", "locked key", "no certificate"])
def test_what_does_not_belong_together_is_refused(identity: Identity, case: str) -> None:
    key = serialization.load_pem_private_key(identity.key, None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    wrong = {
        "other key": Identity(identity.certificate, read_identity(TlsSettings()).key),
        "no key": Identity(identity.certificate, b"nothing"),
        "locked key": Identity(identity.certificate, locked),
        "no certificate": Identity(b"nothing", identity.key),
    }
    with pytest.raises(ConfigError, match="cannot be used"):
        server_context(wrong[case])
