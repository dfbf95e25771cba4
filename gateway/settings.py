"""Every setting of the gateway: one typed class, each with its default and what it is for.

A setting is read from the environment as `DARKROOM_NAME` (also from a `.env` file beside the data folder's
parent). `darkroom doctor` checks them; docs/settings.md lists them, made from this file.
"""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

LOOPBACK = ("127.0.0.1", "::1", "localhost")
GRPC_PORT, INFERENCE_PORT = 8081, 8082  # where nobody names others


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="DARKROOM_", env_file=".env", extra="ignore", frozen=True)

    # ── where it is ──────────────────────────────────────────────────────────────────────────────────────────
    host: str = Field(
        "127.0.0.1", description="The address to listen on. Anything but loopback needs a key first."
    )
    port: int = Field(8080, ge=1, le=65535, description="The port for HTTP.")
    grpc_port: int | None = Field(
        None, ge=0, le=65535, description="The port for gRPC, 0: off; if absent 8081, where that is free."
    )
    inference_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="The port for the gRPC of other servers' clients (Open Inference Protocol, TensorFlow Serving), 0: "
        "off; if absent 8082, where that is free.",
    )
    data: Path = Field(
        Path(".darkroom"), description="The folder for the database, pictures, logs and process notes."
    )
    root_path: str = Field(
        "",
        pattern=r"^(/[^/]+)*$",
        description="The path under which a proxy shows the gateway, as /darkroom.",
    )
    public_url: str = Field(
        "",
        description="Scheme and host (https://pictures.example.org) of links in webhooks and of signed links.",
    )
    tls_cert: Path | None = Field(
        None, description="A PEM certificate chain; with tls_key the gateway speaks HTTPS, and gRPC over TLS."
    )
    tls_key: Path | None = Field(None, description="The PEM key of tls_cert.")
    trusted_proxies: Annotated[list[str], NoDecode] = Field(
        [], description="Addresses or networks whose X-Forwarded-For and -Proto are believed."
    )
    cors_origins: Annotated[list[str], NoDecode] = Field(
        [], description="Web origins that may call from a browser."
    )
    metrics_port: int = Field(
        9464, ge=0, le=65535, description="/metrics is here where the main address is not loopback; 0: off."
    )

    # ── what it keeps ────────────────────────────────────────────────────────────────────────────────────────
    database_url: SecretStr | None = Field(
        None, description="postgresql://...; a SQLite file in the data folder if absent."
    )
    migrate: Literal["start", "wait"] = Field(
        "start",
        description="start or wait: the gateway brings the database up to date as it starts, or waits until `darkroom "
        "migrate` has.",
    )
    redis_url: SecretStr | None = Field(
        None, description="redis://... for events and limits; in memory if absent."
    )
    storage_url: str | None = Field(
        None, description="s3://bucket/prefix for pictures; a folder in the data folder if absent."
    )
    storage_options: dict[str, str] = Field(
        {}, description="obstore's options of that store (endpoint, region, allow_http ...), as JSON."
    )
    replicas: int = Field(
        1,
        ge=1,
        description="How many gateways share this state; more than one needs Postgres, Redis, a store, a secret.",
    )
    keep_assets: float = Field(
        7 * 86400, gt=0, description="Seconds that pictures are kept; faces are personal data."
    )
    keep_jobs: float = Field(7 * 86400, gt=0, description="Seconds that finished jobs are kept.")
    secret: SecretStr | None = Field(
        None, description="Signs links and cookies; drawn and kept in the data folder if absent."
    )
    admin_key: SecretStr | None = Field(
        None, description="A first key with the admin scope, for containers; made if unknown."
    )

    # ── services ─────────────────────────────────────────────────────────────────────────────────────────────
    services: dict[str, list[str]] = Field(
        {},
        description='Where each service is, as JSON: {"cleanup": ["http://127.0.0.1:3001"]}. `dns+http://name:port` '
        "resolves a name again and again; `#track=canary&weight=0.1` after an address makes it the canary, with a "
        "tenth of the calls. `grpc://host:8500` is TensorFlow Serving, for pix2pix.",
    )
    apart: bool = Field(
        False,
        description="`darkroom up` starts sdxl and controlnet as two processes; else one performs both and holds their "
        "models once.",
    )
    connect_timeout: float = Field(2.0, gt=0, description="Seconds to connect to an endpoint.")
    first_byte_timeout: float = Field(
        10.0, gt=0, description="Seconds until an endpoint has accepted a call, an attempt."
    )
    idle_timeout: float = Field(
        30.0, gt=0, description="Seconds without any frame (services send one at least every 5)."
    )
    deadline: float = Field(120.0, gt=0, description="Seconds a synchronous call may take, waiting included.")
    job_deadline: float = Field(3600.0, gt=0, description="Seconds one attempt of a job may take.")
    line_length: int = Field(
        1024, ge=0, description="How many calls may wait for each service; more are answered 429."
    )
    health_interval: float = Field(
        1.0, gt=0, description="Seconds between two looks at an endpoint's health."
    )
    resolve_interval: float = Field(
        5.0, gt=0, description="Seconds between two resolutions of a dns+http:// name."
    )
    default_capacity: int = Field(
        4, ge=1, description="Calls at once to an endpoint that has not said what it can take."
    )
    retry_budget: float = Field(0.2, ge=0, le=1, description="Retries allowed, as a share of the calls.")
    breaker_failures: int = Field(5, ge=1, description="Failures in a row that open an endpoint's breaker.")
    breaker_pause: float = Field(
        5.0, gt=0, description="Seconds until an open breaker lets one call through."
    )
    drain_lead: float = Field(
        5.0,
        ge=0,
        description="Seconds from SIGTERM on in which calls are still taken, while readiness says that the end comes; "
        "`darkroom up` sets 0.",
    )
    drain: float = Field(
        30.0, ge=0, description="Seconds that calls in flight may take to finish after that."
    )

    # ── TensorFlow Serving ───────────────────────────────────────────────────────────────────────────────────
    pix2pix_models: Annotated[list[str], NoDecode] = Field(
        ["creatures"],
        min_length=1,
        description="TensorFlow Serving's models for sketch-to-image; `auto` is the first that is available.",
    )
    pix2pix_labels: Annotated[list[str], NoDecode] = Field(
        ["stable", "canary"], description="The version labels that /v1/models looks for."
    )
    pix2pix_version: str = Field(
        "",
        pattern=r"^([0-9]{1,18}|[A-Za-z][A-Za-z0-9_.-]{0,63})?$",
        description="The version (a number or a label) that answers a call which names none; the newest if absent.",
    )
    pix2pix_canary: float = Field(
        0.0,
        ge=0,
        le=1,
        description="The share of the calls without a version that the version with the label `canary` answers.",
    )
    pix2pix_capacity: int = Field(
        16, ge=1, description="Calls at once to one TensorFlow Serving, which cannot say it; it batches them."
    )
    pix2pix_rest: str = Field(
        "",
        pattern=r"^(https?://[^/?#@]+)?$",
        description="Where TensorFlow Serving's REST is (http://host:8501), for /tfserving/; `darkroom up` knows that "
        "of its own.",
    )
    pix2pix_config: Path | None = Field(
        None,
        description="The model_config_file with which `darkroom up` starts the embedded server; else the model that is "
        "part of Darkroom.",
    )

    # ── jobs ─────────────────────────────────────────────────────────────────────────────────────────────────
    job_attempts: int = Field(3, ge=1, description="How often a job is tried.")
    lease: float = Field(
        15.0, gt=0, description="Seconds until a job whose worker fell silent is given to another."
    )
    queue_limit: int = Field(
        100_000, ge=1, description="How many jobs may be queued for each service; more are answered 429."
    )
    webhook_attempts: int = Field(8, ge=1, description="How often a webhook is tried, with growing pauses.")
    webhook_allow_private: bool = Field(
        False, description="Lets webhooks and picture addresses reach private networks."
    )

    # ── limits ───────────────────────────────────────────────────────────────────────────────────────────────
    max_body: int = Field(64 * 2**20, ge=1024, description="Bytes of one request.")
    max_picture_bytes: int = Field(32 * 2**20, ge=1024, description="Bytes of one picture.")
    max_pixels: int = Field(50_000_000, ge=4096, description="Pixels of one picture.")
    max_side: int = Field(16_384, ge=64, description="Pixels of a picture's longer side.")
    max_lora_bytes: int = Field(
        512 * 2**20, ge=1024, description="Bytes of all LoRAs' files of one request, beside max_body."
    )
    rate: float = Field(
        0, ge=0, description="Requests a second for a key that sets none of its own; 0: no limit."
    )
    daily_pictures: int = Field(
        0, ge=0, description="Pictures a day for a key that sets none of its own; 0: no limit."
    )
    concurrent_jobs: int = Field(
        0, ge=0, description="Unfinished jobs for a key that sets none of its own; 0: no limit."
    )

    # ── what it tells ────────────────────────────────────────────────────────────────────────────────────────
    log_level: str = Field(
        "info", pattern="^(debug|info|warning|error)$", description="debug, info, warning or error."
    )
    log_format: str = Field(
        "json", pattern="^(json|text)$", description="json for machines, text for people."
    )
    otlp_endpoint: str = Field(
        "", description="An OpenTelemetry collector (OTLP over HTTP) for traces; none if absent."
    )

    @field_validator("trusted_proxies", "cors_origins", "pix2pix_models", "pix2pix_labels", mode="before")
    @classmethod
    def _comma_separated(cls, value: Any) -> Any:
        return (
            [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
        )

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: list[str]) -> list[str]:
        for item in value:
            ip_network(item, strict=False)
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Settings:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError(
                "tls_cert and tls_key go together: set both DARKROOM_TLS_CERT and DARKROOM_TLS_KEY"
            )
        if self.pix2pix_canary and "canary" not in self.pix2pix_labels:
            raise ValueError(
                "DARKROOM_PIX2PIX_CANARY gives calls to the label canary: add it to DARKROOM_PIX2PIX_LABELS"
            )
        shared = ("database_url", "redis_url", "storage_url", "secret")
        missing = [f"DARKROOM_{name.upper()}" for name in shared if not getattr(self, name)]
        if self.replicas > 1 and missing:
            raise ValueError(
                f"{self.replicas} gateways (DARKROOM_REPLICAS) need what they share: set {', '.join(missing)}"
            )
        return self

    @property
    def loopback(self) -> bool:
        return self.host in LOOPBACK or self.host.startswith("127.")

    @property
    def public_base(self) -> str:
        """What a link starts with that leaves the page or the answer it was given in."""
        return self.public_url.rstrip("/") + self.root_path

    @property
    def database(self) -> str:
        """The SQLAlchemy URL."""
        if self.database_url is None:
            return f"sqlite+aiosqlite:///{(self.data / 'darkroom.db').absolute()}"
        url = self.database_url.get_secret_value()
        for plain in ("postgresql://", "postgres://"):
            if url.startswith(plain):
                return "postgresql+asyncpg://" + url.removeprefix(plain)
        return url

    @property
    def redis(self) -> str | None:
        return self.redis_url.get_secret_value() if self.redis_url else None
