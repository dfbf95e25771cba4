"""Work in progress at AUTOMATIC1111's dialect: seen, interrupted, left; and each key's own."""

from __future__ import annotations

import re
import time
from typing import Any

import httpx
import pytest
import webuiapi

from tests.end_to_end.doors.a1111.asking import ASK, Running, opened, red


def test_progress_shows_the_picture_as_it_comes(api: webuiapi.WebUIApi, door: httpx.Client) -> None:
    idle = api.get_progress()
    assert (idle["progress"], idle["state"]["job_count"], idle["current_image"]) == (0, 0, None)
    with Running(api) as running:
        told = running.until(lambda told: told["current_image"] is not None)
        assert 0 < told["progress"] <= 1
        assert told["eta_relative"] > 0
        assert opened(told["current_image"]).width > 0
        assert told["state"]["job"] == "txt2img"
        bare = door.get("/sdapi/v1/progress?skip_current_image=true").json()
        assert bare["current_image"] is None
        api.interrupt()
    assert api.get_progress()["state"]["job_count"] == 0


@pytest.mark.parametrize("stop", ["interrupt", "skip"])
def test_an_interrupt_ends_the_work_and_the_call_has_the_last_preview(
    api: webuiapi.WebUIApi, stop: str
) -> None:
    with Running(api) as running:
        running.until(lambda told: told["current_image"] is not None)
        getattr(api, stop)()
        stopped = time.monotonic()
    assert time.monotonic() - stopped < 5
    assert running.made.image.size == (128, 128)
    assert len(running.made.images) == 1 == len(running.made.info["all_seeds"])
    assert red(api.txt2img(**ASK).image) > 200  # nothing of it is left in the way


def test_a_client_that_hangs_up_stops_its_work(api: webuiapi.WebUIApi, door: httpx.Client) -> None:
    with pytest.raises(httpx.ReadTimeout):
        door.post("/sdapi/v1/txt2img", json=ASK | {"steps": 150, "batch_size": 8}, timeout=1)
    for _ in range(100):
        running = re.findall(r'upstream_in_flight{service="sdxl"} (\S+)', door.get("/metrics").text)
        if api.get_progress()["state"]["job_count"] == 0 and running == ["0.0"]:
            return
        time.sleep(0.05)
    raise AssertionError(running)


def test_an_interrupt_where_nothing_is_done_says_so_with_nothing(api: webuiapi.WebUIApi) -> None:
    assert api.interrupt() == {}
    assert red(api.txt2img(**ASK).image) > 200


def test_a_key_is_the_password_and_sees_its_own_options_and_work_alone(start: Any) -> None:
    admin = "an-admin-key-for-tests-0123456789abcdef"
    stack = start("gateway", "sdxl", admin_key=admin)
    stack.wait(lambda: "Darkroom is ready" in stack.said)
    with httpx.Client(base_url=stack.url, headers={"authorization": f"Bearer {admin}"}) as http:
        secrets = [
            http.post("/v1/admin/keys", json={"name": name}).json()["secret"] for name in ("ann", "ben")
        ]
    ann, ben = (webuiapi.WebUIApi(port=stack.port, username="any", password=secret) for secret in secrets)
    ann.set_options({"samples_format": "webp"})
    assert (ann.get_options()["samples_format"], ben.get_options()["samples_format"]) == ("webp", "png")
    with Running(ann) as running:
        running.until(lambda told: told["current_image"] is not None)
        assert ben.get_progress()["progress"] == 0
        ben.interrupt()
        time.sleep(0.3)
        assert ann.get_progress()["state"]["job_count"] == 1
        ann.interrupt()
    assert running.made.info["all_seeds"] == [7]
    told = httpx.post(f"{stack.url}/sdapi/v1/txt2img", json=ASK, auth=("ann", "no key"))
    assert (told.status_code, told.json()["error"]) == (401, "Unauthorized")
    # the original's way to send a key comes first; any of ours is understood
    assert told.headers["www-authenticate"] == 'Basic realm="Darkroom", charset="UTF-8", Bearer'
