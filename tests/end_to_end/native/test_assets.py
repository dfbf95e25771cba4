"""Pictures that are kept: used by id, linked, listed, deleted."""

from __future__ import annotations

import time
from typing import Any

import httpx

from tests.end_to_end.native.asking import dot, opened


def test_an_asset_is_used_by_its_id_and_deleted(ann: httpx.Client, photo: bytes, mask: bytes) -> None:
    uploaded = ann.post("/v1/assets", content=photo, headers={"content-type": "image/jpeg"})
    assert uploaded.status_code == 201
    asset = uploaded.json()
    assert uploaded.headers["location"] == asset["url"]
    assert (asset["width"], asset["height"]) == opened(photo).size
    assert (asset["kind"], asset["bytes"], asset["media_type"]) == ("input", len(photo), "image/jpeg")
    read = ann.get(asset["url"])
    assert (read.content, read.headers["etag"]) == (photo, f'"{asset["sha256"]}"')
    ref = f"asset:{asset['id']}"
    assert ann.post("/v1/remove-background", json={"image": ref}).status_code == 200
    assert ann.post("/v1/cleanup", data={"image": ref}, files={"mask": mask}).status_code == 200
    assert ann.get(asset["url"]).content == photo, "a call that used it leaves it"
    assert ann.delete(asset["url"]).status_code == 204
    assert ann.get(asset["url"]).status_code == 404
    refused = ann.post("/v1/remove-background", json={"image": ref})
    assert (refused.status_code, refused.json()["field"]) == (422, "image")


def test_another_key_cannot_read_use_link_or_delete_an_asset_but_an_admin_can(
    ann: httpx.Client, ben: httpx.Client, admin: httpx.Client
) -> None:
    asset = ann.post("/v1/assets", files={"file": dot()}).json()
    assert ben.get(asset["url"]).status_code == 404
    assert ben.delete(asset["url"]).status_code == 404
    assert ben.post(f"{asset['url']}/link").status_code == 404
    assert ben.post("/v1/remove-background", json={"image": f"asset:{asset['id']}"}).status_code == 422
    assert asset["id"] not in {one["id"] for one in ben.get("/v1/assets?limit=200").json()["assets"]}
    assert admin.get(asset["url"]).status_code == 200
    assert admin.delete(asset["url"]).status_code == 204


def test_a_signed_link_works_without_a_key_until_it_expires(native: Any, ann: httpx.Client) -> None:
    asset = ann.post("/v1/assets", files={"file": dot()}).json()
    link = ann.post(f"{asset['url']}/link?seconds=2").json()
    with httpx.Client(base_url=native.url) as anyone:
        assert anyone.get(link["url"]).content == dot()
        assert anyone.get(asset["url"]).status_code == 401
        assert anyone.get(link["url"].replace("signature=", "signature=0")).status_code == 403
        other = ann.post("/v1/assets", files={"file": dot()}).json()
        assert anyone.get(link["url"].replace(asset["id"], other["id"])).status_code == 403
        for unsigned in (link["url"], f"{asset['url']}?signature=x"):
            assert anyone.delete(unsigned).status_code == 401, "a link opens a picture for reading only"
            assert anyone.post(unsigned.replace("?", "/link?")).status_code == 401
        assert anyone.get("/v1/assets?signature=x").status_code == 401
        time.sleep(2.1)
        assert anyone.get(link["url"]).status_code == 403


def test_assets_are_listed_by_pages_newest_first(ben: httpx.Client) -> None:
    made = [ben.post("/v1/assets", files={"file": dot()}).json()["id"] for _ in range(5)]
    found, before = [], None
    while True:
        page = ben.get("/v1/assets", params={"limit": 2, **({"before": before} if before else {})}).json()
        found += [one["id"] for one in page["assets"]]
        if (before := page["next"]) is None:
            break
    assert found[:5] == made[::-1]
    assert len(set(found)) == len(found)
