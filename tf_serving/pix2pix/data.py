"""Paired pictures: in go folders, out come tf.data sets of (sketch, picture) in the net's range.

Pairs lie side by side in one file, either order (as in the public facades and sketch-to-pokemon sets), or in two
folders under the same names. Some are held out: those in a folder called `val` or `test` if there is one, else by a
checksum of the file's name, so that a pair stays on its side when others are added.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from tf_serving.pix2pix.errors import DataError
from tf_serving.pix2pix.graph import ink_of_file
from tf_serving.pix2pix.ranges import Tensor, net_of_shares

Say = Callable[[str], None]

SUFFIXES = {".png", ".jpg", ".jpeg", ".gif", ".bmp"}
ORDERS = ("sketch-left", "sketch-right")
HELD_OUT_FOLDERS = {"val", "validation", "test", "held-out"}


@dataclass(frozen=True)
class Source:
    """Where pairs come from: one folder of side-by-side files, or two folders."""

    folder: Path | None = None
    order: str = "sketch-left"
    sketches: Path | None = None
    pictures: Path | None = None
    held_out: float = 0.1  # the share that is kept from training

    def __post_init__(self) -> None:
        if self.order not in ORDERS:
            raise DataError(f"The order is one of {', '.join(ORDERS)}, not {self.order!r}.")
        if (self.folder is None) == (self.sketches is None and self.pictures is None):
            raise DataError(
                "Name one folder of side-by-side pictures, or two: one of sketches, one of pictures."
            )
        if (self.sketches is None) != (self.pictures is None):
            raise DataError("A folder of sketches needs a folder of pictures, and the other way round.")

    def as_dict(self) -> dict[str, str | float | None]:
        return {
            "folder": str(self.folder.resolve()) if self.folder else None,
            "order": self.order,
            "sketches": str(self.sketches.resolve()) if self.sketches else None,
            "pictures": str(self.pictures.resolve()) if self.pictures else None,
            "held_out": self.held_out,
        }

    @classmethod
    def of_dict(cls, said: dict[str, str | float | None]) -> Source:
        paths = {key: Path(str(said[key])) for key in ("folder", "sketches", "pictures") if said.get(key)}
        return cls(**paths, order=str(said["order"]), held_out=float(said["held_out"] or 0))


@dataclass(frozen=True)
class Pair:
    """Two files, or one twice."""

    name: str
    sketch: Path
    picture: Path


@dataclass(frozen=True)
class Pairs:
    train: tuple[Pair, ...]
    held_out: tuple[Pair, ...]
    skipped: tuple[str, ...]  # a sentence for each file that could not be used


def find(source: Source, say: Say = lambda _: None) -> Pairs:
    """All usable pairs, each decoded once to know that it is; what is not usable is said and left out."""
    found = list(_two_folders(source, say)) if source.folder is None else list(_side_by_side(source.folder))
    skipped: list[str] = []
    train: list[Pair] = []
    held: list[Pair] = []
    by_folder = any(_in_held_out_folder(pair) for pair in found)
    for pair in found:
        trouble = _trouble(pair)
        if trouble:
            skipped.append(trouble)
            say(f"Skipped {trouble}")
        elif _in_held_out_folder(pair) if by_folder else held_out(pair.name, source.held_out):
            held.append(pair)
        else:
            train.append(pair)
    where = source.folder or source.sketches
    if not train:
        raise DataError(
            f"No usable pair to train on in {where}: it wants files ending in {', '.join(sorted(SUFFIXES))}, "
            f"and {len(skipped)} of {len(found)} could not be read."
        )
    if not held:
        raise DataError(
            f"None of the {len(train)} pairs in {where} is held out, and nothing would tell whether the model "
            "over-fits: add pairs, put some into a folder `val`, or raise the held-out share."
        )
    return Pairs(tuple(train), tuple(held), tuple(skipped))


def held_out(name: str, share: float) -> bool:
    """Whether a pair is kept from training; by its file's name alone, without folder and suffix."""
    stem = Path(name).stem
    return int.from_bytes(hashlib.sha256(stem.encode()).digest()[:4]) / 2**32 < share


def _in_held_out_folder(pair: Pair) -> bool:
    return bool(HELD_OUT_FOLDERS & {part.lower() for part in Path(pair.name).parts[:-1]})


def _side_by_side(folder: Path) -> Iterator[Pair]:
    for path in _files(folder):
        yield Pair(path.relative_to(folder).as_posix(), path, path)


def _two_folders(source: Source, say: Say) -> Iterator[Pair]:
    assert source.sketches and source.pictures
    pictures = {p.relative_to(source.pictures).with_suffix("").as_posix(): p for p in _files(source.pictures)}
    for sketch in _files(source.sketches):
        key = sketch.relative_to(source.sketches).with_suffix("").as_posix()
        picture = pictures.pop(key, None)
        if picture is None:
            say(f"Skipped {sketch}: there is no picture called {key} in {source.pictures}")
        else:
            yield Pair(sketch.relative_to(source.sketches).as_posix(), sketch, picture)
    for picture in pictures.values():
        say(f"Skipped {picture}: there is no sketch of that name in {source.sketches}")


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(
            f"There is no folder {folder}. `darkroom pix2pix data creatures --out {folder}` makes one."
        )
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())


