"""Content credentials, judged by the reader of the library that defines them."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import c2pa
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ed25519, rsa
from PIL import Image

from services.errors import Unavailable
from services.operations import OPERATIONS, Encoded, Seeded
from services.origin.credentials import SOURCES, Credentials
from services.pictures import Picture
from services.serving import Job, Result, Service, ServiceApp
from services.settings import ServiceSettings

FORMATS = ["png", "jpeg", "webp"]
TEXT = "a red circle\nSteps: 30, Sampler: Euler, CFG scale: 7, Seed: 1"


def settings_of(issued: Any, **more: Any) -> ServiceSettings:
    return ServiceSettings(c2pa_key=str(issued.key), c2pa_certificate=str(issued.chain), **more)


def read(file: bytes, form: str, authority: bytes) -> Any:
    """The reader's view of a file, trusting the test's own authority and no other."""
    trust = {
        "trust": {"trust_anchors": authority.decode(), "trust_config": "1.3.6.1.5.5.7.3.4"},
        "verify": {"verify_trust": True},
    }
    return c2pa.Reader(f"image/{form}", io.BytesIO(file), context=c2pa.Context.from_dict(trust))


def sources(reader: Any) -> list[str]:
    actions = [
        action
        for assertion in reader.get_active_manifest()["assertions"]
        if assertion["label"].startswith("c2pa.actions")
        for action in assertion["data"]["actions"]
    ]
    assert [action["action"] for action in actions] == ["c2pa.created"]
    assert actions[0]["softwareAgent"]["name"] == "Darkroom"
    return [action["digitalSourceType"].removeprefix(SOURCES) for action in actions]


@pytest.fixture
def toy() -> Iterator[type[Service]]:
    """A generative service: pictures from a seed, an edit of one, and a map that is read from one."""
    before = dict(OPERATIONS)

    class Dream(Seeded, service="dreamer"):
        """Make a picture."""

    class Redream(Seeded, service="dreamer"):
        """Make a picture anew."""

        image: Picture

    class Trace(Encoded, service="dreamer"):
        """Show a picture's edges."""

        image: Picture

    class DreamerService(Service):
        generative = True

        def dream(self, ask: Dream, job: Job) -> list[Result]:
            picture = Image.effect_noise((64, 48), 50).convert("RGB")
            return [Result(picture, parameters=TEXT), Result(picture, role="map")]

        def redream(self, ask: Redream, job: Job) -> Result:
            return Result(ask.image.pixels, parameters=TEXT)

        def trace(self, ask: Trace, job: Job) -> Image.Image:
            found: Image.Image = ask.image.pixels
            return found

    yield DreamerService
    OPERATIONS.clear()
    OPERATIONS.update(before)


@pytest.mark.parametrize("form", FORMATS)
def test_a_generated_picture_is_signed_as_made_by_a_model(
    form: str, toy: type[Service], serve_toy: Callable[..., Any], issue: Callable[..., Any]
) -> None:
    issued = issue()
    with serve_toy(toy, settings_of(issued)) as (caller, _):
        answer = caller.run("dream", {"format": form})
        picture, of_map = [body for event, body in answer.frames if event.kind == "result"]
        reader = read(picture, form, issued.authority)
        assert reader.get_validation_state() == "Trusted"
        assert sources(reader) == ["trainedAlgorithmicMedia"]
        assert "red circle" not in reader.json(), "what was asked is no part of the note"
        shown = answer.picture()
        assert shown.size == (64, 48)
        carried = shown.info.get("parameters") or shown.getexif().get_ifd(0x8769)[0x9286][8:].decode(
            "utf-16-be"
        )
        assert carried == TEXT
        with pytest.raises(c2pa.C2paError):
            read(of_map, form, issued.authority)


def test_an_edited_picture_says_so_and_a_traced_one_nothing(
    png: bytes, toy: type[Service], serve_toy: Callable[..., Any], issue: Callable[..., Any]
) -> None:
    issued = issue()
    with serve_toy(toy, settings_of(issued, picture_parameters=False)) as (caller, _):
        answer = caller.run("redream", {}, {"image": png})
        edited = answer.frames[1][1]
        assert sources(read(edited, "png", issued.authority)) == ["compositeWithTrainedAlgorithmicMedia"]
        assert "parameters" not in answer.picture().info, "DARKROOM_PICTURE_PARAMETERS=false"
        traced = caller.run("trace", {}, {"image": png}).frames[1][1]
        with pytest.raises(c2pa.C2paError):
            read(traced, "png", issued.authority)


