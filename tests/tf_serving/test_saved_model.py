"""A SavedModel that `pix2pix/export.py` wrote, beside its net on LiteRT: the same signatures, pictures and
refusals from both."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.tf_serving.running import Running, asked, in_threads, png
from tf_serving.stubs import (
    DT_FLOAT,
    GetModelMetadataRequest,
    ModelSpec,
    PredictionLog,
    PredictRequest,
    SignatureDefMap,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.skipif(find_spec("tensorflow") is None, reason="TensorFlow is not installed"),
]
SIDE = 32
WARM_UP = "assets.extra/tf_serving_warmup_requests"


def drawing(size: tuple[int, int], mode: str = "RGB") -> Image.Image:
    """Soft colours and hard lines, so that every step between file and net matters."""
    wide, high = size
    x, y = np.meshgrid(np.linspace(0, 1, wide), np.linspace(0, 1, high))
    pixels = np.stack([x, y, 1 - x * y, (x + y) / 2], axis=-1) * 255
    pixels[:: max(2, high // 5)] = (0, 0, 0, 255)
    return Image.fromarray(pixels.astype(np.uint8), "RGBA").convert(mode)


def written(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`saved/1`, a SavedModel, and `lite/1`, its net for LiteRT; untrained, which changes nothing here."""
    import tensorflow as tf

    from tf_serving.pix2pix.export import export
    from tf_serving.pix2pix.model import Shape, generator

    base = tmp_path_factory.mktemp("models")
    net = generator(Shape(side=SIDE, width=4, depth=4), seed=3)
    export(net, base / "saved", "saved", {}, [written(drawing((40, 30)))])
    lite = base / "lite" / "1"
    lite.mkdir(parents=True)
    (lite / "model.tflite").write_bytes(tf.lite.TFLiteConverter.from_keras_model(net).convert())
    (lite / "model.json").write_text(json.dumps({"name": "lite", "side": SIDE, "pictures": 1}))
    return base


