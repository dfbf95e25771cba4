"""Signatures of links to pictures, of sessions, of webhooks; one secret, a key derived from it for each purpose."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from gateway.keys import StartRefused
from gateway.settings import Settings
from services.errors import Forbidden

WEBHOOK_HEADER = "darkroom-signature"
SHORTEST_SECRET = 16
TOLERANCE = 300.0  # seconds that a receiver's clock may differ from ours


class Signer:
    """Two gateways with the same secret accept each other's links."""

    def __init__(self, secret: bytes) -> None:
        self._links = _derive(secret, b"darkroom links v1")
        self._webhooks = _derive(secret, b"darkroom webhooks v1")
        self._sessions = _derive(secret, b"darkroom sessions v1")

    @classmethod
    def open(cls, settings: Settings) -> Signer:
        """With settings.secret, or the one that the data folder keeps, which is drawn at the first start."""
        if settings.secret is None:
            return cls(_kept(settings.data / "secret"))
        secret = settings.secret.get_secret_value().encode()
        if len(secret) < SHORTEST_SECRET:
            raise StartRefused(
                f"DARKROOM_SECRET has {len(secret)} bytes; it needs {SHORTEST_SECRET} random ones at least. "
                "`openssl rand -hex 32` draws a good one."
            )
        return cls(secret)

    # ── links ────────────────────────────────────────────────────────────────────────────────────────────────

    def link(self, path: str, seconds: float) -> str:
        """`path` with the query that lets its bearer read it for `seconds`."""
        expires = int(time.time() + seconds)
        return f"{path}?expires={expires}&signature={self._link_signature(path, expires)}"

    def check_link(self, path: str, expires: str, signature: str) -> None:
        """Raises `Forbidden` unless the two were made by `link` for this path and are still good."""
        if not (expires.isascii() and expires.isdigit() and len(expires) < 16):
            raise Forbidden(
                "The link's `expires` is not a time.", help="Ask whoever gave it to you for a new link."
            )
        right = self._link_signature(path, int(expires))
        if not hmac.compare_digest(right.encode(), signature.encode()):
            raise Forbidden(
                "The link's signature is not ours.", help="Ask whoever gave it to you for a new link."
            )
        if int(expires) < time.time():
            raise Forbidden("The link has expired.", help="Ask whoever gave it to you for a new link.")

    def _link_signature(self, path: str, expires: int) -> str:
        return hmac.new(self._links, f"{expires}\n{path}".encode(), hashlib.sha256).hexdigest()

    # ── sessions ─────────────────────────────────────────────────────────────────────────────────────────────

    def session(self, owner: str) -> str:
        """A new name for what one client does under the key `owner`; no gateway has to remember it."""
        drawn = secrets.token_hex(16)
        return f"{drawn}-{self._session_signature(drawn, owner)}"

    def is_session(self, name: str, owner: str) -> bool:
        """Did `session` make it for this owner?"""
        drawn, _, signature = name.partition("-")
        return hmac.compare_digest(self._session_signature(drawn, owner).encode(), signature.encode())

    def _session_signature(self, drawn: str, owner: str) -> str:
        return hmac.new(self._sessions, f"{drawn}\n{owner}".encode(), hashlib.sha256).hexdigest()[:32]

    # ── webhooks ─────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def webhook_secret(self) -> str:
        """What the receivers of webhooks verify with; it opens nothing else."""
        return self._webhooks.hex()

    def webhook(self, body: bytes, at: float | None = None) -> str:
        """The value of `Darkroom-Signature` for this body."""
        stamp = int(time.time() if at is None else at)
        return f"t={stamp},v1={_webhook_digest(self.webhook_secret, stamp, body)}"


def verify_webhook(secret: str, header: str, body: bytes, tolerance: float = TOLERANCE) -> bool:
    """The receiver's side: is this body ours, and not older than `tolerance` seconds?"""
    parts = dict(part.split("=", 1) for part in header.split(",") if "=" in part)
    stamp = parts.get("t", "")
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) < 16):
        return False
    right = _webhook_digest(secret, int(stamp), body)
    return (
        hmac.compare_digest(right.encode(), parts.get("v1", "").encode())
        and abs(time.time() - int(stamp)) <= tolerance
    )


def _webhook_digest(secret: str, stamp: int, body: bytes) -> str:
    return hmac.new(secret.encode(), b"%d.%b" % (stamp, body), hashlib.sha256).hexdigest()


def _derive(secret: bytes, purpose: bytes) -> bytes:
    return hmac.new(secret, purpose, hashlib.sha256).digest()


def _kept(path: Path) -> bytes:
    """The secret in `path`; made there, readable by its owner only, if there is none."""
    try:
        kept = path.read_bytes().strip()
    except FileNotFoundError:
        kept = _draw(path)
    if len(kept) < SHORTEST_SECRET:
        raise StartRefused(
            f"{path} is damaged. Remove it and a new secret is drawn; links that were given out end then."
        )
    return kept


def _draw(path: Path) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    # written whole under another name (mkstemp makes it 0600), then linked: of two that start together one is first
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".secret-")
    draft = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_hex(32).encode())
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(draft, path)
        return path.read_bytes().strip()
    finally:
        draft.unlink()
