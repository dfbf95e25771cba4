"""Content credentials (C2PA): in goes a picture's file, out goes the file with a signed note that a model made it.

The note has one action, `c2pa.created`, with the software agent and IPTC's word for where the pixels are from; neither
the prompt nor the picture that was given is in it. Key and certificate are tried on a small picture at the start, so
that what is wrong with them is known then, and not at the first request.
"""

from __future__ import annotations

import io
import logging
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from services.errors import Unavailable
from services.settings import ServiceSettings

# https://cv.iptc.org/newscodes/digitalsourcetype/
Source = Literal["trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia"]
SOURCES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
_SETTINGS = {
    # the signature is read back once, at the start; a picture needs neither that nor a small copy of itself
    "verify": {"verify_after_sign": False, "remote_manifest_fetch": False},
    "builder": {"thumbnail": {"enabled": False}},
}
_log = logging.getLogger("darkroom.origin")


@dataclass(frozen=True, slots=True)
class Credentials:
    """A key that signs pictures. `from_settings` reads and tries it."""

    algorithm: str
    key: bytes  # PKCS 8, PEM
    certificates: bytes  # PEM, the key's own first
    timestamps: str = ""

    @classmethod
    def from_settings(cls, settings: ServiceSettings) -> Credentials | None:
        """None where no key is set; whatever is wrong with one that is set stops the start."""
        if not settings.c2pa_key and not settings.c2pa_certificate:
            return None
        if not settings.c2pa_key or not settings.c2pa_certificate:
            absent = "DARKROOM_C2PA_CERTIFICATE" if settings.c2pa_key else "DARKROOM_C2PA_KEY"
            raise SystemExit(
                f"{absent} is not set: signing pictures takes a private key and its certificate."
            )
        try:
            import c2pa
        except ImportError as error:
            raise SystemExit(
                "DARKROOM_C2PA_KEY is set, but the library that signs is not installed: pip install 'darkroom[c2pa]'."
            ) from error
        key = _read("DARKROOM_C2PA_KEY", settings.c2pa_key)
        certificates = _read("DARKROOM_C2PA_CERTIFICATE", settings.c2pa_certificate)
        algorithm, key = _understood(key, certificates, settings)
        found = cls(algorithm, key, certificates, settings.c2pa_timestamps)
        try:
            found._try()
        except (c2pa.C2paError, ValueError) as error:
            raise SystemExit(
                f"Pictures cannot be signed with DARKROOM_C2PA_KEY and DARKROOM_C2PA_CERTIFICATE "
                f"({settings.c2pa_certificate}): {_brief(error)}. The certificate must be valid now, be for digital "
                "signatures (with an extended key usage such as emailProtection) and be issued by another, whose "
                "certificate follows it in the file."
            ) from error
        return found

    def sign(self, picture: bytes, media_type: str, source: Source) -> bytes:
        """The same file with its credentials; the pixels and the other metadata stay as they are."""
        import c2pa

        try:
            return self._sign(picture, media_type, source)
        except c2pa.C2paError as error:
            _log.error("A picture could not be signed: %s", error)
            raise Unavailable(f"The picture could not be signed ({_brief(error)}).", retry_after=5) from error

    def _sign(self, picture: bytes, media_type: str, source: Source) -> bytes:
        import c2pa

        # each picture has its own: the library's objects are for one thread at a time
        info = c2pa.C2paSignerInfo(self.algorithm, self.certificates, self.key, self.timestamps or None)
        out = io.BytesIO()
        with (
            c2pa.Context.from_dict(_SETTINGS) as context,
            c2pa.Signer.from_info(info) as signer,
            c2pa.Builder(_manifest(source), context) as builder,
        ):
            builder.sign(signer, media_type, io.BytesIO(picture), out)
        return out.getvalue()

    def _try(self) -> None:
        """Signs a small picture and reads it back; without the time-stamp server, which may be away just now."""
        import c2pa

        plain = io.BytesIO()
        Image.new("RGB", (8, 8)).save(plain, "PNG")
        alone = replace(self, timestamps="")
        signed = alone._sign(plain.getvalue(), "image/png", "trainedAlgorithmicMedia")
        with c2pa.Reader("image/png", io.BytesIO(signed)) as reader:
            if reader.get_validation_state() not in ("Valid", "Trusted"):
                results = reader.get_validation_results() or {}
                failures = results.get("activeManifest", {}).get("failure", [])
                raise ValueError("; ".join(str(fault.get("code")) for fault in failures) or "it is not valid")


def _manifest(source: Source) -> dict[str, Any]:
    agent = {"name": "Darkroom", "version": version("darkroom")}
    created = {
        "action": "c2pa.created",
        "when": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "softwareAgent": agent,
        "digitalSourceType": SOURCES + source,
    }
    return {
        "claim_generator_info": [agent],
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [created]}}],
    }


def _read(name: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise SystemExit(f"{name} names {path}, which cannot be read: {error.strerror or error}.") from error


def _understood(key: bytes, certificates: bytes, settings: ServiceSettings) -> tuple[str, bytes]:
    """The signature's algorithm, which the kind of key decides, and the key in the one form that the library reads."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    try:
        private = form.load_pem_private_key(key, password=None)
    except TypeError as error:
        raise SystemExit(
            f"The key in {settings.c2pa_key} has a passphrase, which cannot be asked for: write it without one, "
            f"readable by this service alone (openssl pkey -in {settings.c2pa_key} -out NEW)."
        ) from error
    except ValueError as error:
        raise SystemExit(
            f"{settings.c2pa_key} (DARKROOM_C2PA_KEY) holds no private key in PEM form: {_brief(error)}."
        ) from error
    try:
        own = x509.load_pem_x509_certificates(certificates)[0]
    except (ValueError, IndexError) as error:
        raise SystemExit(
            f"{settings.c2pa_certificate} (DARKROOM_C2PA_CERTIFICATE) holds no certificate in PEM form: "
            f"{_brief(error)}."
        ) from error
    public = (form.Encoding.DER, form.PublicFormat.SubjectPublicKeyInfo)
    if private.public_key().public_bytes(*public) != own.public_key().public_bytes(*public):
        raise SystemExit(
            f"The first certificate in {settings.c2pa_certificate} (DARKROOM_C2PA_CERTIFICATE) is not that of the key "
            f"in {settings.c2pa_key} (DARKROOM_C2PA_KEY): put the key's own certificate first, those above it after."
        )
    algorithm = None
    if isinstance(private, ec.EllipticCurvePrivateKey):
        algorithm = _CURVES.get(private.curve.name)
    elif isinstance(private, ed25519.Ed25519PrivateKey):
        algorithm = "ed25519"
    elif isinstance(private, rsa.RSAPrivateKey):
        algorithm = "ps256"
    if algorithm is None:
        raise SystemExit(
            f"The key in {settings.c2pa_key} (DARKROOM_C2PA_KEY) is of a kind that C2PA does not know: "
            "make one on the curve P-256 (or P-384, P-521), an Ed25519 one, or an RSA one."
        )
    plain = private.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    return algorithm, plain


def _brief(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200].rstrip(". ")
