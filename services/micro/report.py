"""The report: the family as it is committed in, and out a table of what it obeys, and a sheet of its pictures.

`python -m services.micro.report` writes both into this package's README. Every picture comes from diffusers' own
pipelines; a judge that was trained on drawings alone says what it shows. Captions are of combinations that were kept
from all training.
"""

# diffusers and transformers are typed only in part
# mypy: disable-error-code="no-untyped-call,attr-defined,no-any-return"

from __future__ import annotations

import argparse
import itertools
import random
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from diffusers import (
    ControlNetModel,
    StableDiffusionXLControlNetPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
)
from PIL import Image, ImageFilter

from services.micro import control, family, judge, lora, pose, unet, world

README = Path(__file__).parent / "README.md"
SHEET = Path(__file__).parent / "sheet.png"
BEGIN, END = "<!-- report: begin -->", "<!-- report: end -->"
STEPS, GUIDANCE, BATCH = 20, 5.0, 16
EDGE_ROOM = 2  # pixels of 128, within which an edge counts as followed
POSE_ROOM = world.SIDE * 4 / 64
Row = tuple[str, str, str]  # what was asked, what is wished, what came


class Report:
    def __init__(self, weights: Path = family.WEIGHTS) -> None:
        self.weights = weights
        self.pipeline = StableDiffusionXLPipeline.from_pretrained(str(weights / "sdxl"))
        self.pipeline.set_progress_bar_config(disable=True)
        self.judge = judge.load(weights / "judge")
        self.poses = pose.load(weights / "pose")

    def pictures(
        self, pipeline: Any, texts: list[str], seed: int, **each: list[Any] | Any
    ) -> list[Image.Image]:
        """Runs a pipeline in batches; an argument that is a list as long as the texts goes along with them."""
        out: list[Image.Image] = []
        for start in range(0, len(texts), BATCH):
            part = slice(start, start + BATCH)
            here = {
                key: value[part] if isinstance(value, list) and len(value) == len(texts) else value
                for key, value in each.items()
            }
            here = {"num_inference_steps": STEPS, "guidance_scale": GUIDANCE, **here}
            generators = [torch.Generator().manual_seed(seed + start + i) for i in range(len(texts[part]))]
            out += pipeline(texts[part], generator=generators, **here).images
        return out

    def asked(self, scenes: list[world.Scene], pictures: list[Image.Image]) -> dict[str, float]:
        """For each of the world's questions the share of pictures whose answer is the caption's."""
        said = np.array(judge.answers(self.judge, pictures))
        true = np.array([world.answers(scene) for scene in scenes])
        shares = {name: float((said[:, i] == true[:, i]).mean()) for i, name in enumerate(world.QUESTIONS)}
        people = true[:, 1] == world.KINDS.index("person")
        shares["pose"] = float((said[people, 6] == true[people, 6]).mean()) if people.any() else 1.0
        shares["texture"] = float((said[~people, 5] == true[~people, 5]).mean())
        return shares

    # The parts of the report

    def captions(self, count: int) -> list[Row]:
        scenes = named(count, 4242)
        pictures = self.pictures(
            self.pipeline, [world.caption(s) for s in scenes], 1000, height=world.SIDE, width=world.SIDE
        )
        sheet(pictures[:48]).save(SHEET, optimize=True)
        shares = self.asked(scenes, pictures)
        drawn = self.asked(scenes, [world.draw(scene) for scene in scenes])
        wishes = {"colour": "95 %", "background": "98 %", "position": "90 %", "kind": "85 %"}
        rows = [
            (
                f"{name} as the caption says ({count} unseen captions)",
                wishes.get(name, ""),
                percent(shares[name]),
            )
            for name in ("colour", "background", "position", "kind", "size", "texture", "pose")
        ]
        worst = min(drawn[name] for name in wishes)
        rows.append(
            ("the judge on drawings of the same scenes: its worst of the first four", "", percent(worst))
        )
        return rows

    def pairs(self, count: int) -> list[Row]:
        rng = random.Random(4243)
        scenes: list[world.Scene] = []
        while len(scenes) < count:
            scene = world.sample(rng)
            if scene.unseen and len(scene.things) == 2:
                scenes.append(scene)
        shares = self.asked(
            scenes, self.pictures(self.pipeline, [world.caption(scene) for scene in scenes], 2000)
        )
        names = ("background", "kind", "colour", "second kind", "second colour")
        text = ", ".join(f"{name} {percent(shares[name])}" for name in names)
        return [(f"two things side by side ({count} unseen)", "", text)]

    def controls(self, count: int) -> list[Row]:
        nets = {
            kind: ControlNetModel.from_pretrained(str(self.weights / f"controlnet-{kind}"))
            for kind in control.KINDS
        }
        rows = []
        scenes = named(count, 51)
        maps = [control.canny(world.draw(scene)) for scene in scenes]
        texts = [world.caption(scene) for scene in scenes]
        pictures = self.pictures(self._controlled(nets["canny"]), texts, 3000, image=maps)
        scores = [edge_f1(map_, control.canny(picture)) for map_, picture in zip(maps, pictures, strict=True)]
        plain = self.pictures(self.pipeline, texts, 3000)
        without = np.mean([edge_f1(m, control.canny(p)) for m, p in zip(maps, plain, strict=True)])
        rows.append(
            (
                f"canny: F1 of the edges, {EDGE_ROOM} pixels of room ({count} maps; {without:.2f} without the map)",
                "0.80",
                f"{np.mean(scores):.2f}",
            )
        )
        scenes = posed(count, 52)
        people = [world.keypoints(scene.things[0]) for scene in scenes]
        maps = [control.pose_map([person], world.SIDE, world.SIDE) for person in people]
        texts = [world.caption(scene) for scene in scenes]
        pictures = self.pictures(self._controlled(nets["openpose"]), texts, 4000, image=maps)
        limit = percent(self.points(people, [world.draw(scene) for scene in scenes]))
        rows.append(
            (
                f"openpose: keypoints within 4/64 of the side ({count} maps; the detector on drawings: {limit})",
                "85 %",
                percent(self.points(people, pictures)),
            )
        )
        edges = [control.canny(world.draw(scene)) for scene in scenes]
        both = self._controlled([nets["canny"], nets["openpose"]])
        pictures = []
        for index in range(count):  # diffusers takes several nets' maps for one prompt at a time
            pictures += self.pictures(
                both,
                [texts[index]],
                5000 + index,
                image=[edges[index], maps[index]],
                controlnet_conditioning_scale=[0.8, 0.8],
            )
        score = np.mean([edge_f1(e, control.canny(p)) for e, p in zip(edges, pictures, strict=True)])
        rows.append(
            (
                f"both at once, 0.8 each ({count} pairs of maps)",
                "0.80 and 85 %",
                f"{score:.2f} and {percent(self.points(people, pictures))}",
            )
        )
        return rows

    def _controlled(self, net: Any) -> Any:
        pipeline = StableDiffusionXLControlNetPipeline(**self.pipeline.components, controlnet=net)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def points(self, people: list[list[tuple[float, float]]], pictures: list[Image.Image]) -> float:
        near: list[bool] = []
        for true, picture in zip(people, pictures, strict=True):
            found = pose.detect(picture, self.poses)
            best = [False] * len(true)
            for person in found:
                here = [
                    sure > 0 and abs(x - a) <= POSE_ROOM and abs(y - b) <= POSE_ROOM
                    for (x, y, sure), (a, b) in zip(person, true, strict=True)
                ]
                best = max(best, here, key=sum)
            near += best
        return float(np.mean(near))

    def inpainting(self, count: int) -> list[Row]:
        folder = self.weights / "sdxl-inpaint" / "unet"
        parts = dict(self.pipeline.components)
        if folder.is_dir():
            parts["unet"] = unet.UNet2DConditionModel.from_pretrained(str(folder))
        pipeline = StableDiffusionXLInpaintPipeline(**parts)
        pipeline.set_progress_bar_config(disable=True)
        before = named(count, 61, person=0.0)
        rng = random.Random(62)
        wanted, pictures, masks = [], [], []
        for scene in before:
            thing = scene.things[0]
            colour = rng.choice([c for c in world.COLOURS if c not in (thing.colour, scene.background)])
            kind = rng.choice([kind for kind in world.SHAPES if kind != thing.kind])
            wanted.append(
                world.Scene(scene.background, (replace(thing, colour=colour, kind=kind, texture="plain"),))
            )
            pictures.append(world.draw(scene))
            masks.append(world.mask(thing))
        made = self.pictures(
            pipeline,
            [world.caption(scene) for scene in wanted],
            6000,
            image=pictures,
            mask_image=masks,
            strength=1.0,
            height=world.SIDE,
            width=world.SIDE,
        )
        said = np.array(judge.answers(self.judge, made))
        true = np.array([world.answers(scene) for scene in wanted])
        inside = float(((said[:, 1] == true[:, 1]) & (said[:, 2] == true[:, 2])).mean())
        off = np.mean(
            [
                np.abs(np.asarray(a, float) - np.asarray(b, float))[np.asarray(m) == 0].mean()
                for a, b, m in zip(made, pictures, masks, strict=True)
            ]
        )
        return [
            (f"inpainting: kind and colour inside as asked ({count} masks)", "90 %", percent(inside)),
            ("inpainting: mean change outside, of 255, before the outside is laid over it", "", f"{off:.1f}"),
        ]

    def variations(self, count: int) -> list[Row]:
        pipeline = StableDiffusionXLImg2ImgPipeline(**self.pipeline.components)
        pipeline.set_progress_bar_config(disable=True)
        given = [world.draw(scene) for scene in named(count, 71)]
        texts = [world.caption(scene) for scene in named(count, 72)]
        distances = []
        for strength in (0.2, 0.4, 0.6, 0.8, 1.0):
            made = self.pictures(pipeline, texts, 7000, image=given, strength=strength)
            distances.append(
                np.mean(
                    [
                        np.abs(np.asarray(a, float) - np.asarray(b, float)).mean()
                        for a, b in zip(made, given, strict=True)
                    ]
                )
            )
        grows = all(a < b for a, b in itertools.pairwise(distances))
        text = ", ".join(f"{value:.0f}" for value in distances)
        return [
            (
                "image to image: mean distance at strength 0.2, 0.4, 0.6, 0.8, 1",
                "grows",
                f"{text} ({'grows' if grows else 'does not grow'})",
            )
        ]

    def references(self, count: int) -> list[Row]:
        """The text names a shape alone; the reference shows its colours."""
        scenes = named(count, 81, person=0.0)
        texts = [f"a {scene.things[0].kind}" for scene in scenes]
        shown = [world.draw(scene) for scene in scenes]
        without = self.asked(scenes, self.pictures(self.pipeline, texts, 8000))
        self.pipeline.load_ip_adapter(
            str(self.weights / "ip-adapter"), subfolder=".", weight_name="ip-adapter.safetensors"
        )
        self.pipeline.set_ip_adapter_scale(1.0)
        made = []
        for index, (text, picture) in enumerate(zip(texts, shown, strict=True)):
            made += self.pictures(self.pipeline, [text], 8000 + index, ip_adapter_image=picture)
        with_it = self.asked(scenes, made)
        self.pipeline.unload_ip_adapter()
        return [
            (
                f"IP-Adapter: the reference's {name}, where the text is silent"
                f" ({count}; {percent(without[name])} without)",
                "moves toward it",
                percent(with_it[name]),
            )
            for name in ("colour", "background")
        ]

    def rims(self, count: int) -> list[Row]:
        scenes = [s for s in named(count * 2, 91) if "white" not in (s.background, s.things[0].colour)][
            :count
        ]
        texts = [world.caption(scene) for scene in scenes]
        plain = self.pictures(self.pipeline, texts, 9000)
        self.pipeline.load_lora_weights(str(self.weights / "loras" / f"{lora.NAME}.safetensors"))
        with_it = self.pictures(self.pipeline, texts, 9000)
        self.pipeline.unload_lora_weights()
        before, after = (
            percent(float(np.mean([white(p) > 0.02 for p in made]))) for made in (plain, with_it)
        )
        return [
            (f"LoRA `{lora.NAME}`: pictures with a white rim ({len(texts)}; {before} without)", "", after)
        ]


