"""Every setting of a service: in come `DARKROOM_*` variables, out goes one typed object.

The limits have the same names and defaults as the gateway's, so that one environment serves both.
"""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError


class Limits(BaseModel):
    """What a picture and a request may be at most."""

    model_config = ConfigDict(frozen=True)

    max_body: int = Field(64 * 2**20, ge=1024, description="Bytes of one request.")
    max_picture_bytes: int = Field(32 * 2**20, ge=1024, description="Bytes of one picture.")
    max_pixels: int = Field(50_000_000, ge=4096, description="Pixels of one picture.")
    max_side: int = Field(16_384, ge=64, description="Pixels of a picture's longer side.")


class ServiceSettings(Limits):
    capacity: int = Field(
        0, ge=0, description="Requests at once in one process; 0: what the service itself says."
    )
    models_path: Path = Field(Path("models"), description="The folder with the models' files.")
    drain: float = Field(30.0, ge=0, description="Seconds that work in flight may take to finish on SIGTERM.")
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

    @classmethod
    def from_environment(cls) -> ServiceSettings:
        """Reads `DARKROOM_NAME` for each field; a value that does not fit stops the start with its reason."""
        names = {f"DARKROOM_{name.upper()}": name for name in cls.model_fields}
        given = {field: os.environ[name] for name, field in names.items() if os.environ.get(name)}
        try:
            return cls(**given)
        except ValidationError as error:
            faults = "; ".join(f"DARKROOM_{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors())
            raise SystemExit(f"A setting is not valid. {faults}. docs/services.md lists them.") from error
