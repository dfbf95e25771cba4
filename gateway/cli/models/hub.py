"""The hub's HTTP interface, or a mirror's: in goes a repository and a commit, out come its files and their bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import quote

import httpx

from gateway.cli.console import Stop
from services.models import ModelEntry
from services.models_disk import Manifest, ManifestFile, safe

TIMEOUT = httpx.Timeout(30.0, connect=15.0)


class Interrupted(Exception):
    """The connection broke or the hub was busy: trying again helps."""


class Hub:
    def __init__(self, address: str, token: str = "") -> None:
        headers = {"user-agent": "darkroom"} | ({"authorization": f"Bearer {token}"} if token else {})
        self.address, self._has_token = address, bool(token)
        # a redirect to another host does not get the token: httpx sees to it
        self._http = httpx.AsyncClient(headers=headers, timeout=TIMEOUT, follow_redirects=True)

    async def __aenter__(self) -> Hub:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def manifest(self, entry: ModelEntry, revision: str) -> Manifest:
        """The files of an entry at a commit, or at the newest where `revision` is empty; it says which that is."""
        path = f"/api/models/{entry.source}/revision/{quote(revision or 'main', safe='')}"
        try:
            answer = await self._http.get(self.address + path, params={"blobs": "true"})
        except httpx.TransportError as error:
            raise Stop(self._unreachable(error)) from error
        self._check(answer, entry)
        try:
            told: dict[str, Any] = answer.json()
            commit = str(told["sha"])
            listed = [_file(sibling) for sibling in told["siblings"]]
        except (ValueError, KeyError, TypeError) as error:
            raise Stop(f"{self.address} answered {path} with something that is no hub's answer.") from error
        if revision and commit != revision:
            raise Stop(f"{self.address} gives commit {commit} of {entry.source} where {revision} is pinned.")
        return Manifest(entry.source, commit, _chosen(entry, listed))

    @asynccontextmanager
    async def bytes(
        self, entry: ModelEntry, commit: str, path: str, start: int
    ) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
        """A file's bytes from `start`, or from wherever the answer begins."""
        url = f"{self.address}/{entry.source}/resolve/{commit}/{quote(path)}"
        headers = {"accept-encoding": "identity"} | ({"range": f"bytes={start}-"} if start else {})
        try:
            async with self._http.stream("GET", url, headers=headers) as answer:
                if answer.status_code >= 500 or answer.status_code == 429:
                    raise Interrupted(f"{self.address} answered {answer.status_code}")
                if answer.status_code == 416:
                    yield 0, _nothing()
                    return
                self._check(answer, entry)
                yield (start if answer.status_code == 206 else 0), answer.aiter_bytes()
        except httpx.TransportError as error:
            raise Interrupted(self._unreachable(error)) from error

    def _check(self, answer: httpx.Response, entry: ModelEntry) -> None:
        """A sentence for whatever is not an answer."""
        if answer.is_success:
            return
        page = f"{self.address}/{entry.source}"
        code = answer.headers.get("x-error-code", "")
        if answer.status_code in (401, 403) or code == "GatedRepo":
            if not self._has_token:
                how = "then set HF_TOKEN (or DARKROOM_HUB_TOKEN) to a token of that account"
            else:
                how = "with the account of your token (HF_TOKEN)"
            raise Stop(f"{entry.name} is not given to everybody: accept its terms at {page}, {how}.")
        if answer.status_code == 404:
            raise Stop(
                f"{page} has no such repository, commit or file. Where a mirror is set (DARKROOM_HUB, HF_ENDPOINT), "
                "it may lack the model."
            )
        raise Stop(f"{self.address} answered {answer.status_code} for {entry.source}. Try again later.")

    def _unreachable(self, error: Exception) -> str:
        reason = str(error) or type(error).__name__
        return f"{self.address} cannot be reached: {reason}. DARKROOM_HUB or HF_ENDPOINT names another."


async def _nothing() -> AsyncIterator[bytes]:
    nothing: tuple[bytes, ...] = ()
    for piece in nothing:
        yield piece


def _file(sibling: dict[str, Any]) -> ManifestFile:
    large = sibling.get("lfs") or {}
    return ManifestFile(
        path=str(sibling["rfilename"]),
        size=int(large.get("size") or sibling.get("size") or 0),
        sha256=str(large.get("sha256") or ""),
        git="" if large else str(sibling.get("blobId") or ""),
    )


def _chosen(entry: ModelEntry, listed: list[ManifestFile]) -> list[ManifestFile]:
    """The files that the catalogue wants, with its own checksums where it has them."""
    pinned = {file.path: file for file in entry.files}
    patterns = [*pinned, *entry.wanted]
    found = []
    for file in listed:
        if not any(_fits(file.path, pattern) for pattern in patterns):
            continue
        safe(file.path)
        mine = pinned.get(file.path)
        if mine is not None and file.sha256 and file.sha256 != mine.sha256:
            raise Stop(
                f"{entry.source} has another {file.path} than the catalogue pins; nothing was fetched."
            )
        found.append(file if mine is None else ManifestFile(file.path, file.size, sha256=mine.sha256))
    for pattern in patterns:
        if "*" not in pattern and not any(file.path == pattern for file in found):
            raise Stop(f"{entry.source} has no file {pattern}, which {entry.name} needs.")
    return found


def _fits(path: str, pattern: str) -> bool:
    """As a shell does it: a star stays within its folder."""
    parts, patterns = path.split("/"), pattern.split("/")
    return len(parts) == len(patterns) and all(map(fnmatchcase, parts, patterns))
