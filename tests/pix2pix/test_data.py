"""Data: found, checked, split, and given to the net in its range."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tf_serving.pix2pix import data
from tf_serving.pix2pix.errors import DataError

SIDE = 32


def colour(name: str, size: tuple[int, int] = (SIDE, SIDE)) -> Image.Image:
    return Image.new("RGB", size, name)


def side_by_side(path: Path, left: str = "black", right: str = "red") -> Path:
    both = colour("white", (2 * SIDE, SIDE))
    both.paste(colour(left), (0, 0))
    both.paste(colour(right), (SIDE, 0))
    path.parent.mkdir(parents=True, exist_ok=True)
    both.save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(40):
        side_by_side(tmp_path / f"pair-{number:02d}.png")
    return tmp_path


def first(pairs: tuple[data.Pair, ...], order: str) -> tuple[np.ndarray, np.ndarray]:
    sketch, picture = next(iter(data.evaluation(pairs, order, SIDE, 4)))
    return sketch.numpy()[0], picture.numpy()[0]


def test_either_order_gives_the_same_pair(tmp_path: Path) -> None:
    one = side_by_side(tmp_path / "a" / "x.png", "black", "red")
    other = side_by_side(tmp_path / "b" / "x.png", "red", "black")
    for path, order in ((one, "sketch-left"), (other, "sketch-right")):
        sketch, picture = first((data.Pair("x.png", path, path),), order)
        assert np.allclose(sketch, -1) and np.allclose(picture, [1, -1, -1])


def test_two_folders_are_paired_by_name_and_what_is_alone_is_said(tmp_path: Path) -> None:
    for number in range(30):
        for kind, shade in (("sketches", "black"), ("pictures", "red")):
            (tmp_path / kind).mkdir(exist_ok=True)
            suffix = ".jpg" if kind == "pictures" else ".png"
            colour(shade).save(tmp_path / kind / f"{number}{suffix}")
    colour("black").save(tmp_path / "sketches" / "alone.png")
    colour("red").save(tmp_path / "pictures" / "lonely.png")
    said: list[str] = []
    source = data.Source(sketches=tmp_path / "sketches", pictures=tmp_path / "pictures", held_out=0.3)
    found = data.find(source, said.append)
    assert len(found.train) + len(found.held_out) == 30
    assert any("alone.png" in one for one in said) and any("lonely.png" in one for one in said)
    sketch, picture = first(found.train, "sketch-left")
    assert np.allclose(sketch, -1) and np.allclose(picture, [1, -1, -1], atol=0.05)


def test_the_split_does_not_change_when_pairs_come_or_the_suffix_does(folder: Path) -> None:
    source = data.Source(folder, held_out=0.3)
    before = {pair.name for pair in data.find(source).held_out}
    for number in range(100, 140):
        side_by_side(folder / f"pair-{number}.png")
    after = data.find(source)
    assert before and before == {pair.name for pair in after.held_out if len(pair.name) == 11}
    assert not {pair.name for pair in after.train} & {pair.name for pair in after.held_out}
    assert all(data.held_out(f"{Path(name).stem}.jpg", 0.3) for name in before)


def test_about_the_asked_share_is_held_out() -> None:
    share = np.mean([data.held_out(f"creature-{number:06d}.png", 0.1) for number in range(5000)])
    assert 0.08 < share < 0.12


def test_a_folder_called_val_is_what_is_held_out(tmp_path: Path) -> None:
    for number in range(6):
        side_by_side(tmp_path / ("val" if number % 3 == 0 else "train") / f"{number}.png")
    found = data.find(data.Source(tmp_path))
    assert {pair.name for pair in found.held_out} == {"val/0.png", "val/3.png"} and len(found.train) == 4


def test_bad_files_are_named_and_left_out(folder: Path) -> None:
    (folder / "text.png").write_text("not a picture")
    whole = (folder / "pair-00.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.jpg").write_bytes(b"")
    colour("red", (33, 32)).save(folder / "odd.png")
    (folder / "notes.txt").write_text("no picture, and not taken for one")
    said: list[str] = []
    found = data.find(data.Source(folder), said.append)
    assert len(found.train) + len(found.held_out) == 40
    assert len(found.skipped) == 4 and "\n".join(said).count("Skipped") == 4
    for name in ("text.png", "cut.png", "empty.jpg", "odd.png"):
        assert any(name in sentence for sentence in found.skipped), name


def test_what_cannot_be_used_at_all_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="darkroom pix2pix data creatures"):
        data.find(data.Source(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="No usable pair"):
        data.find(data.Source(tmp_path))
    with pytest.raises(DataError, match="two"):
        data.Source()
    with pytest.raises(DataError, match="sketch-left"):
        data.Source(tmp_path, order="left")
    names = (f"{n}.png" for n in range(1000))
    side_by_side(tmp_path / next(name for name in names if not data.held_out(name, 0.1)))
    with pytest.raises(DataError, match="over-fits"):
        data.find(data.Source(tmp_path))


def test_transparent_and_grey_pictures_lie_on_white(tmp_path: Path) -> None:
    see_through = Image.new("RGBA", (2 * SIDE, SIDE), (0, 0, 0, 0))
    grey = Image.new("L", (2 * SIDE, SIDE), 255)
    bits = Image.new("1", (2 * SIDE, SIDE), 1)
    for name, one in (("rgba", see_through), ("grey", grey), ("bits", bits)):
        path = tmp_path / f"{name}.png"
        one.save(path)
        sketch, picture = first((data.Pair(name, path, path),), "sketch-left")
        assert np.allclose(sketch, 1) and np.allclose(picture, 1), name


def batches(pairs: tuple[data.Pair, ...], **more: object) -> list[tuple[np.ndarray, np.ndarray]]:
    options = {"seed": 5, "start": 0, "steps": 6, **more}
    made = data.training(pairs, "sketch-left", SIDE, 4, **options)  # type: ignore[arg-type]
    return [(sketch.numpy(), picture.numpy()) for sketch, picture in made]


@pytest.fixture
def patterned(tmp_path: Path) -> tuple[data.Pair, ...]:
    """Pairs whose picture is their sketch in other colours, so that what happens to one can be seen in the other."""
    rng, pairs = np.random.default_rng(1), []
    for number in range(10):
        grey = rng.integers(0, 256, (SIDE, SIDE, 1), dtype=np.uint8).repeat(3, -1)
        path = tmp_path / f"{number}.png"
        Image.fromarray(np.concatenate([grey, 255 - grey], 1)).save(path)
        pairs.append(data.Pair(path.name, path, path))
    return tuple(pairs)


def test_sketch_and_picture_are_cut_and_mirrored_alike_and_each_time_otherwise(
    patterned: tuple[data.Pair, ...],
) -> None:
    seen = batches(patterned)
    for sketch, picture in seen:
        assert sketch.shape == (4, SIDE, SIDE, 3) and sketch.min() >= -1 and sketch.max() <= 1
        assert np.allclose(sketch, -picture, atol=1e-4)
    assert len({one.tobytes() for sketch, _ in seen for one in sketch}) == 24


def test_smaller_ones_lie_on_white_sketch_and_picture_in_the_same_place(tmp_path: Path) -> None:
    path = side_by_side(tmp_path / "x.png", "black", "red")
    wide, places = [], set()
    for sketch, picture in batches((data.Pair("x.png", path, path),), shrink=0.5, jitter=0.0):
        for drawn, painted in zip(sketch, picture, strict=True):
            dark, red = drawn[..., 1] < 0, painted[..., 1] < 0
            assert np.array_equal(dark, red) and np.allclose(drawn[~dark], 1, atol=0.9)
            rows, columns = np.flatnonzero(dark.any(1)), np.flatnonzero(dark.any(0))
            assert dark.sum() == len(rows) * len(columns), "it is whole"
            wide.append(len(columns))
            places.add((rows[0], columns[0]))
    assert min(wide) < 22 and max(wide) > 26 and len(places) > 8


def test_an_epoch_holds_each_pair_once(patterned: tuple[data.Pair, ...]) -> None:
    whole = {first((pair,), "sketch-left")[0].tobytes(): pair.name for pair in patterned}
    seen = [one for sketch, _ in batches(patterned, jitter=0.0, mirror=False, steps=5) for one in sketch]
    names = [whole[one.tobytes()] for one in seen]
    assert len(set(names[:10])) == 10 and len(set(names[10:])) == 10
    assert names[:10] != names[10:], "the order is another in each epoch"


def test_going_on_at_a_step_gives_what_an_unbroken_training_is_given(
    patterned: tuple[data.Pair, ...],
) -> None:
    whole, rest = batches(patterned), batches(patterned, start=4)
    for (a, b), (c, d) in zip(whole[4:], rest, strict=True):
        assert np.array_equal(a, c) and np.array_equal(b, d)
    assert not np.array_equal(batches(patterned, seed=6)[0][0], whole[0][0])


def test_only_one_module_changes_ranges() -> None:
    """What broke this model before: `/ 127.5`, `/ 255`, `* 2 - 1` strewn about."""
    package = Path(data.__file__).parent
    strewn = ("127.5", "/ 255", "* 255", "255.0", "* 2 - 1", "* 2.0 - 1", "+ 1) / 2", "+ 1.0) / 2")
    for path in package.glob("*.py"):
        if path.name in ("ranges.py", "measures.py"):  # measures centres shares for filters, and says so
            continue
        text = path.read_text()
        assert not [pattern for pattern in strewn if pattern in text], path.name


def test_ranges_go_there_and_back() -> None:
    from tf_serving.pix2pix import ranges

    values = tf.range(256)
    shares = ranges.shares_of_bytes(values)
    assert (float(shares[0]), float(shares[-1])) == (0.0, 1.0)
    net = ranges.net_of_shares(shares)
    assert (float(net[0]), float(net[-1])) == (-1.0, 1.0)
    assert np.array_equal(ranges.bytes_of_shares(ranges.shares_of_net(net)), values)
    assert (
        int(ranges.bytes_of_shares(tf.constant(1.5))) == 255
        and float(ranges.shares_of_net(tf.constant(-3.0))) == 0
    )
