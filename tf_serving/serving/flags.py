"""The flags of `python -m tf_serving.server`, named as tensorflow_model_server's; those that it does not have
say so."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """What `parse` reads, and what whoever starts a server in a program gives."""

    port: int = 8500
    rest_api_port: int = -1  # -1: no REST; 0 takes a free port
    host: str = "127.0.0.1"
    model_config_file: Path | None = None
    model_config_file_poll_wait_seconds: float = 0
    model_name: str = "default"
    model_base_path: str = ""
    allow_version_labels_for_unavailable_models: bool = False
    file_system_poll_wait_seconds: float = 1
    enable_batching: bool = False
    batching_parameters_file: Path | None = None
    monitoring_config_file: Path | None = None
    rest_api_timeout_in_ms: int = 30_000
    grpc_timeout_in_ms: int = 60_000
    grpc_channel_arguments: str = ""
    tensorflow_intra_op_parallelism: int = 0
    max_message_bytes: int = 64 * 2**20
    max_pixels: int = 50_000_000
    max_requests: int = 256
    drain_seconds: float = 10
    end_with_parent: bool = False


_HELP = {
    "port": "where gRPC listens; 0 takes a free port",
    "rest_api_port": "where REST listens; 0 takes a free port, without the flag there is no REST",
    "host": "the address that both listen on (not a flag of tensorflow_model_server, which takes all)",
    "model_config_file": "a ModelServerConfig as text: several models, version policies, labels; instead of --model_*",
    "model_config_file_poll_wait_seconds": "how often that file is read again; 0 is never",
    "model_name": "the name of the one model of --model_base_path",
    "model_base_path": "the folder with one model's version folders",
    "allow_version_labels_for_unavailable_models": "a label may name a version that is not yet served, as at the start",
    "file_system_poll_wait_seconds": "how often version folders are looked for; 0 is once, at the start",
    "enable_batching": "run requests that come together together",
    "batching_parameters_file": "BatchingParameters as text; needs --enable_batching",
    "monitoring_config_file": "a MonitoringConfig as text: whether and where metrics are shown",
    "rest_api_timeout_in_ms": "a REST request's deadline",
    "grpc_timeout_in_ms": "a gRPC request's deadline where its own is later or none (ours)",
    "grpc_channel_arguments": "name=value, divided by commas, for gRPC's server",
    "tensorflow_intra_op_parallelism": "threads of one run; 0 is one of LiteRT, and TensorFlow's choice",
    "max_message_bytes": "bytes of one request (ours; tensorflow_model_server takes 2 GiB)",
    "max_pixels": "pixels of one picture (ours)",
    "max_requests": "requests that are answered at the same time; more get UNAVAILABLE (ours)",
    "drain_seconds": "what is under way may take so long after SIGTERM (ours)",
    "end_with_parent": "end when the process that started this one does (ours)",
}


def parse(arguments: Sequence[str] | None = None) -> Flags:
    parser = argparse.ArgumentParser(
        prog="python -m tf_serving.server",
        usage="%(prog)s --model_config_file=FILE | --model_name=NAME --model_base_path=FOLDER [flags]",
        description="Serve Pix2Pix models over TensorFlow Serving's gRPC and REST, where TensorFlow Serving is not: "
        "model.tflite on LiteRT, SavedModels where TensorFlow is installed.",
        epilog="Try: python -m tf_serving.server --rest_api_port=8501 --model_name=creatures "
        "--model_base_path=tf_serving/models/creatures",
        allow_abbrev=False,
    )
    usual = Flags()
    for one in fields(Flags):
        kind, metavar = _KINDS[str(one.type)]
        default = getattr(usual, one.name)
        bare: dict[str, Any] = {"nargs": "?", "const": True} if kind is _truth else {}
        parser.add_argument(
            f"--{one.name}",
            default=default,
            help=_HELP[one.name] + _default(default),
            metavar=metavar,
            type=kind,
            **bare,
        )
    flags = Flags(**vars(parser.parse_args(arguments)))
    if problem := wrong(flags):
        parser.error(problem)
    return flags


def wrong(flags: Flags) -> str:
    """What cannot be, in a sentence; empty where all is well."""
    if not flags.model_base_path and flags.model_config_file is None:
        return "Say what to serve: --model_config_file=FILE, or --model_name=NAME --model_base_path=FOLDER."
    if flags.batching_parameters_file and not flags.enable_batching:
        return "--batching_parameters_file is set without --enable_batching."
    if flags.port == flags.rest_api_port != 0:
        return "--rest_api_port cannot be the same as --port."
    return ""


def _default(value: object) -> str:
    if value in (None, "", -1) or value is False:
        return ""
    return f" (default {value})"


def cores() -> int:
    """The processor's cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _truth(text: str) -> bool:
    if text.lower() in ("true", "1", "yes"):
        return True
    if text.lower() in ("false", "0", "no"):
        return False
    raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")


# how a flag is read, by its field's type, and what stands for its value in the help
_KINDS: dict[str, tuple[Callable[[str], object], str]] = {
    "int": (int, "N"),
    "float": (float, "SECONDS"),
    "str": (str, "TEXT"),
    "bool": (_truth, "true"),
    "Path | None": (Path, "FILE"),
}
