"""What makes the client believe that it talks to WhatsApp: a TLS authority and a Noise chain.

Both are made anew for each double and exist nowhere else. Go takes the authority from
SSL_CERT_FILE; the Noise chain's root is a constant in the wheel, which memory.py replaces.
"""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from neonize.proto.waCert.WACert_pb2 import CertChain

from tests.whatsapp.keys import KeyPair

CHAT_HOST, MEDIA_HOST = "web.whatsapp.com", "mmg.whatsapp.net"
LIFETIME = timedelta(days=1)


def make_tls(folder: Path) -> ssl.SSLContext:
    """Writes the authority to `folder`/ca.pem; returns what a server of both hosts needs."""
    authority, own = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = _named("A double of WhatsApp, for tests only")
    ca = (
        _certificate(root, root, authority)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(authority, hashes.SHA256())
    )
    hosts = x509.SubjectAlternativeName([x509.DNSName(CHAT_HOST), x509.DNSName(MEDIA_HOST)])
    certificate = (
        _certificate(_named(CHAT_HOST), root, own)
        .add_extension(hosts, critical=False)
        .sign(authority, hashes.SHA256())
    )
    (folder / "ca.pem").write_bytes(ca.public_bytes(Encoding.PEM))
    key = own.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "server.pem").write_bytes(key + certificate.public_bytes(Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return context


def make_chain(root: KeyPair, static: KeyPair) -> bytes:
    """Returns the certificates from the root key to the static key of our side of the channel."""
    intermediate = KeyPair()
    return CertChain(
        intermediate=_noise_certificate(root, intermediate.public, serial=1),
        leaf=_noise_certificate(intermediate, static.public, serial=2),
    ).SerializeToString()


def _noise_certificate(issuer: KeyPair, key: bytes, *, serial: int) -> CertChain.NoiseCertificate:
    now = datetime.now(UTC)
    details = CertChain.NoiseCertificate.Details(
        serial=serial, issuerSerial=serial - 1, key=key,
        notBefore=int((now - LIFETIME).timestamp()), notAfter=int((now + LIFETIME).timestamp()),
    ).SerializeToString()  # fmt: skip
    return CertChain.NoiseCertificate(details=details, signature=issuer.sign(details))


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - LIFETIME)
        .not_valid_after(now + LIFETIME)
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
