"""Behind a proxy that shows the gateway under a path: every link that it gives can be followed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.anyio
ROOT = "/darkroom"


@pytest.mark.parametrize(
    "stripped", [False, True], ids=["path kept by the proxy", "path stripped by the proxy"]
)
async def test_every_link_leads_somewhere(launch: Any, tmp_path: Path, png: bytes, stripped: bool) -> None:
    gateway = launch("gateway", root_path=ROOT, public_url="https://pictures.example.org")

    async def follow(client: httpx.AsyncClient, link: str) -> httpx.Response:
        assert link.startswith(ROOT + "/")
        return await client.get(link.removeprefix(ROOT) if stripped else link)

    async with httpx.AsyncClient(base_url=gateway.url, timeout=20) as client:
        prefix = "" if stripped else ROOT
        made = await client.post(f"{prefix}/v1/assets", content=png, headers={"content-type": "image/png"})
        assert made.status_code == 201
        for link in (made.headers["location"], made.json()["url"]):
            assert (await follow(client, link)).content == png
        listed = (await client.get(f"{prefix}/v1/assets")).json()["assets"]
        assert (await follow(client, listed[0]["url"])).status_code == 200
        signed = (await client.post(f"{prefix}/v1/assets/{made.json()['id']}/link")).json()["url"]
        assert signed.startswith(f"https://pictures.example.org{ROOT}/v1/assets/")
        assert (await follow(client, signed.removeprefix("https://pictures.example.org"))).content == png
        page = (await client.get(f"{prefix}/")).text
        assert f'href="{ROOT}/docs"' in page
        assert (await follow(client, f"{ROOT}/pages/darkroom.js")).status_code == 200
        operations = (await client.get(f"{prefix}/v1/operations")).json()["operations"]
        assert all(operation["url"].startswith(ROOT) for operation in operations)
