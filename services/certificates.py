"""The local certificate authority, and the server certificate that it signs."""

import contextlib
import datetime as dt
import ipaddress
import ssl
from collections.abc import Iterable
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from events.settings import Settings
from services import atomic_files

NAMES = ("localhost", "127.0.0.1", "::1")
"""Names that a local server always has."""

EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared with, not listened on
"""Hosts to listen on that are no name for clients."""

CA_DAYS = 3650
SERVER_DAYS = 397
RENEW_DAYS = 30
"""How long before its end a certificate is renewed."""

_SKEW = dt.timedelta(hours=1)
_NO_USAGE = dict.fromkeys(
    ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"),
    False,
)


class CertificateUnusable(Exception):
    """A certificate or key file cannot be read, or the two do not belong together."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"certificate {path}: {why}")
        self.path, self.why = path, why


class CertificateFiles(msgspec.Struct, frozen=True):
    """The files of a server's TLS. `ca` is the certificate that clients trust."""

    ca: Path
    certificate: Path
    key: Path


def files_of(directory: Path) -> CertificateFiles:
    """The files in a data directory."""
    folder = directory / "tls"
    return CertificateFiles(folder / "ca.pem", folder / "server.pem", folder / "server.key")


def ensure(directory: Path, names: Iterable[str], *, now: dt.datetime) -> CertificateFiles:
    """Make the authority if it is missing, and the server's certificate if it is missing, expires soon or lacks a name.

    Keys have mode 0600. Clients that trust the authority trust renewed certificates, too.

    Raises:
        CertificateUnusable: the existing authority cannot sign another certificate.
    """
    files = files_of(directory)
    files.ca.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    ca_key_file = files.ca.with_name("ca.key")
    # The key is written first: if the certificate exists, clients may trust it already, and it must not be replaced.
    if not files.ca.exists():
        _make(files.ca, ca_key_file, "twinfold local authority", days=CA_DAYS, now=now)
    all_names = tuple(dict.fromkeys((*NAMES, *names)))
    if not _is_good(files, all_names, now):
        _make_server(files, ca_key_file, all_names, now)
    return files


def of(settings: Settings, *, now: dt.datetime) -> tuple[Path, Path]:
    """The files of an API's certificate and key: those of the settings, else those of the local authority, renewed if due.

    Raises:
        CertificateUnusable: they cannot be used, or made.
    """
    certificate, key = settings.tls_certificate, settings.tls_key
    if certificate is None or key is None:
        configured = (settings.host, *settings.names.split(","))
        names = [name.strip() for name in configured if name.strip() and name not in EVERYWHERE]
        try:
            files = ensure(settings.data_dir, names, now=now)
        except OSError as error:
            raise CertificateUnusable(settings.data_dir, error.strerror or type(error).__name__) from error
        certificate, key = files.certificate, files.key
    for path, flag in ((certificate, "--tls-certificate"), (key, "--tls-key")):
        try:
            path.open("rb").close()
        except OSError as error:
            why = f"cannot be read: {error.strerror or type(error).__name__}; name a PEM file with {flag}"
            raise CertificateUnusable(path, why) from error
    try:
        # Without `password`, OpenSSL would ask for that of an encrypted key on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except OSError as error:
        why = f"and its key {key} cannot be used: {error.strerror or error}; name others with --tls-certificate and --tls-key"
        raise CertificateUnusable(certificate, why) from error
    return certificate, key


def _make_server(files: CertificateFiles, ca_key_file: Path, names: tuple[str, ...], now: dt.datetime) -> None:
    try:
        ca_key = serialization.load_pem_private_key(ca_key_file.read_bytes(), password=None)
        ca = x509.load_pem_x509_certificate(files.ca.read_bytes())
    except (OSError, ValueError) as error:
        raise CertificateUnusable(files.ca, f"cannot be used: {error}") from error
    if not isinstance(ca_key, ec.EllipticCurvePrivateKey) or ca_key.public_key() != ca.public_key():
        raise CertificateUnusable(files.ca, f"does not belong to {ca_key_file}")
    if ca.not_valid_after_utc <= now + dt.timedelta(days=1):
        raise CertificateUnusable(files.ca, "has expired; move its directory away, and let clients trust the next one")
    days = min(SERVER_DAYS, (ca.not_valid_after_utc - now).days)
    _make(files.certificate, files.key, names[0], names=names, days=days, now=now, by=(ca.subject, ca_key))


def _make(
    file: Path,
    key_file: Path,
    name: str,
    *,
    names: Iterable[str] = (),
    days: int,
    now: dt.datetime,
    by: tuple[x509.Name, ec.EllipticCurvePrivateKey] | None = None,
) -> None:
    """Make a key and its certificate: a server's, signed `by` an authority, or an authority's, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer, signer = by or (subject, key)
    usage = x509.KeyUsage(digital_signature=by is not None, key_cert_sign=by is None, crl_sign=by is None, **_NO_USAGE)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=by is None, path_length=0 if by is None else None), critical=True)
        .add_extension(usage, critical=True)
    )
    if by is None:
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    else:
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
        builder = (
            builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName([_name(name) for name in names]), critical=False)
            .add_extension(authority, critical=False)
        )
    # Signed before anything is written: a key without its certificate would replace one that is in use.
    certificate = builder.sign(signer, hashes.SHA256())
    private = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    atomic_files.write(key_file, key.private_bytes(*private))
    atomic_files.write(file, certificate.public_bytes(serialization.Encoding.PEM))


def _is_good(files: CertificateFiles, names: tuple[str, ...], now: dt.datetime) -> bool:
    if not files.certificate.exists() or not files.key.exists():
        return False
    try:
        certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
        ca = x509.load_pem_x509_certificate(files.ca.read_bytes())
        certificate.verify_directly_issued_by(ca)
        key = serialization.load_pem_private_key(files.key.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, InvalidSignature):
        return False
    # The two files are written one after the other, and a crash in between leaves a key of another certificate.
    if key.public_key() != certificate.public_key():
        return False
    alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    # No certificate outlasts its authority: near its end, a renewal at each start would gain nothing.
    soon = min(now + dt.timedelta(days=RENEW_DAYS), ca.not_valid_after_utc - dt.timedelta(days=2))
    return certificate.not_valid_after_utc > max(soon, now) and set(map(_name, names)) <= set(alternatives)


def _name(name: str) -> x509.GeneralName:
    with contextlib.suppress(ValueError):
        return x509.IPAddress(ipaddress.ip_address(name))
    return x509.DNSName(name)
