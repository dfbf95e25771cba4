"""The gRPC client by itself: what it asks, what it gives back, and what each refusal of a server means here."""

import asyncio
import io
import subprocess
import sys
from typing import Any

import grpc
import pytest
from PIL import Image

from services.errors import (
    AtCapacity,
    BadPicture,
    BadUpstream,
    DarkroomError,
    DeadlineExceeded,
    NoEndpoint,
    OutOfMemory,
    ServiceFault,
    TooLarge,
    UnknownModel,
)
from tests.gateway.upstream.fake_serving import AVAILABLE, END
from tf_serving.client import Client

pytestmark = pytest.mark.anyio


@pytest.fixture
async def ask(serving: Any) -> Any:
    """`await ask(server, picture, ...)`: one Predict of a client of its own."""

    async def predict(server: Any, picture: bytes, *given: Any, seconds: float = 5, **options: Any) -> Any:
        client = Client(server.address.removeprefix("grpc://"), **options)
        try:
            return await client.predict(picture, "creatures", *given, seconds=seconds)
        finally:
            await client.close()

    return predict


def colour(picture: bytes) -> Any:
    with Image.open(io.BytesIO(picture)) as image:
        return image.convert("RGB").getpixel((0, 0))


async def test_a_picture_goes_out_and_comes_back_with_the_version_that_made_it(serving, ask, png):
    server = await serving(versions={"creatures": {3: AVAILABLE, 7: AVAILABLE}})
    made = await ask(server, png)
    assert (made.model, made.version) == ("creatures", 7)
    assert colour(made.picture) == (55, 215, 215)
    request = server.asked[0]
    assert request.model_spec.signature_name == "serving_default"
    tensor = request.inputs["image_bytes"]
    assert (tensor.dtype, [dim.size for dim in tensor.tensor_shape.dim]) == (7, [1])
    assert list(tensor.string_val) == [png]


async def test_a_number_is_a_version_and_a_word_is_a_label(serving, ask, png):
    server = await serving(
        versions={"creatures": {1: AVAILABLE, 2: AVAILABLE}}, labels={("creatures", "stable"): 1}
    )
    assert (await ask(server, png, "1")).version == 1
    assert server.asked[-1].model_spec.version.value == 1
    assert (await ask(server, png, "stable")).version == 1
    assert server.asked[-1].model_spec.version_label == "stable"


async def test_every_call_carries_its_deadline(serving, ask, png):
    server = await serving()
    await ask(server, png, seconds=3)
    assert 2 < server.seconds_left[0] <= 3.1
    server.hangs = True
    with pytest.raises(DeadlineExceeded):
        await ask(server, png, seconds=0.2)


async def test_headers_go_along(serving, ask, png):
    server = await serving()
    client = Client(server.address.removeprefix("grpc://"))
    traced = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
    try:
        await client.predict(png, "creatures", seconds=5, headers=traced)
        asked = server.asked[0].SerializeToString()
        path = "/tensorflow.serving.PredictionService/Predict"
        await client.relay(path, asked, seconds=5, headers=traced)
    finally:
        await client.close()
    assert [one["traceparent"] for one in server.headers] == [traced["traceparent"]] * 2


async def test_a_call_that_is_cancelled_ends_at_the_server_too(serving, ask, png, until):
    server = await serving(hangs=True)
    call = asyncio.create_task(ask(server, png))
    await until(lambda: server.asked)
    call.cancel()
    await until(lambda: server.cancelled == 1)


async def test_large_pictures_come_through_whole(serving, ask):
    out = io.BytesIO()
    Image.effect_noise((1500, 1200), 90).convert("RGB").save(out, "PNG", compress_level=0)
    assert len(out.getvalue()) > 2**20
    server = await serving()
    large = out.getvalue()
    with pytest.raises(TooLarge) as refused:  # the fake takes 4 MiB
        await ask(server, large)
    assert refused.value.field == "image"
    small = io.BytesIO()
    Image.effect_noise((1500, 1200), 90).save(small, "PNG", compress_level=0)
    made = await ask(server, small.getvalue())
    assert list(server.asked[-1].inputs["image_bytes"].string_val) == [small.getvalue()]
    with Image.open(io.BytesIO(made.picture)) as image:
        assert image.size == (1500, 1200)


async def test_an_answer_beyond_the_bound_is_refused_here(serving, ask, png):
    server = await serving(answer=b"x" * 100_000)
    with pytest.raises(TooLarge):
        await ask(server, png, largest=50_000)