def _trouble(pair: Pair) -> str | None:
    """Why a pair cannot be used, if so: what training will do to its files is done here once."""
    sizes = []
    for path in dict.fromkeys((pair.sketch, pair.picture)):
        try:
            ink = ink_of_file(tf.constant(path.read_bytes()))
        except (tf.errors.OpError, OSError) as error:
            return f"{path}: it cannot be decoded ({str(error).splitlines()[0][:120]})"
        sizes.append((int(ink.shape[0]), int(ink.shape[1])))
    if pair.sketch == pair.picture and sizes[0][1] % 2:
        return f"{pair.sketch}: {sizes[0][1]} pixels wide cannot be two pictures side by side"
    if pair.sketch != pair.picture and sizes[0] != sizes[1]:
        return f"{pair.sketch}: it is not as large as {pair.picture}"
    return None


# What the net is given


def evaluation(pairs: tuple[Pair, ...], order: str, side: int, batch: int) -> tf.data.Dataset:
    """The pairs in their order, whole, each once."""
    files = tf.data.Dataset.from_tensor_slices(_paths(pairs))
    return files.map(lambda both: _whole(both, order, side), tf.data.AUTOTUNE).batch(batch).prefetch(2)


def training(
    pairs: tuple[Pair, ...],
    order: str,
    side: int,
    batch: int,
    *,
    seed: int,
    start: int,
    steps: int,
    jitter: float = 0.12,
    shrink: float = 0.0,
    mirror: bool = True,
) -> tf.data.Dataset:
    """The batches of the steps from `start` to `steps`. What a step is given follows from seed and number alone."""
    paths, count, last = tf.constant(_paths(pairs)), len(pairs), tf.constant(len(pairs) - 1, tf.int64)

    def load(position: Tensor) -> tuple[Tensor, Tensor]:
        epoch, within = position // count, position % count
        index = tf.random.experimental.index_shuffle(within, tf.stack([seed, epoch]), last)
        return _jittered(_both(paths[index], order), side, tf.stack([seed, position]), jitter, shrink, mirror)

    positions = tf.data.Dataset.range(start * batch, steps * batch)
    return positions.map(load, tf.data.AUTOTUNE, deterministic=True).batch(batch).prefetch(4)


def _paths(pairs: tuple[Pair, ...]) -> list[list[str]]:
    return [[str(pair.sketch), str(pair.picture)] for pair in pairs]


def _both(paths: Tensor, order: str) -> Tensor:
    """Shares [h, w, 6]: the sketch, and on it the picture."""
    sketch = 1.0 - ink_of_file(tf.io.read_file(paths[0]))

    def halves() -> tuple[Tensor, Tensor]:
        half = tf.shape(sketch)[1] // 2
        left, right = sketch[:, :half], sketch[:, half : 2 * half]
        return (left, right) if order == "sketch-left" else (right, left)

    def other() -> tuple[Tensor, Tensor]:
        return sketch, 1.0 - ink_of_file(tf.io.read_file(paths[1]))

    return tf.concat(tf.cond(tf.equal(paths[0], paths[1]), halves, other), axis=-1)


def _whole(paths: Tensor, order: str, side: int) -> tuple[Tensor, Tensor]:
    return _split(tf.image.resize(_both(paths, order), (side, side), antialias=True), side)


def _jittered(
    both: Tensor, side: int, seed: Tensor, jitter: float, shrink: float, mirror: bool
) -> tuple[Tensor, Tensor]:
    """Made larger or smaller, cut out of or put on white at random, mirrored or not; the sketch as the picture."""
    by, top, left, turned = tf.unstack(tf.random.stateless_uniform([4], seed))
    least, most = round(side * (1 - shrink)), round(side * (1 + jitter))
    scaled = least + tf.cast(tf.floor(by * (most - least + 1)), tf.int32)
    both = tf.image.resize(both, tf.stack([scaled, scaled]), antialias=True)
    white = tf.maximum(side - scaled, 0)
    above, before = _share(top, white), _share(left, white)
    both = tf.pad(both, [[above, white - above], [before, white - before], [0, 0]], constant_values=1.0)
    rest = tf.maximum(scaled - side, 0)
    y, x = _share(top, rest), _share(left, rest)
    both = both[y : y + side, x : x + side]
    if mirror:
        both = tf.where(turned < 0.5, tf.reverse(both, [1]), both)
    return _split(both, side)


def _share(of: Tensor, room: Tensor) -> Tensor:
    """A whole number from 0 to `room`, as far along as `of` is from 0 to 1."""
    return tf.cast(tf.floor(of * tf.cast(room + 1, tf.float32)), tf.int32)


def _split(both: Tensor, side: int) -> tuple[Tensor, Tensor]:
    both.set_shape([side, side, 6])
    both = net_of_shares(both)
    return both[..., :3], both[..., 3:]
