"""Export: files in, files out, all inside the graph; whole or not there; with warm-up records."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageDraw

from tf_serving.pix2pix import export, graph, model
from tf_serving.pix2pix.errors import ExportError

SIDE = 32


@pytest.fixture(scope="module")
def generator() -> Any:
    return model.generator(model.Shape(side=SIDE, width=4, depth=3, dropout=0.5), seed=3)


@pytest.fixture(scope="module")
def folder(generator: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("models") / "tiny"
    return export.export(generator, base, "tiny", {"step": 1}, [drawn((40, 30)), drawn((20, 20))])


@pytest.fixture(scope="module")
def served(folder: Path) -> Any:
    loaded = tf.saved_model.load(str(folder))
    assert set(loaded.signatures) == {"serving_default", "picture", "tensor"}
    return loaded.signatures


def sketch(size: tuple[int, int], mode: str = "RGB") -> Image.Image:
    picture = Image.new("RGB", size, "white")
    wide, high = size
    ImageDraw.Draw(picture).ellipse(
        [wide * 0.2, high * 0.1, wide * 0.7, high * 0.8], outline="black", width=2
    )
    return picture.convert(mode)


def encoded(picture: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, form, **options)
    return out.getvalue()


def drawn(size: tuple[int, int]) -> bytes:
    return encoded(sketch(size))


def pixels(png: Any) -> np.ndarray:
    made = Image.open(io.BytesIO(bytes(png)))
    assert (made.format, made.mode) == ("PNG", "RGB")
    return np.asarray(made).astype(int)


def ask(served: Any, *files: bytes) -> list[np.ndarray]:
    return [
        pixels(one)
        for one in served["serving_default"](image_bytes=tf.constant(files))["image_bytes"].numpy()
    ]


def test_each_result_of_a_batch_has_its_sketchs_size(served: Any) -> None:
    sizes = [(SIDE, SIDE), (100, 40), (7, 50), (1, 1), (300, 200)]
    made = ask(served, *(drawn(size) for size in sizes))
    assert [one.shape for one in made] == [(high, wide, 3) for wide, high in sizes]
    assert len({one.tobytes() for one in made}) == len(sizes)


def test_a_batch_gives_what_each_gives_alone(served: Any) -> None:
    files = [drawn((50, 30)), drawn((30, 50)), drawn((64, 64))]
    for file, made in zip(files, ask(served, *files), strict=True):
        assert (
            np.abs(
                made - pixels(served["picture"](image_bytes=tf.constant(file))["image_bytes"].numpy())
            ).max()
            <= 1
        )


def test_an_empty_batch_is_the_callers_error(served: Any) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match="holds no picture"):
        served["serving_default"](image_bytes=tf.constant([], tf.string))


def test_the_tensor_signature_is_the_same_in_shares(served: Any) -> None:
    shares = tf.constant(np.asarray(sketch((48, 40)))[None] / 255, tf.float32)
    made = served["tensor"](image=shares)["image"].numpy()
    assert made.shape == (1, 40, 48, 3) and made.min() >= 0 and made.max() <= 1
    assert np.abs(np.round(made[0] * 255) - ask(served, drawn((48, 40)))[0]).max() <= 1


def test_at_the_nets_own_size_the_graph_is_the_generator(served: Any, generator: Any) -> None:
    values = np.asarray(sketch((SIDE, SIDE))).astype(np.float32)
    wanted = (generator(values[None] / 127.5 - 1, training=False).numpy()[0] + 1) * 127.5
    assert np.abs(ask(served, drawn((SIDE, SIDE)))[0] - np.round(wanted)).max() <= 1


def test_every_form_of_the_same_sketch_gives_the_same(served: Any) -> None:
    grey = sketch((40, 40), "L").point(lambda v: 255 if v > 127 else 0)
    see_through = Image.merge("RGBA", [Image.new("L", grey.size, 0)] * 3 + [grey.point(lambda v: 255 - v)])
    wide = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)  # 16 bits
    palette, both = grey.convert("P"), Image.merge("LA", [grey, Image.new("L", grey.size, 255)])
    first = ask(served, encoded(grey))[0]
    forms = {
        "RGB": encoded(grey.convert("RGB")), "RGBA": encoded(see_through), "16 bits": encoded(wide),
        "palette": encoded(palette), "grey and alpha": encoded(both), "one bit": encoded(grey.convert("1")),
        "GIF": encoded(grey, "GIF"), "BMP": encoded(grey.convert("RGB"), "BMP"),
        "interlaced BMP with four channels": encoded(grey.convert("RGBA"), "BMP"),
    }  # fmt: skip
    for name, file in forms.items():
        assert np.array_equal(ask(served, file)[0], first), name
    assert np.abs(ask(served, encoded(grey, "JPEG", quality=100))[0] - first).mean() < 2


def test_a_long_sketch_lies_in_the_middle_of_white_and_keeps_its_proportions(served: Any) -> None:
    long = sketch((20, 10))
    square = Image.new("RGB", (20, 20), "white")
    square.paste(long, (0, 5))
    assert np.abs(ask(served, encoded(long))[0] - ask(served, encoded(square))[0][5:15]).max() <= 1


def test_the_filter_is_that_of_pictures_md() -> None:
    """Against Pillow, whose bilinear filter is the same triangle, in eight bits."""
    for size in ((100, 100), (32, 32), (20, 20), (333, 333)):
        picture = sketch(size)
        ink = 1 - tf.constant(np.asarray(picture) / 255, tf.float32)
        fitted = np.asarray((graph.net_of_ink(ink, SIDE) + 1) * 127.5)
        wanted = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR)).astype(float)
        assert np.abs(fitted - wanted).max() <= 1.5, size


@pytest.mark.parametrize(
    "junk", [b"", b"text", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0junk", b"GIF89a", b"BM"]
)
def test_what_is_no_picture_is_the_callers_error(served: Any, junk: bytes) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError):
        ask(served, junk)
    with pytest.raises(tf.errors.InvalidArgumentError):
        ask(served, drawn((40, 40))[:-40])


def test_inputs_and_outputs_are_named_for_rests_base64(served: Any) -> None:
    for name in ("serving_default", "picture"):
        assert list(served[name].structured_outputs) == ["image_bytes"]
        assert list(served[name].structured_input_signature[1]) == ["image_bytes"]
    assert served["serving_default"].structured_input_signature[1]["image_bytes"].shape.as_list() == [None]


def test_warm_up_records_are_requests_that_the_model_answers(folder: Path, served: Any) -> None:
    from tf_serving.stubs import PredictionLog

    path = folder / "assets.extra" / "tf_serving_warmup_requests"
    asked = []
    for record in tf.data.TFRecordDataset(str(path)):
        request = PredictionLog.FromString(record.numpy()).predict_log.request
        assert request.model_spec.name == "tiny"
        ((key, value),) = request.inputs.items()
        proto = tf.make_tensor_proto(0.0)
        proto.ParseFromString(value.SerializeToString())
        signature = request.model_spec.signature_name
        served[signature](**{key: tf.constant(tf.make_ndarray(proto))})
        asked.append((signature, [dim.size for dim in value.tensor_shape.dim]))
    assert asked[:4] == [("serving_default", [n]) for n in (1, 2, 4, 8)]
    assert [name for name, _ in asked[4:]] == ["picture", "tensor"]


def test_the_folder_says_what_it_is(folder: Path) -> None:
    said = json.loads((folder / "model.json").read_text())
    assert (said["name"], said["side"], said["version"], said["pictures"], said["step"]) == (
        "tiny",
        SIDE,
        1,
        1,
        1,
    )
    assert said["signatures"] == ["serving_default", "picture", "tensor"]
    assert (folder / "saved_model.pb").exists() and list((folder / "variables").iterdir())


def test_versions_count_up_and_are_never_changed(tmp_path: Path) -> None:
    for wanted in (1, 2):
        with export.version_folder(tmp_path) as (part, number):
            assert number == wanted and not part.name.isdecimal()
    with export.version_folder(tmp_path, 10):
        pass
    with export.version_folder(tmp_path) as (_, number):
        assert number == 11
    with pytest.raises(ExportError, match="another number"), export.version_folder(tmp_path, 10):
        pass


def test_a_version_that_was_not_finished_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), export.version_folder(tmp_path) as (part, _):
        (part / "half").write_text("")
        assert [path.name for path in tmp_path.iterdir()] == [part.name]
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
