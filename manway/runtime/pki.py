"""The site's certificate authority: leaves of broker, processes and devices, and the list of those that count no longer.

The authority signs two kinds of leaf. A *client* has only a common name, which is its id, its MQTT user and its client id: NATS
takes a user from the alternative name where there is one, Mosquitto always from the common name. A *server* has the names it is
reached by. Lives and sizes: `trust.md` §3.
"""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from manway.errors import ProfileInvalid

DAY_S = 86_400.0
AUTHORITY_LIFE_S = 3_650 * DAY_S
LEAF_LIFE_S = 90 * DAY_S
RENEW_BEFORE_S = 30 * DAY_S  # a leaf is made anew at 60 of its 90 days
CRL_LIFE_S = 30 * DAY_S  # and it is signed anew every week: an expired list makes Mosquitto refuse every client
BACKDATE_S = 3_600.0  # a device whose clock is a little behind still believes a fresh certificate
_ID = re.compile(r"[a-z0-9-]{1,32}")
_HOST = re.compile(r"(?!-)[a-zA-Z0-9-]{1,63}(\.[a-zA-Z0-9-]{1,63})*")


class Leaf(msgspec.Struct, frozen=True):
    """A signed certificate with its key, both PEM; `until` is in Unix seconds."""

    certificate: bytes
    key: bytes
    serial: int
    until: float


class Authority:
    """A certificate authority that signs leaves only (CA:TRUE, pathlen:0)."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._certificate, self._key = certificate, key

    @classmethod
    def make(cls, name: str, now: float) -> "Authority":
        """Return a new authority of this common name, valid for ten years from `now` (Unix seconds)."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(name)
        builder = _builder(subject, subject, key.public_key(), now, AUTHORITY_LIFE_S)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_usage(signs_others=True), critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        return cls(builder.sign(key, hashes.SHA256()), key)

    @classmethod
    def load(cls, certificate: bytes, key: bytes) -> "Authority":
        """Return the authority of two PEM files.

        Raises:
            ProfileInvalid: they are no certificate and P-256 key of an authority, or do not belong together.
        """
        try:
            read, private = x509.load_pem_x509_certificate(certificate), serialization.load_pem_private_key(key, None)
        except ValueError as error:
            raise ProfileInvalid("ca", f"no certificate and key in PEM: {error}") from error
        if not isinstance(private, ec.EllipticCurvePrivateKey) or read.public_key() != private.public_key():
            raise ProfileInvalid("ca", "ca.crt and ca.key do not belong together")
        return cls(read, private)

    @property
    def certificate(self) -> bytes:
        """Its certificate, PEM."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key(self) -> bytes:
        """Its private key, PEM, not encrypted: keep it on a disk that is not in the machine."""
        return _pem(self._key)

    def issue(self, name: str, now: float, *, hosts: Sequence[str] = (), peer: bool = False) -> Leaf:
        """Return a new leaf of 90 days with a new key.

        Args:
            name: the common name; [a-z0-9-]{1,32}, so that it can neither be a topic filter nor reach into one.
            now: Unix seconds.
            hosts: names and addresses of a server; a client has none.
            peer: a server that is also its equals' client, as the nodes of a cluster are.

        Raises:
            ValueError: the name or a host is not allowed.
        """
        check_id(name)
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_name(name), self._certificate.subject, key.public_key(), now, LEAF_LIFE_S)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_usage(signs_others=False), critical=True)
        uses = [ExtendedKeyUsageOID.SERVER_AUTH] * bool(hosts) + [ExtendedKeyUsageOID.CLIENT_AUTH] * (peer or not hosts)
        builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = builder.add_extension(issuer, critical=False)
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False)
        signed = builder.sign(self._key, hashes.SHA256())
        until = signed.not_valid_after_utc.timestamp()
        return Leaf(signed.public_bytes(serialization.Encoding.PEM), _pem(key), signed.serial_number, until)

    def revocations(self, revoked: Mapping[int, float], number: int, now: float) -> bytes:
        """Return the signed list of revoked serials (each with its Unix seconds), PEM, good for 30 days.

        Args:
            revoked: serial number -> when it was revoked.
            number: of this list; rises by one each time (RFC 5280 5.2.3).
            now: Unix seconds.
        """
        builder = x509.CertificateRevocationListBuilder().issuer_name(self._certificate.subject)
        builder = builder.last_update(_time(now - BACKDATE_S)).next_update(_time(now + CRL_LIFE_S))
        builder = builder.add_extension(x509.CRLNumber(number), critical=False)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = builder.add_extension(issuer, critical=False)
        for serial, at in revoked.items():
            row = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(_time(at))
            builder = builder.add_revoked_certificate(row.build())
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def check_id(name: str) -> str:
    """Return the name if it can be a common name.

    Raises:
        ValueError: it is not 1 to 32 of a-z, 0-9 and `-`.
    """
    if not _ID.fullmatch(name):
        message = f"{name!r} cannot be an id: use 1 to 32 of a-z, 0-9 and -"
        raise ValueError(message)
    return name


def expires_at(pem: bytes) -> float:
    """Return when a certificate or a revocation list ends, in Unix seconds.

    Raises:
        ProfileInvalid: it is neither.
    """
    try:
        if b"X509 CRL" in pem:
            ends = x509.load_pem_x509_crl(pem).next_update_utc
            return ends.timestamp() if ends is not None else 0.0
        return x509.load_pem_x509_certificate(pem).not_valid_after_utc.timestamp()
    except ValueError as error:
        raise ProfileInvalid("certificate", f"neither a certificate nor a revocation list in PEM: {error}") from error


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: float, life_s: float
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number())
    begins = _time(now - BACKDATE_S)
    return builder.not_valid_before(begins).not_valid_after(_time(now) + timedelta(seconds=life_s))


def _usage(*, signs_others: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_others,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_others,
        crl_sign=signs_others,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        if not _HOST.fullmatch(host):
            message = f"{host!r} is neither a host name nor an address"
            raise ValueError(message) from None
        return x509.DNSName(host)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _time(at: float) -> datetime:
    return datetime.fromtimestamp(int(at), UTC)
