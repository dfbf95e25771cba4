"""The configuration files of tensorflow_model_server: text protos in, checked messages out.

The texts of refusals are those of tensorflow_serving/model_servers/server.cc and server_core.cc.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

from google.protobuf import text_format
from google.protobuf.message import Message

from tf_serving.serving.batching import Parameters
from tf_serving.serving.status import Code, Refused, invalid
from tf_serving.stubs import BatchingParameters, ModelConfigList, ModelServerConfig, MonitoringConfig

PLATFORM = "tensorflow"
METRICS_PATH = "/monitoring/prometheus/metrics"
_M = TypeVar("_M", bound=Message)


def read(path: Path, message: _M) -> _M:
    try:
        text_format.Parse(path.read_text(encoding="utf-8"), message)
    except OSError as error:
        raise Refused(Code.NOT_FOUND, f"{path}: {error.strerror or error}") from error
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise invalid(f"Invalid protobuf file: '{path}' ({error})") from error
    return message


def read_models(path: Path) -> ModelServerConfig:
    """A model's relative base_path counts from the folder of the file that names it."""
    config = read(path, ModelServerConfig())
    if config.WhichOneof("config") == "custom_model_config":
        raise invalid("ModelServer does not yet support custom model config.")
    for model in config.model_config_list.config:
        model.base_path = os.path.abspath(path.parent / os.path.expandvars(model.base_path))  # noqa: PTH100 - no link is followed
    return config


def one_model(name: str, base_path: str) -> ModelServerConfig:
    config = ModelServerConfig()
    config.model_config_list.config.add(
        name=name,
        base_path=os.path.abspath(base_path),  # noqa: PTH100 - no link is followed
        model_platform=PLATFORM,
    )
    return config


def check_models(new: ModelConfigList) -> None:
    """What server_core.cc asks of a list: one name once, absolute paths, a platform that it has."""
    names: set[str] = set()
    for model in new.config:
        if model.name in names:
            raise invalid(f"Illegal to list model {model.name} multiple times in config list")
        names.add(model.name)
        if not Path(model.base_path).is_absolute():
            raise invalid(
                f"Expected model {model.name} to have an absolute path or URI; got base_path()={model.base_path}"
            )
        platform = model.model_platform or (PLATFORM if model.model_type == 1 else "")
        if not platform:
            raise invalid(
                "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
                "ModelServerConfig::model_platform."
            )
        if platform != PLATFORM:
            raise invalid(f"Model {model.name} requests unsupported platform {platform}")


def read_batching(path: Path | None, cores: int) -> Parameters:
    proto = read(path, BatchingParameters()) if path else BatchingParameters()
    usual = Parameters(num_batch_threads=cores)

    def given(name: str) -> int:
        return int(getattr(proto, name).value) if proto.HasField(name) else int(getattr(usual, name))

    sizes = tuple(proto.allowed_batch_sizes)
    found = Parameters(
        given("max_batch_size"),
        given("batch_timeout_micros"),
        given("max_enqueued_batches"),
        given("num_batch_threads"),
        proto.thread_pool_name.value or usual.thread_pool_name,
        sizes,
    )
    if min(found.max_batch_size, found.max_enqueued_batches, found.num_batch_threads) < 1:
        raise invalid(
            "max_batch_size, max_enqueued_batches and num_batch_threads must be at least 1 in the batching parameters."
        )
    if found.batch_timeout_micros < 0:
        raise invalid(f"batch_timeout_micros must be non-negative; was {found.batch_timeout_micros}")
    if sizes and (list(sizes) != sorted(set(sizes)) or sizes[-1] != found.max_batch_size):
        raise invalid(
            "allowed_batch_sizes entries must increase, and the last must be max_batch_size in the batching parameters."
        )
    if proto.pad_variable_length_inputs:
        raise Refused(Code.UNIMPLEMENTED, "This server knows no pad_variable_length_inputs: leave it out.")
    return found


def metrics_path(path: Path | None) -> str | None:
    """Where metrics are shown; None where the configuration enables none."""
    if path is None:
        return None
    prometheus = read(path, MonitoringConfig()).prometheus_config
    return (prometheus.path or METRICS_PATH) if prometheus.enable else None
