"""Addresses of the settings are read, or refused with a sentence that says what to write."""

import pytest

from gateway.upstream.resolve import Origin, read_origin, system_resolver
from services.errors import NotConfigured


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("http://127.0.0.1:3001", Origin("http", "127.0.0.1", 3001, "", 1.0, resolved=False)),
        ("https://service/", Origin("https", "service", 443, "", 1.0, resolved=False)),
        ("http://[::1]:9/base/#weight=0.1", Origin("http", "::1", 9, "/base", 0.1, resolved=False)),
        ("dns+http://name:3000", Origin("http", "name", 3000, "", 1.0, resolved=True)),
    ],
)
def test_addresses_are_read(text, origin):
    assert read_origin(text) == origin


@pytest.mark.parametrize(
    "text",
    ["", "127.0.0.1:3001", "ftp://x", "http://", "http://x:99999", "http://u:p@x", "http://x?y=1",
     "http://x#weight=0", "http://x#weight=nan", "http://x#weight=1&weight=2", "http://x#wait=1", "http://x#weight"],
)  # fmt: skip
def test_an_address_that_cannot_be_read_says_what_to_write(text):
    with pytest.raises(NotConfigured, match=r"write|port|may have"):
        read_origin(text)


def test_an_ipv6_address_gets_its_brackets():
    assert read_origin("dns+http://name:3000").address("fd00::1") == "http://[fd00::1]:3000"


@pytest.mark.anyio
async def test_the_systems_resolver_gives_every_address_once():
    found = await system_resolver("localhost", 80)
    assert "127.0.0.1" in found or "::1" in found
    assert len(found) == len(set(found))
