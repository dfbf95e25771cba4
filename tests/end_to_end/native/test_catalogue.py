"""What can be asked, health, metrics and pages; and how a caller of a foreign door is known."""

from __future__ import annotations

from typing import Any

import httpx

from tests.end_to_end.native.asking import ADMIN, dot, ended, stamp, until


def test_the_catalogue_says_what_can_be_asked_and_why_not(ann: httpx.Client) -> None:
    document = ann.get("/v1/operations").json()
    listed = {one["name"]: one for one in document["operations"]}
    assert len(listed) == 11  # the ten, and the toy
    assert listed["cleanup"]["available"]
    assert listed["cleanup"]["reason"] is None
    assert listed["cleanup"]["pictures"] == {"image": "picture", "mask": "mask"}
    assert document["limits"]["max_pixels"] == 50_000_000
    for one in listed.values():
        assert one["available"] == (one["service"] in ("cleanup", "rmbg", "toy"))
        if not one["available"]:
            assert one["service"] in one["reason"]
            answer = ann.post(
                one["url"], json={"prompt": "x"} if "prompt" in one["params"]["properties"] else {}
            )
            assert answer.status_code in (422, 503)
    answer = ann.post("/v1/text-to-image", json={"prompt": "a red circle"})
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:darkroom:problem:not-configured")
    job = ann.post("/v1/jobs", json={"operation": "text-to-image", "params": {"prompt": "a red circle"}})
    assert job.status_code == 503


def test_models_are_listed_as_openais_clients_read_them(ann: httpx.Client) -> None:
    document = ann.get("/v1/models").json()
    assert document["object"] == "list"
    models = {one["id"]: one for one in document["data"]}
    assert {"telea", "navier-stokes"} <= models.keys()
    assert models["telea"]["service"] == "cleanup"
    assert models["telea"]["loaded"] is True
    assert all(one["object"] == "model" and one["owned_by"] for one in models.values())


def test_a_model_is_chosen_by_name_and_an_unknown_one_refused(
    ann: httpx.Client, photo: bytes, mask: bytes
) -> None:
    files = {"image": photo, "mask": mask}
    for model in ("telea", "navier-stokes"):
        answer = ann.post("/v1/cleanup", files=files, data={"model": model})
        assert answer.headers["x-darkroom-model"] == model
    refused = ann.post("/v1/cleanup", files=files, data={"model": "nothing"})
    assert (refused.status_code, refused.json()["type"]) == (422, "urn:darkroom:problem:unknown-model")


def test_health_needs_no_key_and_tells_of_every_service(native: Any) -> None:
    with httpx.Client(base_url=native.url) as anyone:
        assert anyone.get("/healthz").json() == {"status": "alive"}
        ready = anyone.get("/readyz")
        assert ready.status_code == 200
        assert ready.json()["services"].keys() >= {"cleanup", "rmbg", "toy"}
        assert ready.json()["reasons"] == []
        assert anyone.get("/v1/operations").status_code == 401


def test_metrics_count_what_was_done(ann: httpx.Client, admin: httpx.Client) -> None:
    ann.post("/v1/remove-background", files={"image": dot()})
    ended(ann, stamp(ann).json())
    text = admin.get("/metrics").text
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert any(
        'operation="remove-background"' in line and line.startswith("darkroom_requests") for line in lines
    )
    assert any(line.startswith("darkroom_pictures") for line in lines)
    assert any("queue" in line and 'service="toy"' in line for line in lines)
    assert not [line for line in lines if ADMIN in line or "ast_" in line or "job_1" in line], (
        "labels are bounded"
    )


def test_a_request_id_comes_back_and_is_in_the_log(native: Any, ann: httpx.Client) -> None:
    answer = ann.post(
        "/v1/remove-background", files={"image": dot()}, headers={"x-request-id": "find-me-1234"}
    )
    assert answer.headers["x-request-id"] == "find-me-1234"
    until(lambda: '"find-me-1234"' in (native.data / "logs" / "gateway.log").read_text())
    assert ADMIN not in (native.data / "logs" / "gateway.log").read_text()


def test_the_pages_are_whole(native: Any) -> None:
    with httpx.Client(base_url=native.url) as anyone:
        page = anyone.get("/")
        assert page.headers["content-type"].startswith("text/html")
        assert "default-src 'self'" in page.headers["content-security-policy"]
        for name in ("cleanup", "remove-background", "text-to-image", "stamp"):
            assert f'id="{name}"' in page.text
        docs = anyone.get("/docs")
        assert docs.status_code == 200
        for text in (page.text, docs.text):
            for address in {part.split('"')[0] for part in text.split('src="')[1:]} | {
                part.split('"')[0] for part in text.split('href="')[1:]
            }:
                if address.startswith("/"):
                    assert anyone.get(address).status_code == 200, address
                else:
                    assert not address.startswith("http"), "a page loads nothing from elsewhere"


def test_a_foreign_door_knows_the_key_however_its_client_sends_it(
    native: Any, ann: httpx.Client, photo: bytes
) -> None:
    key = ann.headers["authorization"].removeprefix("Bearer ")
    files = {"file": ("a.jpg", photo)}
    for headers, auth in (
        ({"authorization": f"Bearer {key}"}, None),
        ({"x-api-key": key}, None),
        ({}, httpx.BasicAuth("anybody", key)),
    ):
        answer = httpx.post(f"{native.url}/api/remove", files=files, headers=headers, auth=auth, timeout=60)
        assert answer.status_code == 200, answer.text
    for auth in (None, httpx.BasicAuth("anybody", "wrong")):
        refused = httpx.post(f"{native.url}/api/remove", files=files, auth=auth)
        assert (refused.status_code, list(refused.json())) == (401, ["detail"])