async def test_status_tells_every_version_with_its_state_and_its_fault(serving):
    server = await serving(versions={"creatures": {1: AVAILABLE, 2: END}})
    client = Client(server.address.removeprefix("grpc://"))
    newest, oldest = await client.status("creatures", seconds=5)
    assert (newest.number, newest.state, newest.error) == (2, "END", "the file is damaged")
    assert (oldest.number, oldest.state, oldest.error) == (1, "AVAILABLE", "")
    with pytest.raises(UnknownModel):
        await client.status("dragons", seconds=5)
    await client.close()


async def test_metadata_tells_what_a_label_stands_for_and_the_signatures(serving):
    server = await serving(labels={("creatures", "canary"): 9})
    client = Client(server.address.removeprefix("grpc://"))
    version, signatures = await client.metadata("creatures", "canary", seconds=5)
    assert (version, set(signatures)) == (9, {"serving_default"})
    await client.close()


async def test_where_nobody_listens_there_is_no_endpoint(png):
    client = Client("127.0.0.1:1", connect_timeout=0.3)
    with pytest.raises(NoEndpoint) as refused:
        await client.predict(png, "creatures", seconds=5)
    assert isinstance(refused.value.__cause__, grpc.RpcError)
    await client.close()


async def test_a_server_that_comes_back_is_found_by_the_same_client(serving, png):
    first = await serving()
    client = Client(first.address.removeprefix("grpc://"), connect_timeout=0.5)
    await client.predict(png, "creatures", seconds=5)
    await first.stop()
    with pytest.raises(DarkroomError):
        await client.predict(png, "creatures", seconds=5)
    await serving(port=first.port)
    async with asyncio.timeout(3):
        while True:
            try:
                made = await client.predict(png, "creatures", seconds=5)
                break
            except (NoEndpoint, BadUpstream):
                await asyncio.sleep(0.05)
    assert made.version == 1
    await client.close()


@pytest.mark.parametrize(
    ("code", "words", "kind", "field"),
    [
        ("NOT_FOUND", "Servable not found for request: Latest(creatures)", UnknownModel, "model"),
        ("INVALID_ARGUMENT", "Invalid PNG data, size 34\n\t [[{{node DecodePng}}]]", BadPicture, "image"),
        (
            "INVALID_ARGUMENT",
            "Unknown image file format. One of JPEG, PNG, GIF, BMP required.",
            BadPicture,
            "image",
        ),
        ("FAILED_PRECONDITION", 'Serving signature key "serving_default" not found.', UnknownModel, "model"),
        (
            "INVALID_ARGUMENT",
            "input tensor alias not found in signature: image_bytes.",
            UnknownModel,
            "model",
        ),
        (
            "UNAVAILABLE",
            "The batch scheduling queue to which this task was submitted is full",
            AtCapacity,
            None,
        ),
        ("RESOURCE_EXHAUSTED", "OOM when allocating tensor with shape[1,9,9,3]", OutOfMemory, None),
        ("RESOURCE_EXHAUSTED", "Received message larger than max (9 vs. 4)", TooLarge, "image"),
        ("RESOURCE_EXHAUSTED", "too many", AtCapacity, None),
        ("UNAVAILABLE", "Socket closed", BadUpstream, None),
        ("UNAVAILABLE", "recvmsg:Connection reset by peer", BadUpstream, None),
        ("INTERNAL", "Received RST_STREAM with error code 2", BadUpstream, None),
        ("INTERNAL", "a kernel failed", ServiceFault, None),
        ("UNKNOWN", "", ServiceFault, None),
        ("UNIMPLEMENTED", "Method not found!", BadUpstream, None),
    ],
)
async def test_each_refusal_has_its_meaning(serving, ask, png, code, words, kind, field):
    server = await serving(fails=[(grpc.StatusCode[code], words)])
    with pytest.raises(DarkroomError) as refused:
        await ask(server, png)
    assert type(refused.value) is kind
    assert refused.value.field == field
    assert "[[" not in refused.value.detail


async def test_an_unknown_version_or_label_names_the_field(serving, ask, png):
    server = await serving()
    for version in ("99", "gold"):
        with pytest.raises(UnknownModel) as refused:
            await ask(server, png, version)
        assert refused.value.field == "version"
        assert version in refused.value.detail


def test_the_client_brings_no_numpy_no_tensorflow_and_no_pillow():
    code = (
        "import sys, tf_serving.client\n"
        "heavy = {'numpy', 'tensorflow', 'PIL', 'aiohttp', 'httpx'} & set(sys.modules)\n"
        "sys.exit(f'it imports {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
