"""The configuration files for the official image and for this server: read with the real protos, refused with
its words."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

import tf_serving
from tf_serving.serving import configuration, folders
from tf_serving.serving.flags import Flags, parse
from tf_serving.serving.status import Refused

CONFIG = Path(tf_serving.__file__).parent / "config"


@pytest.mark.parametrize("name", ["models.config", "embedded.config"])
def test_the_models_have_the_labels_stable_and_canary(name: str) -> None:
    models = configuration.read_models(CONFIG / name).model_config_list
    configuration.check_models(models)
    for model in models.config:
        assert set(model.version_labels) == {"stable", "canary"}
        assert model.model_platform == "tensorflow"


@pytest.mark.parametrize("name", ["models.config", "embedded.config"])
def test_every_label_names_a_version_that_the_policy_serves(name: str) -> None:
    for model in configuration.read_models(CONFIG / name).model_config_list.config:
        policy = model.model_version_policy
        if policy.WhichOneof("policy_choice") == "specific":
            assert set(model.version_labels.values()) <= set(policy.specific.versions)


def test_the_embedded_model_is_in_the_repository() -> None:
    (model,) = configuration.read_models(CONFIG / "embedded.config").model_config_list.config
    assert set(model.version_labels.values()) <= set(folders.versions(model))


def test_batching_and_monitoring_are_read() -> None:
    parameters = configuration.read_batching(CONFIG / "batching.config", cores=3)
    assert parameters.max_batch_size == 8 and parameters.num_batch_threads == 3
    assert configuration.metrics_path(CONFIG / "monitoring.config") == "/monitoring/prometheus/metrics"


def test_without_parameters_they_are_shared_batch_schedulers() -> None:
    found = configuration.read_batching(None, cores=2)
    assert (found.max_batch_size, found.batch_timeout_micros, found.max_enqueued_batches) == (1000, 0, 10)
    assert configuration.metrics_path(None) is None


@pytest.mark.slow
@pytest.mark.skipif(find_spec("tensorflow_serving") is None, reason="tensorflow-serving-api is not installed")
def test_the_real_protos_read_the_same_models() -> None:
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    text = (CONFIG / "models.config").read_text()
    theirs = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    ours = configuration.read_models(CONFIG / "models.config")
    assert theirs.SerializeToString(deterministic=True) == ours.SerializeToString(deterministic=True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("max_batch_size { value: 0 }", "must be at least 1"),
        ("batch_timeout_micros { value: -1 }", "batch_timeout_micros must be non-negative; was -1"),
        ("max_batch_size { value: 4 } allowed_batch_sizes: 2", "the last must be max_batch_size"),
        ("max_batch_size { value: 4 } allowed_batch_sizes: 4 allowed_batch_sizes: 2", "must increase"),
        ("pad_variable_length_inputs: true", "leave it out"),
        ("max_batch_size 3", "Invalid protobuf file"),
        ("no_such_field { }", "Invalid protobuf file"),
    ],
)
def test_parameters_that_cannot_be_are_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "batching.config").write_text(text)
    with pytest.raises(Refused, match=words):
        configuration.read_batching(tmp_path / "batching.config", cores=2)


def test_flags_are_written_as_tensorflow_model_servers() -> None:
    flags = parse(
        [
            "--port=1",
            "--rest_api_port",
            "2",
            "--model_base_path=/m",
            "--enable_batching",
            "--end_with_parent=false",
        ]
    )
    assert (flags.port, flags.rest_api_port, flags.enable_batching, flags.end_with_parent) == (
        1,
        2,
        True,
        False,
    )
    assert flags.model_name == "default" and Flags().port == 8500


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Say what to serve"),
        (["--model_base_path=/m", "--batching_parameters_file=/b"], "without --enable_batching"),
        (["--model_base_path=/m", "--port=5", "--rest_api_port=5"], "cannot be the same"),
        (["--model_base_path=/m", "--enable_batching=perhaps"], "neither true nor false"),
        (["--model_base=/m"], "unrecognized"),
    ],
)
def test_flags_that_cannot_be_are_refused(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse(arguments)
    assert words in capsys.readouterr().err