def named(count: int, seed: int, person: float = 0.2) -> list[world.Scene]:
    """Unseen scenes of one thing, whose people hold a pose with a name."""
    out = [
        s
        for s in unet.unseen(count * 2, seed, person=person)
        if s.things[0].pose or s.things[0].kind != "person"
    ]
    return out[:count]


def posed(count: int, seed: int) -> list[world.Scene]:
    """People in poses that no caption names and no training has seen."""
    rng = random.Random(seed)
    scenes = []
    for _ in range(count):
        background, colour = rng.sample(list(world.COLOURS), 2)
        scenes.append(world.Scene(background, (world.sample_person(rng, colour, pose=None),)))
    return scenes


def edge_f1(wished: Image.Image, found: Image.Image, room: int = EDGE_ROOM) -> float:
    """F1 of two edge maps, where an edge counts that has one of the other map within `room` pixels."""
    a, b = (np.asarray(picture.convert("L")) > 127 for picture in (wished, found))
    if not a.any() or not b.any():
        return float(a.any() == b.any())
    kernel = np.ones((2 * room + 1, 2 * room + 1), np.uint8)
    wide_a, wide_b = (cv2.dilate(edges.astype(np.uint8), kernel) > 0 for edges in (a, b))
    precision, recall = float(wide_a[b].mean()), float(wide_b[a].mean())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def white(picture: Image.Image) -> float:
    """The share of a picture that is nearly white, slight softness of the edges aside."""
    pixels = np.asarray(picture.filter(ImageFilter.MedianFilter(3))).astype(float)
    return float((pixels.min(axis=2) > 200).mean())


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def sheet(pictures: list[Image.Image], columns: int = 8) -> Image.Image:
    side, gap = world.SIDE, 4
    rows = -(-len(pictures) // columns)
    out = Image.new("RGB", (columns * (side + gap) - gap, rows * (side + gap) - gap), "white")
    for index, picture in enumerate(pictures):
        out.paste(picture, ((index % columns) * (side + gap), (index // columns) * (side + gap)))
    return out


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m services.micro.report", description=__doc__)
    parser.add_argument("--count", type=int, default=256, help="captions; the other parts take a quarter")
    parser.add_argument("--only", nargs="*", help="parts of the report, for a look without writing")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    report, rows = Report(), []
    few = max(8, chosen.count // 4)
    parts = {
        "captions": (report.captions, chosen.count),
        "pairs": (report.pairs, few),
        "controls": (report.controls, few),
        "inpainting": (report.inpainting, few),
        "variations": (report.variations, few // 2),
        "references": (report.references, few),
        "rims": (report.rims, few // 2),
    }
    for name, (part, count) in parts.items():
        if chosen.only and name not in chosen.only:
            continue
        started = time.monotonic()
        for row in part(count):
            rows.append(row)
            print(f"{row[0]} | {row[1]} | {row[2]}", flush=True)  # noqa: T201
        print(f"({name}: {time.monotonic() - started:.0f} s)", flush=True)  # noqa: T201
    if not chosen.only:
        write(rows)


def write(rows: list[Row], readme: Path = README) -> None:
    text = readme.read_text()
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    table = [
        "| what | wished | measured |",
        "| --- | --- | --- |",
        *("| " + " | ".join(row) + " |" for row in rows),
    ]
    readme.write_text(before + BEGIN + "\n" + "\n".join(table) + "\n" + END + after)


if __name__ == "__main__":
    main()
