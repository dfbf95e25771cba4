"""Settings that do not fit together stop the start with a sentence."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.settings import Settings

SHARED: dict[str, Any] = {
    "replicas": 2,
    "database_url": "postgresql://u@h/d",
    "redis_url": "redis://h",
    "storage_url": "s3://bucket/pictures",
    "secret": "a secret that both have",
}


def test_two_gateways_with_all_that_they_share_are_allowed() -> None:
    assert Settings(**SHARED).replicas == 2


@pytest.mark.parametrize("missing", ["database_url", "redis_url", "storage_url", "secret"])
def test_two_gateways_that_share_too_little_are_refused_by_the_name_of_what_is_missing(missing: str) -> None:
    with pytest.raises(ValidationError, match=f"DARKROOM_{missing.upper()}"):
        Settings(**{name: value for name, value in SHARED.items() if name != missing})


def test_a_certificate_without_its_key_is_refused() -> None:
    with pytest.raises(ValidationError, match="DARKROOM_TLS_KEY"):
        Settings(tls_cert="cert.pem")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("postgresql://u@h/d", "postgresql+asyncpg://u@h/d"),
        ("postgres://u@h/d", "postgresql+asyncpg://u@h/d"),
    ],
)
def test_a_postgres_address_needs_no_driver_in_its_name(url: str, driver: str) -> None:
    assert Settings(database_url=url).database == driver  # type: ignore[arg-type]


def test_lists_are_written_with_commas_and_networks_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKROOM_TRUSTED_PROXIES", "10.0.0.0/8, 192.168.1.1")
    assert Settings().trusted_proxies == ["10.0.0.0/8", "192.168.1.1"]
    monkeypatch.setenv("DARKROOM_TRUSTED_PROXIES", "everywhere")
    with pytest.raises(ValidationError):
        Settings()
