"""Every setting of a service: in come `DARKROOM_*` variables, out goes one typed object.

The limits have the same names and defaults as the gateway's, so that one environment serves both.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError


class FromEnvironment(BaseModel):
    """Settings that read `DARKROOM_NAME` for each of their fields."""

    model_config = ConfigDict(frozen=True)

    @classmethod
    def from_environment(cls) -> Self:
        """A value that does not fit stops the start with its reason."""
        names = {f"DARKROOM_{name.upper()}": name for name in cls.model_fields}
        given = {field: os.environ[name] for name, field in names.items() if os.environ.get(name)}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            faults = "; ".join(f"DARKROOM_{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors())
            raise SystemExit(f"A setting is not valid. {faults}. docs/services.md lists them.") from error


class Limits(FromEnvironment):
    """What a picture and a request may be at most."""

    max_body: int = Field(64 * 2**20, ge=1024, description="Bytes of one request.")
    max_picture_bytes: int = Field(32 * 2**20, ge=1024, description="Bytes of one picture.")
    max_pixels: int = Field(50_000_000, ge=4096, description="Pixels of one picture.")
    max_side: int = Field(16_384, ge=64, description="Pixels of a picture's longer side.")
    max_lora_bytes: int = Field(
        512 * 2**20, ge=1024, description="Bytes of all LoRAs' files of one request, beside max_body."
    )


class ServiceSettings(Limits):
    capacity: int = Field(
        0, ge=0, description="Requests at once in one process; 0: what the service itself says."
    )
    models_path: Path = Field(Path("models"), description="The folder with the models' files.")
    drain_lead: float = Field(
        5.0,
        ge=0,
        description="Seconds from SIGTERM on in which calls are still taken, while readiness says that the end comes; "
        "`darkroom up` sets 0.",
    )
    drain: float = Field(30.0, ge=0, description="Seconds that work in flight may take to finish after that.")
    alive_interval: float = Field(
        4.0, gt=0, le=5, description="Seconds of silence after which `alive` is sent."
    )
    default_timeout: float = Field(
        120.0, gt=0, description="Seconds a request may take that names no time itself."
    )
    threads: int = Field(
        0, ge=0, description="Threads that one request's arithmetic may use; 0: cores / capacity."
    )
    picture_parameters: bool = Field(
        True, description="Whether a generated picture carries its prompt and parameters in its metadata."
    )
    c2pa_key: str = Field("", description="The file of the private key (PEM) that signs generated pictures.")
    c2pa_certificate: str = Field(
        "", description="The file of its certificate and those above it (PEM), the key's own first."
    )
    c2pa_timestamps: str = Field(
        "", description="The address of a time-stamp server (RFC 3161) for signatures; none if absent."
    )
    safety: str = Field(
        "auto",
        pattern="^(auto|on|off)$",
        description="Whether generated pictures pass the safety checker; auto: all but those of micro.",
    )
    log_level: str = Field(
        "info", pattern="^(debug|info|warning|error)$", description="debug, info, warning or error."
    )
    log_format: str = Field(
        "json", pattern="^(json|text)$", description="json for machines, text for people."
    )
    otlp_endpoint: str = Field(
        "", description="An OpenTelemetry collector (OTLP over HTTP) for traces; none if absent."
    )


class DiffusionSettings(FromEnvironment):
    """How the services sdxl and controlnet keep and run their models; `auto` suits itself to what is found."""

    model: str = Field(
        "auto",
        description="The model that is loaded at the start; auto: the one of the highest rank that is on disk.",
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        description="auto, cpu, mps, cuda or cuda:1; auto takes CUDA, then MPS, then the processor.",
    )
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        "auto",
        description="auto, float32, float16 or bfloat16; auto is float32 on a processor, the half that suits on a GPU.",
    )
    memory_mb: int = Field(
        0, ge=0, description="Memory that all loaded models may take; 0: most of what the device has."
    )
    channels_last: Literal["auto", "on", "off"] = Field(
        "auto", description="auto, on or off: pixels' order in memory; auto is on with CUDA."
    )
    compile: bool = Field(
        False,
        description="Compile the UNet's repeated blocks: quicker steps, after minutes at the first picture of a size.",
    )
    attention: Literal["sdpa", "plain", "sliced", "xformers"] = Field(
        "sdpa",
        description="sdpa (PyTorch's own), plain, sliced (least memory) or xformers, where it is installed.",
    )
    vae_tiling: Literal["auto", "on", "off"] = Field(
        "auto", description="auto, on or off: decode in tiles; auto is on below 12 GB of a GPU."
    )
    vae_slicing: Literal["auto", "on", "off"] = Field(
        "auto", description="auto, on or off: decode picture by picture; auto is on below 16 GB of a GPU."
    )
    offload: Literal["auto", "none", "model", "sequential"] = Field(
        "auto",
        description="auto, none, model or sequential: what waits in the computer's memory, not the GPU's; auto is "
        "model below 8 GB of a GPU.",
    )
    loras: int = Field(8, ge=1, le=64, description="LoRAs that stay attached to a model, in use or not.")
    batch_rows: int = Field(
        0,
        ge=0,
        description="Rows of one call of the UNet, of which a guided picture takes two; 0: what suits the device.",
    )


class CleanupSettings(FromEnvironment):
    """What the service cleanup reads beside what every service does."""

    iopaint_url: str = Field(
        "",
        pattern=r"^(https?://[^\s/]+(/\S*)?)?$",
        description="The address of an IOPaint server, whose models `iopaint` then stands for; none if absent.",
    )
    iopaint_timeout: float = Field(
        120.0, gt=0, description="Seconds that the IOPaint server may take for a fill."
    )


class NetSettings(FromEnvironment):
    """Where the services that run ONNX files run them, and how many they keep."""

    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        description="auto, cpu, cuda or cuda:1; auto takes CUDA, then the processor; mps is the processor here.",
    )
    memory_mb: int = Field(
        0, ge=0, description="Memory that all loaded models may take; 0: as much as they need."
    )


class HubSettings(FromEnvironment):
    """Where `darkroom models pull` fetches from, and how much may lie on the disk."""

    models_path: Path = Field(Path("models"), description="The folder with the models' files.")
    hub: str = Field(
        "", description="The hub or a mirror of it; else HF_ENDPOINT, else https://huggingface.co."
    )
    hub_token: str = Field("", description="A token for models that ask for one; else HF_TOKEN.")
    models_disk_gb: float = Field(
        0, ge=0, description="What the models' folder may take in all; 0: as much as is free, but for 2 GB."
    )

    @property
    def address(self) -> str:
        return (self.hub or os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")

    @property
    def token(self) -> str:
        return self.hub_token or os.environ.get("HF_TOKEN") or ""
