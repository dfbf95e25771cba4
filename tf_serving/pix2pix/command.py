"""`darkroom pix2pix`: the steps of a model's life as commands. Each imports what it needs when it runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from tf_serving.pix2pix.errors import DataError, Pix2PixError, Stopped

if TYPE_CHECKING:
    from tf_serving.pix2pix.data import Source
    from tf_serving.pix2pix.run import Run

app = typer.Typer(
    help="Train a Pix2Pix model, judge it, and make it ready to be served.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data = typer.Typer(help="Pairs of sketches and pictures: draw some, or look at yours.", no_args_is_help=True)
app.add_typer(data, name="data")

Folder = Annotated[
    Path | None, typer.Option("--data", help="A folder of pairs, side by side in one file each.")
]
Order = Annotated[str, typer.Option(help="Where the sketch is in such a file: sketch-left or sketch-right.")]
Sketches = Annotated[Path | None, typer.Option(help="Instead of --data: a folder of sketches ...")]
Pictures = Annotated[Path | None, typer.Option(help="... and one of pictures, under the same names.")]
HeldOut = Annotated[float, typer.Option(min=0.01, max=0.9, help="The share of pairs kept from training.")]
RunFolder = Annotated[Path, typer.Option("--run", help="The folder of the training.")]
Which = Annotated[str, typer.Option(help="The checkpoint: best (on held-out pairs) or last.")]
Threads = Annotated[int, typer.Option(min=0, help="Processor threads; 0 takes all.")]


@data.command()
def creatures(
    out: Annotated[Path, typer.Option(help="The folder to write to.")],
    count: Annotated[int, typer.Option(min=1, help="How many.")] = 2400,
    side: Annotated[int, typer.Option(min=16, max=1024, help="Their width and height in pixels.")] = 128,
    seed: Annotated[int, typer.Option(min=0, help="The first creature's number.")] = 0,
    order: Order = "sketch-left",
) -> None:
    """Draw creatures and their sketches, as pairs to train on."""
    needs("numpy")
    from rich.progress import track

    from tf_serving.pix2pix.creatures import write_one

    if order not in ("sketch-left", "sketch-right"):
        raise DataError(f"The order is sketch-left or sketch-right, not {order!r}.")
    out.mkdir(parents=True, exist_ok=True)
    for number in track(range(seed, seed + count), "drawing", console=Console(stderr=True)):
        write_one(out, number, side, sketch_left=order == "sketch-left")
    typer.echo(f"{count} pairs in {out}. Train on them: darkroom pix2pix train --data {out} --run RUN")


@data.command()
def check(
    folder: Folder = None,
    order: Order = "sketch-left",
    sketches: Sketches = None,
    pictures: Pictures = None,
    held_out: HeldOut = 0.1,
) -> None:
    """Decode every pair, and say which cannot be used and how many are held out."""
    tensorflow(0)
    from tf_serving.pix2pix.data import find

    found = find(_source(folder, order, sketches, pictures, held_out), typer.echo)
    typer.echo(
        f"{len(found.train)} to train on, {len(found.held_out)} held out, {len(found.skipped)} skipped"
    )


@app.command()
def train(
    run: RunFolder,
    folder: Folder = None,
    order: Order = "sketch-left",
    sketches: Sketches = None,
    pictures: Pictures = None,
    held_out: HeldOut = 0.1,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint of --run.")
    ] = False,
    from_tuning: Annotated[
        Path | None, typer.Option(help="A search's folder, whose best values to take.")
    ] = None,
    paper: Annotated[bool, typer.Option("--paper", help="The paper's 256x256 nets, for a GPU.")] = False,
    side: Annotated[int | None, typer.Option(help="Width and height of what the net sees.")] = None,
    width: Annotated[int | None, typer.Option(min=1, help="Channels of the outermost layer.")] = None,
    depth: Annotated[
        int | None, typer.Option(min=2, help="How often the generator halves the picture.")
    ] = None,
    dropout: Annotated[
        float | None, typer.Option(min=0, max=0.9, help="In the three innermost layers.")
    ] = None,
    norm: Annotated[str | None, typer.Option(help="instance, batch or none.")] = None,
    upsampling: Annotated[str | None, typer.Option(help="transpose, shuffle or resize.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="How many steps in all.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Pairs a step.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="The generator's. May change with --resume.")
    ] = None,
    judge_learning_rate: Annotated[
        float | None, typer.Option(help="The discriminator's. May change with --resume.")
    ] = None,
    l1: Annotated[
        float | None, typer.Option(help="Lambda: the weight of L1 beside the discriminator.")
    ] = None,
    decay_from: Annotated[
        float | None, typer.Option(min=0, max=1, help="After which share of the steps the rates fall.")
    ] = None,
    jitter: Annotated[
        float | None, typer.Option(min=0, max=1, help="Enlarge by up to this, and crop.")
    ] = None,
    shrink: Annotated[
        float | None,
        typer.Option(min=0, max=0.9, help="Or make smaller by up to this, on white: for drawings."),
    ] = None,
    mirror: Annotated[bool | None, typer.Option(help="Mirror half of the pairs.")] = None,
    seed: Annotated[int | None, typer.Option(min=0)] = None,
    look_every: Annotated[
        int | None, typer.Option(min=1, help="Steps between looks at held-out pairs.")
    ] = None,
    patience: Annotated[
        int | None, typer.Option(min=0, help="Stop after so many looks without a better one; 0: never.")
    ] = None,
    threads: Threads = 0,
) -> None:
    """Train, or go on training. Ctrl-C saves; curves, samples and TensorBoard's files are in the run's folder."""
    tensorflow(threads)
    from tf_serving.pix2pix import tune as tuning
    from tf_serving.pix2pix.model import PAPER, Shape
    from tf_serving.pix2pix.run import Recipe, Run
    from tf_serving.pix2pix.train import again, new
    from tf_serving.pix2pix.train import train as work

    asked = {
        "steps": steps, "batch": batch, "l1": l1, "decay_from": decay_from, "seed": seed,
        "jitter": jitter, "shrink": shrink, "mirror": mirror,
        "learning_rate": learning_rate, "judge_learning_rate": judge_learning_rate,
        "look_every": look_every, "patience": patience,
    }  # fmt: skip
    form = {
        "side": side,
        "width": width,
        "depth": depth,
        "dropout": dropout,
        "norm": norm,
        "upsampling": upsampling,
    }
    if resume:
        fixed = [name for name in ("batch", "seed") if asked[name] is not None]
        fixed += [name for name, value in form.items() if value is not None]
        if fixed or paper or from_tuning:
            raise Pix2PixError(
                f"What a training began with stays: leave out {', '.join(fixed) or '--paper'} with --resume."
            )
        mine = again(Run.read(run), **asked)
    else:
        shape, recipe = PAPER if paper else Shape(), Recipe()
        if from_tuning:
            shape, recipe = tuning.best_of(from_tuning, shape, recipe)
        shape, recipe = _with(shape, form), _with(recipe, asked)
        mine = new(run, _source(folder, order, sketches, pictures, held_out), shape, recipe)
    with ctrl_c():
        outcome = work(mine, resume=resume)
    seen = outcome.measures
    ended = (
        f"Stopped after {outcome.steps} steps: {outcome.stopped}."
        if outcome.stopped
        else f"{outcome.steps} steps."
    )
    if seen:
        typer.echo(f"{ended} Held out: L1 {seen.l1:.4f} (inside {seen.inside:.4f}), SSIM {seen.ssim:.4f}.")
    typer.echo(
        f"Look at {run / 'curves.png'} and {run / 'progress.webp'}; then: darkroom pix2pix report --run {run}"
    )


@app.command()
def tune(
    out: Annotated[Path, typer.Option(help="The folder of the search. The same again goes on with it.")],
    folder: Folder = None,
    order: Order = "sketch-left",
    sketches: Sketches = None,
    pictures: Pictures = None,
    held_out: HeldOut = 0.1,
    way: Annotated[str, typer.Option(help="hyperband or bayesian.")] = "hyperband",
    trials: Annotated[int, typer.Option(min=1, help="Trials of the Bayesian search.")] = 12,
    unit: Annotated[int, typer.Option(min=1, help="Steps of the shortest trial.")] = 200,
    longest: Annotated[int, typer.Option(min=1, help="Units of the longest trial.")] = 9,
    side: Annotated[int | None, typer.Option()] = None,
    width: Annotated[
        int | None, typer.Option(help="Half of it and half as much again are tried too.")
    ] = None,
    depth: Annotated[int | None, typer.Option(min=2)] = None,
    batch: Annotated[int | None, typer.Option(min=1)] = None,
    seed: Annotated[int | None, typer.Option(min=0)] = None,
    threads: Threads = 0,
) -> None:
    """Search learning rates, lambda, width, dropout and norm with KerasTuner."""
    tensorflow(threads)
    needs("keras_tuner")
    from tf_serving.pix2pix.model import Shape
    from tf_serving.pix2pix.run import Recipe
    from tf_serving.pix2pix.tune import tune as search

    shape = _with(Shape(), {"side": side, "width": width, "depth": depth})
    recipe = _with(Recipe(), {"batch": batch, "seed": seed})
    source = _source(folder, order, sketches, pictures, held_out)
    with ctrl_c():
        found = search(out, source, shape, recipe, way=way, trials=trials, unit=unit, longest=longest)
    words = (f"{value:.4g}" if isinstance(value, float) else str(value) for value in found["best"].values())
    best = ", ".join(f"{key} {word}" for key, word in zip(found["best"], words, strict=True))
    typer.echo(f"The best of {found['trials']} trials: {best}; held-out L1 {found['held_out_l1']:.4f}.")
    typer.echo(f"Look at {out / 'trials.png'}; then: darkroom pix2pix train --from-tuning {out} ...")


@app.command()
def report(run: RunFolder, which: Which = "best", threads: Threads = 0) -> None:
    """Measure the model on trained and held-out pairs, and write report.html."""
    tensorflow(threads)
    from tf_serving.pix2pix.report import report as written

    numbers = written(_run(run), which)
    for name in ("l1", "inside", "ssim", "features"):
        train_, held = numbers["train"][name], numbers["held_out"][name]
        typer.echo(f"{name:9} train {train_:.4f}  held out {held:.4f}  gap {numbers['gap'][name]:+.1%}")
    typer.echo(f"{numbers['verdict']}\n{run / 'report.html'}")


@app.command()
def export(
    run: RunFolder,
    out: Annotated[Path, typer.Option(help="The model's folder; a version is added in it.")],
    name: Annotated[str, typer.Option(help="The model's name, as it is served.")] = "creatures",
    version: Annotated[int | None, typer.Option(min=1, help="Its number; otherwise the next.")] = None,
    which: Which = "best",
) -> None:
    """Write a SavedModel for TensorFlow Serving."""
    tensorflow(0)
    from tf_serving.pix2pix.export import export as written

    mine = _run(run)
    generator, step = mine.generator(which)
    typer.echo(written(generator, out, name, _facts(mine, step), _sketch_files(mine, 8), version))


@app.command()
def convert(
    run: RunFolder,
    out: Annotated[Path, typer.Option(help="The model's folder; a version is added in it.")],
    name: Annotated[str, typer.Option(help="The model's name, as it is served.")] = "creatures",
    version: Annotated[int | None, typer.Option(min=1, help="Its number; otherwise the next.")] = None,
    which: Which = "best",
) -> None:
    """Write TFLite files for the embedded server, each checked and timed."""
    tensorflow(0)
    needs("ai_edge_litert")
    from tf_serving.pix2pix.convert import convert as written

    mine = _run(run)
    generator, step = mine.generator(which)
    folder = written(generator, out, name, _facts(mine, step), _sketch_pixels(mine, 24), version)
    typer.echo((folder / "conversion.md").read_text())
    typer.echo(folder)


@app.command()
def predict(
    sketch: Annotated[Path, typer.Argument(help="A sketch: PNG, JPEG, GIF or BMP, of any size.")],
    out: Annotated[Path, typer.Option(help="The PNG to write.")],
    run: Annotated[
        Path | None, typer.Option("--run", help="A training, whose best checkpoint to take.")
    ] = None,
    model: Annotated[Path | None, typer.Option(help="Or a version folder: a SavedModel, or TFLite.")] = None,
) -> None:
    """Colour one sketch."""
    tensorflow(0)
    from tf_serving.pix2pix.predict import coloured, from_run, from_version

    if (run is None) == (model is None):
        raise Pix2PixError("Name a training with --run, or a version folder with --model.")
    if not sketch.is_file():
        raise DataError(f"There is no file {sketch}.")
    net = from_run(_run(run)) if run else from_version(model)  # type: ignore[arg-type]
    out.write_bytes(coloured(net, sketch))
    typer.echo(out)


# What the commands share


def tensorflow(threads: int) -> None:
    """TensorFlow, quiet, with so many threads; or the sentence that says how to get it."""
    needs("tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)


@contextmanager
def ctrl_c() -> Iterator[None]:
    """Says what was saved; Typer would only say that it was aborted."""
    try:
        yield
    except Stopped as stopped:
        typer.echo(stopped, err=True)
        raise typer.Exit(130) from None


def needs(module: str) -> None:
    if find_spec(module) is None:
        raise Pix2PixError(f'This needs {module}, which is not installed: pip install "darkroom[pix2pix]"')


def _source(
    folder: Path | None, order: str, sketches: Path | None, pictures: Path | None, held_out: float
) -> Source:
    from tf_serving.pix2pix.data import Source

    return Source(folder, order, sketches, pictures, held_out)


def _run(folder: Path) -> Run:
    from tf_serving.pix2pix.run import Run

    return Run.read(folder)


def _with(one: Any, changed: dict[str, Any]) -> Any:
    """A shape or a recipe with what was asked for put in."""
    from dataclasses import replace

    return replace(one, **{key: value for key, value in changed.items() if value is not None})


def _facts(run: Run, step: int) -> dict[str, Any]:
    from tf_serving.pix2pix.report import figures

    return {"step": step, "shape": run.shape.as_dict(), "figures": figures(run.folder)}


def _sketch_pixels(run: Run, count: int) -> Any:
    """Held-out sketches, in the net's range."""
    from tf_serving.pix2pix.data import evaluation, find

    pairs = find(run.source).held_out[:count]
    batch = next(iter(evaluation(pairs, run.source.order, run.shape.side, count)))
    return batch[0].numpy()


def _sketch_files(run: Run, count: int) -> list[bytes]:
    """The same as PNG files."""
    from tf_serving.pix2pix.graph import png_of_shares
    from tf_serving.pix2pix.ranges import shares_of_net

    return [png_of_shares(shares_of_net(one)).numpy() for one in _sketch_pixels(run, count)]


def main() -> None:
    """What stops a command is a sentence, never a traceback."""
    try:
        app(prog_name="darkroom pix2pix")
    except Pix2PixError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(1)
