"""The report: a run in; out comes `report.html`, one file with its pictures inside, and `report.json` with the numbers.

It puts the measures on pairs that the model was trained on beside those on pairs that it never saw, with the gap, and
says in a sentence whether it over-fits. Beside them stands what the sketch itself would get, unchanged, so that the
numbers mean something.
"""

from __future__ import annotations

import base64
import html
import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import tensorflow as tf
from PIL import Image

from tf_serving.pix2pix import data, model, plots
from tf_serving.pix2pix.measures import FEATURES, NAMES, Measures, mean, measure
from tf_serving.pix2pix.ranges import shares_of_net
from tf_serving.pix2pix.run import Run
from tf_serving.pix2pix.train import Judge, images

TITLES = {
    "l1": "L1, whole picture (0 to 1, less is better)",
    "inside": "L1 inside, where the true picture is not paper",
    "ssim": "SSIM (more is better)",
    "features": "feature distance (less is better)",
}
SHOWN = 12
A_LITTLE, MUCH = 0.10, 0.30  # by which share held-out pairs may be worse


def report(run: Run, which: str = "best", most: int = 500) -> dict[str, Any]:
    """Writes both files and returns the numbers. Of trained and held-out pairs the same number is measured."""
    generator, step = run.generator(which)
    pairs = data.find(run.source)
    count = min(most, len(pairs.train), len(pairs.held_out))
    side, order = run.shape.side, run.source.order
    sets = {
        "train": data.evaluation(pairs.train[:count], order, side, 16),
        "held_out": data.evaluation(pairs.held_out[:count], order, side, 16),
    }
    judge = Judge(generator)
    seen = {name: judge(one) for name, one in sets.items()}
    sketch = mean(measure(shares_of_net(s), shares_of_net(p)) for s, p in sets["held_out"])
    numbers = {
        "step": step,
        "which": which,
        "parameters": {"generator": model.parameters(generator)},
        "pairs": {"train": len(pairs.train), "held_out": len(pairs.held_out), "skipped": list(pairs.skipped)},
        "train": asdict(seen["train"]),
        "held_out": asdict(seen["held_out"]),
        "sketch": asdict(sketch),
        "gap": gap(seen["train"], seen["held_out"]),
        "verdict": verdict(seen["train"], seen["held_out"], run.past()),
    }
    shown = {name: _rows(generator, one) for name, one in sets.items()}
    (run.folder / "report.json").write_text(json.dumps(numbers, indent=2) + "\n")
    (run.folder / "report.html").write_text(page(run, numbers, shown))
    return numbers


def gap(train: Measures, held_out: Measures) -> dict[str, float]:
    """By which share of itself each measure is worse on held-out pairs; below nothing where it is better."""
    out = {}
    for name in NAMES:
        seen, unseen = getattr(train, name), getattr(held_out, name)
        if name == "ssim":  # counted as what is missing to 1, like the others, which are distances
            seen, unseen = 1 - seen, 1 - unseen
        out[name] = (unseen - seen) / max(seen, 1e-9)
    return out


def verdict(train: Measures, held_out: Measures, past: list[dict[str, Any]]) -> str:
    """Whether it over-fits, in plain words."""
    worse = gap(train, held_out)["inside"]
    numbers = (
        f"L1 inside the drawing is {held_out.inside:.4f} held out and {train.inside:.4f} on training pairs"
    )
    if worse > MUCH:
        said = (
            f"It over-fits: {numbers}, {worse:.0%} worse. More pairs, jitter, dropout or a smaller net help."
        )
    elif worse > A_LITTLE:
        said = f"It over-fits a little: {numbers}, {worse:.0%} worse."
    else:
        said = f"It does not over-fit: {numbers}, a difference of {worse:+.0%}."
    looks = [(look["held_out/l1"], look["step"]) for look in past]
    if looks and looks[-1][0] > 1.05 * min(looks)[0]:
        said += (
            f" The longer training has made held-out pictures worse again: they were best at step {min(looks)[1]}, "
            "whose checkpoint is the one kept as best."
        )
    return said


def _rows(generator: Any, pairs: tf.data.Dataset) -> list[list[Image.Image]]:
    sketch, picture = next(iter(pairs.unbatch().batch(SHOWN)))
    return [images(sketch), images(generator(sketch, training=False)), images(picture)]


def page(run: Run, numbers: dict[str, Any], shown: dict[str, list[list[Image.Image]]]) -> str:
    rows = "".join(
        f"<tr><th>{TITLES[name]}</th><td>{numbers['train'][name]:.4f}</td><td>{numbers['held_out'][name]:.4f}</td>"
        f"<td>{numbers['gap'][name]:+.1%}</td><td>{numbers['sketch'][name]:.4f}</td></tr>"
        for name in NAMES
    )
    asked = "".join(
        f"<tr><th>{html.escape(key)}</th><td>{html.escape(str(value))}</td></tr>"
        for key, value in {**run.shape.as_dict(), **run.recipe.as_dict()}.items()
    )
    pairs, skipped = numbers["pairs"], numbers["pairs"]["skipped"]
    left_out = "".join(f"<li>{html.escape(one)}</li>" for one in skipped)
    curves = run.folder / "curves.png"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Pix2Pix: {html.escape(run.folder.name)}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; color: #222 }}
table {{ border-collapse: collapse }} th {{ text-align: left; font-weight: normal }}
td, th {{ padding: .25rem .9rem .25rem 0; border-bottom: 1px solid #ddd }} td {{ font-variant-numeric: tabular-nums }}
img {{ max-width: 100% }} .verdict {{ font-size: 1.2rem; border-left: .3rem solid #1f6fb2; padding-left: .8rem }}
</style></head><body>
<h1>Pix2Pix: {html.escape(run.folder.name)}</h1>
<p class="verdict">{html.escape(numbers["verdict"])}</p>
<p>The {numbers["which"]} checkpoint, of step {numbers["step"]}; {numbers["parameters"]["generator"]:,} parameters in
the generator; {pairs["train"]:,} pairs to train on, {pairs["held_out"]:,} held out. Measured on
{numbers["held_out"]["pictures"]} of each.</p>
<table><tr><th></th><th>train</th><th>held out</th><th>gap</th><th>the sketch itself</th></tr>{rows}</table>
<p>The gap says by which share held-out pictures are worse. Feature distance: {FEATURES}; it compares models here and
is not LPIPS.</p>
<h2>Held out: sketch, made, true</h2>{_inline(plots.sheet(shown["held_out"]))}
<h2>Trained on: sketch, made, true</h2>{_inline(plots.sheet(shown["train"]))}
<h2>How it went</h2>{_inline(Image.open(curves)) if curves.exists() else "<p>There are no curves.</p>"}
<h2>What was asked for</h2><table>{asked}</table>
{f"<h2>Files that could not be used</h2><ul>{left_out}</ul>" if skipped else ""}
</body></html>
"""


def _inline(picture: Image.Image) -> str:
    out = io.BytesIO()
    picture.convert("RGB").save(out, "PNG")
    return f'<p><img alt="" src="data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"></p>'


def figures(folder: Path) -> dict[str, Any]:
    """What a served model says of itself, from a run's `report.json`; empty before there is one."""
    path = folder / "report.json"
    if not path.exists():
        return {}
    said = json.loads(path.read_text())
    return {key: said[key] for key in ("train", "held_out", "sketch", "gap", "verdict")}
