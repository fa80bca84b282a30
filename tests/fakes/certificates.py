"""Certificate authorities and certificates for TLS servers on loopback, made for a test."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_DAY = datetime.timedelta(days=1)


class Authority:
    """One that signs. Its own certificate is at `bundle`."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self.folder, self.name = folder, name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = _named(name)
        self.bundle = folder / f"{name}.pem"
        made = self._made(self._subject, self._key, days=(-2, 2), authority=True)
        self.bundle.write_bytes(made.public_bytes(serialization.Encoding.PEM))

    def signed(
        self,
        name: str,
        *,
        address: str = "127.0.0.1",
        days: tuple[int, int] = (-2, 2),
        passphrase: bytes = b"",
    ) -> tuple[Path, Path]:
        """A certificate and its key, of `days` from and to relative to now."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = self._made(_named(name), key, days=days, address=address)
        certificate, secret = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        secret.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(passphrase)
                if passphrase
                else serialization.NoEncryption(),
            )
        )
        return certificate, secret

    def server(
        self, name: str = "server", *, clients: Authority | None = None, **keywords: object
    ) -> ssl.SSLContext:
        """What a server serves with; `clients` signs those of its clients, which it demands."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.signed(name, **keywords))  # type: ignore[arg-type]
        if clients:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(clients.bundle)
        return context

    def _made(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        *,
        days: tuple[int, int],
        address: str = "",
        authority: bool = False,
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + days[0] * _DAY)
            .not_valid_after(now + days[1] * _DAY)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if address:
            names = [x509.IPAddress(ipaddress.ip_address(address))]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"fake {name}")])
