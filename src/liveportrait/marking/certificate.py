"""The certificate that signs results: the user's own, or a development certificate created on first use.

The development certificate proves nothing about a person: it shows which program signed, and that nothing has changed
since. Its root signs one certificate, and the root's key is then discarded.
"""

from __future__ import annotations

import datetime
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from liveportrait.errors import UserError
from liveportrait.folders import unfinished_beside, user_cache

CERTIFICATE_VARIABLE, KEY_VARIABLE = "LIVEPORTRAIT_CERTIFICATE", "LIVEPORTRAIT_KEY"
FOLDER_VARIABLE = "LIVEPORTRAIT_CREDENTIALS"  # names the folder of the development certificate
FILE = "development.pem"  # key, certificate and its root
ORGANISATION = "LivePortrait development certificate"

_VALIDITY = datetime.timedelta(days=3650)
# C2PA 2.2, 14.5.1, requires an extended key usage for signing, such as this one (document signing).
_DOCUMENTS = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.36")
_CURVES = {256: "es256", 384: "es384", 521: "es512"}  # bits of an elliptic curve's key
_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


@dataclass(frozen=True)
class Signer:
    """A certificate with its key."""

    chain: bytes  # PEM: the certificate, then its issuers
    key: bytes  # PEM, PKCS 8
    algorithm: str  # by its C2PA name
    name: str  # of the owner, from the certificate
    development: bool = False  # whether it is the development certificate, which nobody vouches for
    note: str = ""  # a warning for the user


def load_signer(certificate: Path | None = None, key: Path | None = None) -> Signer:
    """The signer from these PEM files, or those named by the environment, or else the development certificate.

    Raises `UserError` if a file cannot be read, certificate and key do not match, or they cannot be used to sign.
    """
    certificate = certificate or _named(CERTIFICATE_VARIABLE)
    key = key or _named(KEY_VARIABLE)
    if certificate is None and key is None:
        return development_signer()
    if certificate is None or key is None:
        given, missing = (certificate, "its key") if certificate else (key, "its certificate")
        raise UserError(f"{given} cannot sign without {missing}: give both --certificate and --key")
    return _signer(_read(certificate), _read(key), str(certificate), str(key))


def credentials_folder() -> Path:
    """The folder of the development certificate: $LIVEPORTRAIT_CREDENTIALS, or one in the user's cache."""
    return user_cache(FOLDER_VARIABLE, "credentials")


def development_signer() -> Signer:
    """The development certificate, created if it is missing; if it cannot be stored, it is used for this run only."""
    path = credentials_folder() / FILE
    note = ""
    try:
        content = path.read_bytes() if path.is_file() else _store(path, _create())
    except OSError as error:
        content = _create()
        note = (
            f"{path.parent} cannot be used ({error.strerror}): results are signed with a certificate for this run"
            f" only; name another folder in {FOLDER_VARIABLE}"
        )
    signer = _signer(content, content, str(path), str(path))
    return Signer(signer.chain, signer.key, signer.algorithm, ORGANISATION, True, note)


def development_root() -> bytes | None:
    """The root of the development certificate, PEM; None if there is none yet or it cannot be read."""
    try:
        certificates = x509.load_pem_x509_certificates((credentials_folder() / FILE).read_bytes())
    except (OSError, ValueError):
        return None
    return b"".join(map(_pem, certificates[1:]))


def _store(path: Path, content: bytes) -> bytes:
    """Store a new certificate; if several processes do so at once, all of them return the first one's."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with unfinished_beside(path) as temporary:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)  # unlike a rename, it fails if the name is taken
        except FileExistsError:
            return path.read_bytes()
        except OSError:  # a file system without links
            temporary.replace(path)
    return content


def _create() -> bytes:
    """A new key with its certificate and the root that signed it, PEM."""
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root_name, name = _distinguished_name("Root"), _distinguished_name("Results of one installation")
    root = (
        _builder(root_name, root_name, root_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage("key_cert_sign", "crl_sign"), critical=True)
        .sign(root_key, hashes.SHA256())
    )
    purposes = x509.ExtendedKeyUsage([_DOCUMENTS, ExtendedKeyUsageOID.EMAIL_PROTECTION])
    certificate = (
        _builder(name, root_name, key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage("digital_signature"), critical=True)
        .add_extension(purposes, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), critical=False
        )
        .sign(root_key, hashes.SHA256())
    )
    return _private(key) + _pem(certificate) + _pem(root)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)  # clocks differ
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(yesterday)
        .not_valid_after(yesterday + _VALIDITY)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _distinguished_name(name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANISATION),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )


def _usage(*usages: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{usage: usage in usages for usage in _USAGES})


def _signer(certificates: bytes, key: bytes, certificate_name: str, key_name: str) -> Signer:
    """A signer from the contents of two files; their names are for error messages."""
    try:
        chain = x509.load_pem_x509_certificates(certificates)
    except ValueError as error:
        raise UserError(f"{certificate_name} contains no PEM certificate: export it again") from error
    try:
        private = serialization.load_pem_private_key(key, None)
    except TypeError as error:
        raise UserError(
            f"the key in {key_name} is protected by a password: store it without one, readable only by you"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UserError(f"{key_name} contains no PEM private key: export it again") from error
    algorithm = _algorithm(private, key_name)
    leaf = chain[0]
    if leaf.public_key() != private.public_key():
        raise UserError(f"the key in {key_name} does not belong to the certificate in {certificate_name}")
    if leaf.not_valid_after_utc < datetime.datetime.now(datetime.UTC):
        day = leaf.not_valid_after_utc.date()
        raise UserError(f"the certificate in {certificate_name} was valid until {day}: renew it")
    return Signer(b"".join(map(_pem, chain)), _private(private), algorithm, _owner(leaf))


def _algorithm(key: object, name: str) -> str:
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.key_size in _CURVES:
        return _CURVES[key.key_size]
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "ed25519"
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= 2048:
        return "ps256"
    raise UserError(
        f"the key in {name} is of a type that content credentials do not allow: use one on the curve P-256"
    )


def _owner(certificate: x509.Certificate) -> str:
    for kind in (NameOID.ORGANIZATION_NAME, NameOID.COMMON_NAME):
        if named := certificate.subject.get_attributes_for_oid(kind):
            return str(named[0].value)
    return "a certificate without a name"


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _private(key: PrivateKeyTypes) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _named(variable: str) -> Path | None:
    chosen = os.environ.get(variable)
    return Path(chosen).expanduser() if chosen else None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