@pytest.fixture(scope="module")
def both(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with both."""
    folder = tmp_path_factory.mktemp("both")
    entries = [
        f'config {{ name: "{name}" base_path: "{models / name}" model_platform: "tensorflow" }}'
        for name in ("saved", "lite")
    ]
    (folder / "models.config").write_text(f"model_config_list {{ {' '.join(entries)} }}")
    server = Running(f"--model_config_file={folder / 'models.config'}", tmp=folder)
    assert "version 1" in server.log and "no version" not in server.log, server.log
    yield server
    assert server.stop() == 0, server.log


FILES: dict[str, tuple[bytes, int]] = {
    "rgb": (written(drawing((32, 32))), 1),
    "wide": (written(drawing((90, 41))), 1),
    "tall": (written(drawing((23, 70))), 1),
    "tiny": (written(drawing((1, 1))), 1),
    "large": (written(drawing((900, 700))), 1),
    "alpha": (written(drawing((50, 40), "RGBA")), 1),
    "grey": (written(drawing((50, 40), "L")), 1),
    "grey-alpha": (written(drawing((50, 40), "LA")), 1),
    "one-bit": (written(drawing((50, 40), "1")), 1),
    "palette": (written(drawing((50, 40), "P")), 1),
    "palette-transparent": (written(drawing((50, 40), "P"), transparency=0), 1),
    "sixteen-bit": (written(Image.fromarray(np.arange(0, 64000, 50, np.uint16).reshape(32, 40))), 1),
    "interlaced-bmp": (written(drawing((50, 40)), "BMP"), 1),
    "gif": (written(drawing((50, 40)), "GIF"), 1),
    # libjpeg and libjpeg-turbo differ by one or two here and there, and the net can make more of it
    "jpeg": (written(drawing((64, 48)), "JPEG", quality=95), 3),
    "jpeg-grey": (written(drawing((64, 48), "L"), "JPEG"), 3),
}


@pytest.mark.parametrize("case", FILES)
def test_the_graph_and_the_embedded_way_make_the_same_picture(both: Running, case: str) -> None:
    data, tolerance = FILES[case]
    made = [
        np.asarray(
            Image.open(io.BytesIO(both.predict(asked(data, model=name)).outputs["image_bytes"].string_val[0]))
        )
        for name in ("saved", "lite")
    ]
    assert made[0].shape == made[1].shape
    with Image.open(io.BytesIO(data)) as sketch:
        assert made[0].shape == (sketch.height, sketch.width, 3)
    assert np.abs(made[0].astype(int) - made[1]).max() <= tolerance


def test_the_signature_for_tensors_too(both: Running) -> None:
    shares = np.asarray(drawing((50, 40)), np.float32)[None] / 255
    made = []
    for name in ("saved", "lite"):
        request = PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = name, "tensor"
        request.inputs["image"].dtype = DT_FLOAT
        request.inputs["image"].float_val.extend(shares.reshape(-1).tolist())
        for size in shares.shape:
            request.inputs["image"].tensor_shape.dim.add(size=size)
        made.append(np.array(both.predict(request).outputs["image"].float_val).reshape(shares.shape))
    assert np.abs(made[0] - made[1]).max() < 1 / 255


def test_both_show_the_same_signatures(both: Running) -> None:
    shown = []
    for name in ("saved", "lite"):
        request = GetModelMetadataRequest(model_spec=ModelSpec(name=name), metadata_field=["signature_def"])
        found = SignatureDefMap()
        both.prediction.GetModelMetadata(request, timeout=20).metadata["signature_def"].Unpack(found)
        shown.append(
            {
                name: (
                    _about(signature.inputs),
                    _about(signature.outputs),
                    signature.method_name,
                )
                for name, signature in found.signature_def.items()
            }
        )
    assert set(shown[0]) == {"serving_default", "picture", "tensor"}
    assert shown[0] == shown[1]


def _about(tensors: Any) -> dict[str, tuple[int, int]]:
    """Types and ranks: TensorFlow does not know all sizes that come out of a graph."""
    return {
        alias: (info.dtype, len(info.tensor_shape.dim))
        for alias, info in tensors.items()
        if not info.tensor_shape.unknown_rank
    } | {alias: (info.dtype, -1) for alias, info in tensors.items() if info.tensor_shape.unknown_rank}


REFUSED = {
    "no-picture": (
        lambda name: asked(b"Not a picture.", model=name),
        "Unknown image file format. One of JPEG,",
    ),
    "signature": (
        lambda name: asked(png(), model=name, signature="dream"),
        'Serving signature key "dream" not found.',
    ),
    "version": (
        lambda name: asked(png(), model=name, version=9),
        "Servable not found for request: Specific(",
    ),
    "pixels": (lambda name: asked(png(size=(20_000, 2)), model=name), "The picture has 20000 x 2 pixels;"),
    "cut": (lambda name: asked(FILES["large"][0][:9000], model=name), "Invalid PNG data"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_both_refuse_alike(both: Running, case: str) -> None:
    request, words = REFUSED[case]
    saved, lite = both.refused(request("saved")), both.refused(request("lite"))
    assert saved[0] == lite[0]
    assert saved[1].startswith(words) and lite[1].startswith(words)


def test_a_batch_gives_what_each_gives_alone_and_one_bad_picture_harms_no_other(
    models: Path, tmp_path: Path
) -> None:
    (tmp_path / "batching.config").write_text(
        "max_batch_size { value: 8 } batch_timeout_micros { value: 100000 }"
    )
    server = Running(
        "--model_name=saved",
        f"--model_base_path={models / 'saved'}",
        "--enable_batching",
        f"--batching_parameters_file={tmp_path / 'batching.config'}",
        tmp=tmp_path,
    )
    try:
        files = [written(drawing((30 + 9 * n, 40))) for n in range(4)]
        alone = [
            server.predict(asked(data, model="saved")).outputs["image_bytes"].string_val[0] for data in files
        ]
        requests = [asked(data, model="saved") for data in [*files, b"Not a picture."]]
        with in_threads(
            *[lambda request=request: server.predict(request) for request in requests]
        ) as answers:
            pass
        assert isinstance(answers.pop(), Exception)
        for answer, data in zip(answers, alone, strict=True):
            made = np.asarray(Image.open(io.BytesIO(answer.outputs["image_bytes"].string_val[0])))
            assert np.abs(made.astype(int) - np.asarray(Image.open(io.BytesIO(data)))).max() <= 1
    finally:
        assert server.stop() == 0, server.log


def test_a_damaged_saved_model_is_refused_and_the_old_one_serves_on(models: Path, tmp_path: Path) -> None:
    base = tmp_path / "saved"
    shutil.copytree(models / "saved" / "1", base / "1")
    server = Running(
        "--model_name=saved", f"--model_base_path={base}", "--file_system_poll_wait_seconds=0.1", tmp=tmp_path
    )

    def cut(path: Path) -> None:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    def wrong_warm_up(folder: Path) -> None:
        import tensorflow as tf

        log = PredictionLog()
        log.predict_log.request.CopyFrom(asked(b"Not a picture.", model="saved"))
        with tf.io.TFRecordWriter(str(folder / WARM_UP)) as writer:
            writer.write(log.SerializeToString())

    damages = {
        2: lambda folder: cut(folder / "saved_model.pb"),
        3: lambda folder: (folder / "saved_model.pb").write_bytes(b"junk"),
        4: lambda folder: cut(next(folder.glob("variables/*.data-*"))),
        5: lambda folder: shutil.rmtree(folder / "variables"),
        6: lambda folder: cut(folder / WARM_UP),
        7: wrong_warm_up,
    }
    try:
        for number, damage in damages.items():
            fresh = tmp_path / f"fresh-{number}"
            shutil.copytree(models / "saved" / "1", fresh)
            damage(fresh)
            fresh.rename(base / str(number))
            server.wait_for(lambda number=number: server.state(number, "saved")["state"] == "END", 60)
            status = server.state(number, "saved")["status"]
            assert status["error_code"] != "OK" and status["error_message"], number
            assert server.predict(asked(png(), model="saved")).model_spec.version.value == 1
        shutil.copytree(models / "saved" / "1", tmp_path / "good")
        (tmp_path / "good").rename(base / "8")
        server.wait_for(lambda: server.state(8, "saved")["state"] == "AVAILABLE", 60)
    finally:
        assert server.stop() == 0, server.log
