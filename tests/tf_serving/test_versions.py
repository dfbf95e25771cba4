"""Version folders come and go while the server serves; what is damaged is refused, and what was served stays."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.tf_serving.running import NETS, SIDE, Running, asked, colour_of, in_threads, png, put_version
from tf_serving.stubs import GetModelStatusRequest, ModelSpec, ReloadConfigRequest

RED = png((255, 0, 0))
SWAPPED, SAME = (255, 255, 64), (255, 0, 0)
Start = Callable[..., Running]


@pytest.fixture
def models(tmp_path: Path) -> Path:
    put_version(tmp_path / "toy" / "1", "swap")
    return tmp_path / "toy"


def served(start: Start, models: Path, *more: str) -> Running:
    return start(
        "--model_name=toy", f"--model_base_path={models}", "--file_system_poll_wait_seconds=0.1", *more
    )


def made(server: Running, **spec: Any) -> tuple[int, ...]:
    return colour_of(server.predict(asked(RED, **spec)).outputs["image_bytes"].string_val[0])


def test_a_new_version_takes_over_and_the_old_is_dropped(start: Start, models: Path) -> None:
    server = served(start, models)
    assert made(server) == SWAPPED
    put_version(models / "2", "same")
    server.wait_for_state(2, "AVAILABLE")
    server.wait_for_state(1, "END")
    assert made(server) == SAME
    assert server.refused(asked(RED, version=1)) == (
        "NOT_FOUND",
        "Servable not found for request: Specific(toy, 1)",
    )


def test_a_version_that_is_taken_away_gives_way_to_the_one_before(start: Start, models: Path) -> None:
    put_version(models / "2", "same")
    server = served(start, models)
    assert made(server) == SAME
    shutil.rmtree(models / "2")
    server.wait_for_state(1, "AVAILABLE")
    assert made(server) == SWAPPED


def test_a_base_path_that_goes_away_takes_nothing_with_it(start: Start, models: Path) -> None:
    server = served(start, models)
    models.rename(models.with_name("elsewhere"))
    server.wait_for(lambda: "Could not find base path" in server.log)
    assert made(server) == SWAPPED


DAMAGES: dict[str, Callable[[Path], object]] = {
    "nothing-in-it": lambda new: [path.unlink() for path in new.iterdir()],
    "no-model-json": lambda new: (new / "model.json").unlink(),
    "json-cut-short": lambda new: (new / "model.json").write_text('{"side": 1'),
    "net-cut-short": lambda new: (new / "model.tflite").write_bytes(
        (new / "model.tflite").read_bytes()[:700]
    ),
    "net-of-zeros": lambda new: (new / "model.tflite").write_bytes(bytes(1200)),
    "net-of-another-side": lambda new: (new / "model.json").write_text('{"side": 999, "pictures": 1}'),
    "from-the-future": lambda new: (new / "model.json").write_text('{"side": 16, "pictures": 2}'),
    "an-empty-saved-model": lambda new: (new / "saved_model.pb").write_bytes(b"junk"),
}


@pytest.mark.parametrize("damage", [name for name in DAMAGES if name != "an-empty-saved-model"])
def test_a_damaged_version_is_refused_and_said_and_the_old_one_serves_on(
    start: Start, models: Path, damage: str
) -> None:
    server = served(start, models)
    new = put_version(models.parent / "new", "same")
    DAMAGES[damage](new)
    new.rename(models / "2")
    status = server.wait_for_state(2, "END")["status"]
    assert status["error_code"] != "OK" and status["error_message"]
    assert status["error_message"] in server.log
    assert made(server) == SWAPPED and server.state(1)["state"] == "AVAILABLE"


def test_a_version_that_is_copied_slowly_is_served_when_it_is_whole(start: Start, models: Path) -> None:
    server = served(start, models)
    whole = (NETS / "same.tflite").read_bytes()
    new = models / "2"
    new.mkdir()
    (new / "model.json").write_text(json.dumps({"side": SIDE, "pictures": 1}))
    (new / "model.tflite").write_bytes(whole[: len(whole) // 2])
    server.wait_for_state(2, "END")
    assert made(server) == SWAPPED
    (new / "model.tflite").write_bytes(whole)
    server.wait_for_state(2, "AVAILABLE")
    assert made(server) == SAME
    assert server.state(2)["status"] == {"error_code": "OK", "error_message": ""}


def test_a_folder_whose_sum_is_told_is_held_to_it(start: Start, models: Path) -> None:
    server = served(start, models)
    put_version(models / "2", "same", files={"model.tflite": {"bytes": 1216, "sha256": "0" * 64}})
    assert "SHA-256" in server.wait_for_state(2, "END")["status"]["error_message"]
    put_version(models / "3", "same", files={"model.tflite": {"bytes": 99}})
    assert "99" in server.wait_for_state(3, "END")["status"]["error_message"]


def test_what_fails_is_not_tried_again_until_it_changes(start: Start, models: Path) -> None:
    server = served(start, models)
    put_version(models / "2", "same", pictures=2)
    server.wait_for_state(2, "END")
    before = server.log.count("Loading servable version {name: toy version: 2}")
    put_version(models / "3", "same")
    server.wait_for_state(3, "AVAILABLE")
    assert server.log.count("Loading servable version {name: toy version: 2}") == before == 1


def test_what_cannot_be_served_from_the_start_is_said_and_waited_for(start: Start, tmp_path: Path) -> None:
    server = served(start, tmp_path / "later")
    assert "did not become available" in server.log
    assert server.refused(asked(RED))[0] == "NOT_FOUND"
    put_version(tmp_path / "later" / "1")
    server.wait_for_state(1, "AVAILABLE")
    assert made(server) == SWAPPED


def test_requests_under_way_when_their_version_is_dropped_are_answered(start: Start, models: Path) -> None:
    server = served(start, models)
    many = asked(*[png((255, 0, 0), (400, 400))] * 30)
    with in_threads(*[lambda: server.predict(many, timeout=60)] * 3) as answers:
        time.sleep(0.2)  # they have begun
        put_version(models / "2", "same")
        server.wait_for_state(2, "AVAILABLE")
    for answer in answers:
        assert not isinstance(answer, grpc.RpcError), answer
        assert len(answer.outputs["image_bytes"].string_val) == 30
    server.wait_for_state(1, "END")


def config(*models: str) -> str:
    return "model_config_list { " + " ".join(f"config {{ {model} }}" for model in models) + " }"


def reload_of(text: str) -> ReloadConfigRequest:
    from google.protobuf import text_format

    request = ReloadConfigRequest()
    text_format.Parse(text, request.config)
    return request


def entry(name: str, folder: Path, more: str = "") -> str:
    return f'name: "{name}" base_path: "{folder}" model_platform: "tensorflow" {more}'


ALL = "model_version_policy { all {} }"


def label(name: str, number: int) -> str:
    return f'version_labels {{ key: "{name}" value: {number} }}'


def test_a_reload_adds_and_drops_models_and_moves_labels(start: Start, models: Path, tmp_path: Path) -> None:
    put_version(models / "2", "same")
    put_version(tmp_path / "other" / "5", "same")
    server = served(start, models)
    reload = server.models.HandleReloadConfigRequest
    reload(reload_of(config(entry("toy", models, ALL), entry("other", tmp_path / "other"))), timeout=20)
    assert made(server, model="other") == SAME and made(server, version=1) == SWAPPED
    reload(reload_of(config(entry("toy", models, ALL + label("stable", 1)))), timeout=20)
    assert made(server, label="stable") == SWAPPED
    assert server.refused(asked(RED, model="other"))[0] == "NOT_FOUND"
    server.wait_for_state(5, "END", "other")
    reload(reload_of(config(entry("toy", models, ALL + label("stable", 2) + label("canary", 1)))), timeout=20)
    assert made(server, label="stable") == SAME and made(server, label="canary") == SWAPPED


def test_policies_choose_versions(start: Start, models: Path) -> None:
    put_version(models / "2", "same")
    put_version(models / "3", "same")
    server = served(start, models)
    reload = server.models.HandleReloadConfigRequest

    def available() -> list[int]:
        request = GetModelStatusRequest(model_spec=ModelSpec(name="toy"))
        found = server.models.GetModelStatus(request, timeout=10).model_version_status
        return [int(one.version) for one in found if one.state == 30]

    assert available() == [3]
    reload(
        reload_of(config(entry("toy", models, "model_version_policy { latest { num_versions: 2 } }"))),
        timeout=20,
    )
    server.wait_for(lambda: available() == [3, 2])
    reload(
        reload_of(config(entry("toy", models, "model_version_policy { specific { versions: 1 } }"))),
        timeout=20,
    )
    server.wait_for(lambda: available() == [1])
    reload(reload_of(config(entry("toy", models, ALL))), timeout=20)
    server.wait_for(lambda: available() == [3, 2, 1])


REFUSALS = {
    "twice": (
        lambda models: config(entry("toy", models), entry("toy", models)),
        "INVALID_ARGUMENT",
        "Illegal to list model toy multiple times in config list",
    ),
    "relative": (
        lambda _: config(entry("toy", Path("models"))),
        "INVALID_ARGUMENT",
        "Expected model toy to have an absolute path or URI; got base_path()=models",
    ),
    "no-platform": (
        lambda models: config(f'name: "toy" base_path: "{models}"'),
        "INVALID_ARGUMENT",
        "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform.",
    ),
    "other-platform": (
        lambda models: config(f'name: "toy" base_path: "{models}" model_platform: "caffe"'),
        "INVALID_ARGUMENT",
        "Model toy requests unsupported platform caffe",
    ),
    "label-for-nothing": (
        lambda models: config(entry("toy", models, label("stable", 9))),
        "FAILED_PRECONDITION",
        "Request to assign label to version 9 of model toy, which is not currently available for inference",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_reload_that_is_refused_changes_nothing(toy: Running, tmp_path: Path, case: str) -> None:
    text, code, words = REFUSALS[case]
    put_version(tmp_path / "toy" / "1")
    assert toy.refused(reload_of(text(tmp_path / "toy")), "HandleReloadConfigRequest") == (code, words)
    assert made(toy) == SAME and made(toy, label="stable") == SWAPPED


def test_a_new_model_that_cannot_be_served_is_told_by_the_reload(
    start: Start, models: Path, tmp_path: Path
) -> None:
    server = served(start, models)
    request = reload_of(config(entry("toy", models), entry("ghost", tmp_path / "ghost")))
    code, words = server.refused(request, "HandleReloadConfigRequest")
    assert code == "UNKNOWN" and "1 model(s) did not become available" in words and "ghost" in words
    assert made(server) == SWAPPED


def test_a_configuration_file_that_changes_is_read_again(start: Start, models: Path, tmp_path: Path) -> None:
    put_version(models / "2", "same")
    path = tmp_path / "models.config"
    path.write_text(config(entry("toy", models, ALL + label("stable", 1))))
    server = start(
        f"--model_config_file={path}",
        "--model_config_file_poll_wait_seconds=0.1",
        "--allow_version_labels_for_unavailable_models",
    )
    assert made(server, label="stable") == SWAPPED
    path.write_text("model_config_list {")
    server.wait_for(lambda: "Invalid protobuf file" in server.log)
    assert made(server, label="stable") == SWAPPED
    path.write_text(config(entry("toy", models, ALL + label("stable", 2))))
    server.wait_for(lambda: made(server, label="stable") == SAME)


def test_a_label_that_moves_waits_until_its_version_is_served(
    start: Start, models: Path, tmp_path: Path
) -> None:
    path = tmp_path / "models.config"
    path.write_text(config(entry("toy", models, ALL + label("stable", 1))))
    server = start(
        f"--model_config_file={path}",
        "--model_config_file_poll_wait_seconds=0.1",
        "--file_system_poll_wait_seconds=0.1",
        "--allow_version_labels_for_unavailable_models",
    )
    path.write_text(config(entry("toy", models, ALL + label("stable", 2))))
    server.wait_for(lambda: "which is not currently available for inference" in server.log)
    assert made(server, label="stable") == SWAPPED
    put_version(models / "2", "same")
    server.wait_for(lambda: made(server, label="stable") == SAME)


def test_labels_at_the_start_need_the_flag(models: Path, tmp_path: Path) -> None:
    path = tmp_path / "models.config"
    path.write_text(config(entry("toy", models, label("stable", 1))))
    with pytest.raises(AssertionError, match="Request to assign label to version 1 of model toy"):
        Running(f"--model_config_file={path}", tmp=tmp_path)