@pytest.mark.parametrize("form", FORMATS)
def test_the_pixels_are_the_same_signed_and_a_changed_one_is_found_out(
    form: str, issue: Callable[..., Any]
) -> None:
    issued = issue()
    credentials = Credentials.from_settings(settings_of(issued))
    assert credentials is not None
    plain = io.BytesIO()
    Image.effect_noise((64, 64), 80).convert("RGB").save(plain, form)
    signed = credentials.sign(plain.getvalue(), f"image/{form}", "trainedAlgorithmicMedia")
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(signed))), np.asarray(Image.open(plain)))
    forged = bytearray(signed)
    forged[signed.index(plain.getvalue()[-64:-32])] ^= 1  # a byte of the pixels, which end the plain file
    reader = read(bytes(forged), form, issued.authority)
    assert reader.get_validation_state() == "Invalid"
    faults = reader.get_validation_results()["activeManifest"]["failure"]
    assert "assertion.dataHash.mismatch" in [fault["code"] for fault in faults]


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (ed25519.Ed25519PrivateKey.generate(), "ed25519"),
        (rsa.generate_private_key(65537, 2048), "ps256"),
    ],
    ids=["ed25519", "rsa"],
)
def test_other_kinds_of_keys_sign_too(key: Any, algorithm: str, issue: Callable[..., Any]) -> None:
    found = Credentials.from_settings(settings_of(issue(key=key)))
    assert found is not None
    assert found.algorithm == algorithm


def test_without_a_key_nothing_is_signed(toy: type[Service], serve_toy: Callable[..., Any]) -> None:
    with serve_toy(toy, ServiceSettings()) as (caller, _), pytest.raises(c2pa.C2paError):
        read(caller.run("dream").frames[1][1], "png", b"")


def test_a_service_that_generates_nothing_needs_no_key(toy: type[Service]) -> None:
    toy.generative = False
    assert ServiceApp(toy, ServiceSettings(c2pa_key="/nowhere"), catalogue=[]).origin.credentials is None


def absent_key(issued: Any) -> None:
    issued.key.unlink()


def absent_certificate(issued: Any) -> None:
    issued.chain.unlink()


def no_key(issued: Any) -> None:
    issued.key.write_text("-----BEGIN PRIVATE KEY-----\nnonsense\n-----END PRIVATE KEY-----\n")


def no_certificate(issued: Any) -> None:
    issued.chain.write_text("nothing")


def strange_order(issued: Any) -> None:
    both = x509.load_pem_x509_certificates(issued.chain.read_bytes())
    pem = [c.public_bytes(serialization.Encoding.PEM) for c in reversed(both)]
    issued.chain.write_bytes(b"".join(pem))


def with_passphrase(issued: Any) -> None:
    key = serialization.load_pem_private_key(issued.key.read_bytes(), None)
    form, locked = serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    issued.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, locked))


def a_folder(issued: Any) -> None:
    issued.key.unlink()
    issued.key.mkdir()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (absent_key, "DARKROOM_C2PA_KEY names .*key.pem, which cannot be read: No such file"),
        (absent_certificate, "DARKROOM_C2PA_CERTIFICATE names .*chain.pem, which cannot be read"),
        (a_folder, "which cannot be read: Is a directory"),
        (no_key, "holds no private key in PEM form"),
        (no_certificate, "holds no certificate in PEM form"),
        (strange_order, "put the key's own certificate first"),
        (with_passphrase, "has a passphrase"),
    ],
)
def test_what_is_wrong_with_the_files_stops_the_start_and_is_said(
    toy: type[Service], issue: Callable[..., Any], spoil: Callable[[Any], None], said: str
) -> None:
    issued = issue()
    spoil(issued)
    with pytest.raises(SystemExit, match=said):
        ServiceApp(toy, settings_of(issued), catalogue=[])


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"days": -3}, "not valid at time of signing"),
        ({"usage": x509.ObjectIdentifier("1.3.6.1.5.5.7.3.1")}, "certificate is invalid"),
        ({"key": dsa.generate_private_key(2048)}, "of a kind that C2PA does not know"),
    ],
    ids=["expired", "for servers", "dsa"],
)
def test_a_certificate_that_readers_would_refuse_stops_the_start(
    how: dict[str, Any], said: str, issue: Callable[..., Any]
) -> None:
    with pytest.raises(SystemExit, match=said):
        Credentials.from_settings(settings_of(issue(**how)))


def test_a_key_without_its_certificate_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="DARKROOM_C2PA_CERTIFICATE is not set"):
        Credentials.from_settings(ServiceSettings(c2pa_key=str(tmp_path)))
    with pytest.raises(SystemExit, match="DARKROOM_C2PA_KEY is not set"):
        Credentials.from_settings(ServiceSettings(c2pa_certificate=str(tmp_path)))


def test_a_time_stamp_server_that_is_away_is_no_fault_of_the_start_but_of_the_request(
    issue: Callable[..., Any],
) -> None:
    credentials = Credentials.from_settings(settings_of(issue(), c2pa_timestamps="http://127.0.0.1:9/tsa"))
    assert credentials is not None
    plain = io.BytesIO()
    Image.new("RGB", (8, 8)).save(plain, "PNG")
    with pytest.raises(Unavailable, match="could not be signed"):
        credentials.sign(plain.getvalue(), "image/png", "trainedAlgorithmicMedia")
