"""Who the daemon is to clients of its TLS doors: a certificate and its key, read or made here.

PEM files need nothing besides Python; for PKCS12, and for a certificate made here, the package
`cryptography` is imported (the extra `tls`). Keys that are not in a file stay out of files."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tsd.errors import ConfigError
from tsd.settings import TlsSettings

PACKAGE = "tsd[tls]"
JKS_BEGINS = bytes.fromhex("feedfeed")
HTTP_1_1, HTTP_2 = "http/1.1", "h2"
"""What is spoken inside, as TLS names it."""
OWN_DAYS = 365
OWN_KEY_BITS = 2048


@dataclass(frozen=True)
class Identity:
    """A certificate chain and its private key, both PEM."""

    certificate: bytes
    key: bytes


class TlsDoor:
    """What TLS doors accept clients with."""

    def __init__(self, identity: Identity, protocol: str = HTTP_1_1) -> None:
        self._protocol = protocol
        self.context = self._current = server_context(identity, protocol)
        self.context.sni_callback = self._choose

    def renew(self, identity: Identity) -> None:
        """Clients that come from now on see this; the others keep what they have."""
        self._current = server_context(identity, self._protocol)

    # A listener keeps the context it began with; OpenSSL asks here for every client, also for
    # those that name no server.
    def _choose(self, client: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        client.context = self._current


def read_identity(settings: TlsSettings) -> Identity:
    """As configured: PEM files, else a keystore, else one made now, which no client knows."""
    if settings.certificate is not None and settings.private_key is not None:
        return Identity(_read(settings.certificate), _read(settings.private_key))
    if settings.certificate is not None or settings.private_key is not None:
        raise ConfigError(
            "TLS needs tls.certificate and tls.private_key",
            why="only one of them is set",
            fix="set both, or tls.keystore",
        )
    if settings.keystore is not None:
        return _from_keystore(settings.keystore, settings.keystore_password)
    return _made()


def server_context(identity: Identity, protocol: str = HTTP_1_1) -> ssl.SSLContext:
    """TLS 1.2 and later, as Python holds to be safe, for what is spoken inside."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols([protocol])
    # OpenSSL reads from files only. This one has no name and is gone at once.
    descriptor = os.memfd_create("tls", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(identity.key + b"\n" + identity.certificate)
        # Without a password OpenSSL would ask for one on the terminal.
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password="")
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(
            "the certificate or its private key cannot be used",
            why=getattr(error, "reason", None) or str(error),
            fix="check that they belong together and that the key has no password",
        ) from error
    finally:
        os.close(descriptor)
    return context


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read",
            why=error.strerror or str(error),
            fix="check its name, and that the daemon's user may read it",
        ) from error


def _from_keystore(path: Path, password: str) -> Identity:
    content = _read(path)
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.serialization import pkcs12
    except ImportError as error:
        raise _needs_package("a PKCS12 keystore") from error
    try:
        key, certificate, others = pkcs12.load_key_and_certificates(content, password.encode())
    except ValueError as error:
        raise _bad_keystore(path, content, str(error)) from error
    if key is None or certificate is None:
        raise _bad_keystore(path, content, "it holds no private key with a certificate")
    pem = serialization.Encoding.PEM
    return Identity(
        b"".join(one.public_bytes(pem) for one in (certificate, *others)),
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


def _bad_keystore(path: Path, content: bytes, why: str) -> ConfigError:
    fix = "check tls.keystore_password"
    if content.startswith(JKS_BEGINS):
        why = "it is a Java keystore of the old form, JKS"
        fix = f"keytool -importkeystore -deststoretype PKCS12 -srckeystore {path} -destkeystore …"
    return ConfigError(f"{path} is no PKCS12 keystore that can be read", why=why, fix=fix)


def _needs_package(what: str) -> ConfigError:
    return ConfigError(
        f"{what} needs the package cryptography",
        why="it is not installed",
        fix=f"pip install '{PACKAGE}', or set tls.certificate and tls.private_key to PEM files",
    )


def _made() -> Identity:
    """A certificate signed by itself, anew at each start, as TorchServe has it."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import rsa
        from cryptography.x509.oid import NameOID
    except ImportError as error:
        raise _needs_package("a door with TLS and no certificate") from error
    key = rsa.generate_private_key(public_exponent=65_537, key_size=OWN_KEY_BITS)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=OWN_DAYS))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    return Identity(
        certificate.public_bytes(pem),
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )
