"""Signatures: of links, of webhooks, and the secret behind them."""

from __future__ import annotations

import re
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.keys import StartRefused
from gateway.settings import Settings
from gateway.signing import Signer, verify_webhook
from services.errors import Forbidden

SIGNER = Signer(b"0123456789abcdef")
DOCS = Path(__file__).parents[2] / "docs" / "security.md"


def settings(folder: Path, **more: object) -> Settings:
    return Settings(data=folder, _env_file=None, **more)  # type: ignore[arg-type]


def parts(link: str) -> tuple[str, str]:
    found = re.fullmatch(r"[^?]+\?expires=(\d+)&signature=([0-9a-f]{64})", link)
    assert found
    return found[1], found[2]


def test_a_signed_link_opens_its_own_path_until_it_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    expires, signature = parts(SIGNER.link("/v1/assets/a", 60))
    SIGNER.check_link("/v1/assets/a", expires, signature)
    monkeypatch.setattr(time, "time", lambda: float(expires) + 1)
    with pytest.raises(Forbidden, match="expired"):
        SIGNER.check_link("/v1/assets/a", expires, signature)


def test_nothing_else_opens_it() -> None:
    expires, signature = parts(SIGNER.link("/v1/assets/a", 60))
    later = str(int(expires) + 1)
    for path, until, sign in [
        ("/v1/assets/b", expires, signature),
        ("/v1/assets/a", later, signature),
        ("/v1/assets/a", expires, "0" * 64),
        ("/v1/assets/a", expires, ""),
        ("/v1/assets/a", "", signature),
        ("/v1/assets/a", "-1", signature),
        ("/v1/assets/a", "9" * 400, signature),
        ("/v1/assets/a", "٣", signature),
        ("/v1/assets/a", expires, "é"),
    ]:
        with pytest.raises(Forbidden):
            SIGNER.check_link(path, until, sign)
    with pytest.raises(Forbidden):
        Signer(b"another secret of some length").check_link("/v1/assets/a", expires, signature)


@given(path=st.text(max_size=30), expires=st.text(max_size=20), signature=st.text(max_size=70))
def test_any_guess_is_forbidden_and_never_breaks(path: str, expires: str, signature: str) -> None:
    with pytest.raises(Forbidden):
        SIGNER.check_link(path.encode("utf-8", "replace").decode(), expires, signature)


@given(st.binary(max_size=300))
def test_a_receiver_accepts_the_webhook_we_signed_and_no_other(body: bytes) -> None:
    header = SIGNER.webhook(body)
    assert re.fullmatch(r"t=\d+,v1=[0-9a-f]{64}", header)
    assert verify_webhook(SIGNER.webhook_secret, header, body)
    assert not verify_webhook(SIGNER.webhook_secret, header, body + b"x")
    assert not verify_webhook(Signer(b"another").webhook_secret, header, body)
    assert not verify_webhook(SIGNER.webhook_secret, SIGNER.webhook(body, time.time() - 400), body)


@given(st.text(max_size=100))
def test_a_receiver_takes_any_header_for_what_it_is(header: str) -> None:
    assert not verify_webhook(SIGNER.webhook_secret, header, b"{}")


def test_the_snippet_in_the_documentation_verifies_a_real_signature() -> None:
    snippet = re.search(r"```python\n(.*?)```", DOCS.read_text(), re.S)
    assert snippet
    assert len(snippet[1].strip().splitlines()) <= 8
    names: dict[str, object] = {}
    exec(snippet[1], names)
    genuine = names["genuine"]
    assert callable(genuine)
    body = b'{"id": "job_1"}'
    assert genuine(SIGNER.webhook_secret, SIGNER.webhook(body), body)
    assert not genuine(SIGNER.webhook_secret, SIGNER.webhook(body), body + b" ")
    assert not genuine(SIGNER.webhook_secret, SIGNER.webhook(body, time.time() - 1000), body)


def test_the_secret_is_drawn_once_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: Signer.open(settings(folder)).webhook_secret, range(8)))
    assert len(set(made)) == 1
    assert stat.S_IMODE((folder / "secret").stat().st_mode) == 0o600
    assert [path.name for path in folder.iterdir()] == ["secret"]


def test_gateways_with_the_same_secret_accept_each_others_links(tmp_path: Path) -> None:
    one, other = (
        Signer.open(settings(tmp_path / name, secret="a secret of enough letters")) for name in "ab"
    )
    one.check_link("/x", *parts(other.link("/x", 60)))
    assert not (tmp_path / "a").exists()


def test_a_secret_that_is_short_or_damaged_stops_the_start_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(StartRefused, match="DARKROOM_SECRET"):
        Signer.open(settings(tmp_path, secret="short"))
    (tmp_path / "secret").write_bytes(b"")
    with pytest.raises(StartRefused, match="Remove it"):
        Signer.open(settings(tmp_path))


def test_a_sessions_name_is_of_its_owner_and_of_every_gateway_with_the_secret() -> None:
    one, two, other = Signer(b"a" * 32), Signer(b"a" * 32), Signer(b"b" * 32)
    name = one.session("ann")
    assert name != one.session("ann")
    assert two.is_session(name, "ann")
    assert not two.is_session(name, "bob")
    assert not other.is_session(name, "ann")
    for wrong in ("", "-", name[:-1], name + "0", "é", name.replace("-", "")):
        assert not one.is_session(wrong, "ann")
