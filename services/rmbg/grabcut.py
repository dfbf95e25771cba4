"""GrabCut, led by what stands out and by faces: in comes a picture, out comes its mask, soft at the edges."""

from __future__ import annotations

import threading
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.rmbg.engine import Step
from services.rmbg.faces import Face, FaceFinder, likely, sure
from services.rmbg.refine import guided_filter
from services.rmbg.saliency import saliency

Map = NDArray[Any]  # of float32
Pixels = NDArray[Any]  # of uint8

SALIENCY_SIDE = 160
CUT_SIDE = 320
EDGE_SIDE = 1600
ROUNDS = 3
TRIAL_SIDE = 180
LEAST_SLOPE = 24.0  # Lab a pixel, by Sobel's measure; an outline below it runs through a surface
TRIAL_ROUNDS = 3
LEAST_CONTRAST = 6.0  # in Lab: below it the picture is one surface, and there is no subject
LEAST_PART = 0.12  # a piece smaller than this share of the largest is not of the subject
STEPS = 4


class GrabCutEngine:
    """GrabCut (Rother, Kolmogorov, Blake 2004), led by what stands out and by faces."""

    def __init__(self) -> None:
        self._faces = FaceFinder()
        self._one_at_a_time = threading.Lock()

    def mask(self, image: Image.Image, step: Step) -> Image.Image:
        step(0, STEPS)
        work = np.asarray(shrunk(image, CUT_SIDE))
        lab = cv2.cvtColor(work.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
        if min(work.shape[:2]) < 8 or float(lab.std(axis=(0, 1)).max()) < LEAST_CONTRAST / 2:
            return Image.new("L", image.size, 255)  # one surface, or a few pixels: all of it is the subject
        found = _standing_out(lab)
        with self._one_at_a_time:
            faces = self._faces.find(cv2.cvtColor(work, cv2.COLOR_RGB2GRAY))
        step(1, STEPS)
        cut, marks = self._best(work, lab, found, candidates(found, faces))
        step(2, STEPS)
        solid = tidy(cut, marks == cv2.GC_FGD)
        if not solid.any():
            return Image.new("L", image.size, 255)
        soft = _soft(image, solid)
        step(3, STEPS)
        whole = (
            cv2.resize(soft, image.size, interpolation=cv2.INTER_LINEAR)
            if soft.shape[::-1] != image.size
            else soft
        )
        return Image.fromarray(whole)

    def _best(self, work: Pixels, lab: Map, found: Map, guesses: list[Pixels]) -> tuple[NDArray[Any], Pixels]:
        """The cut of the best guess; several are tried small first."""
        marks = guesses[0]
        if len(guesses) > 1:
            scale = min(1.0, TRIAL_SIDE / max(work.shape[:2]))
            size = max(4, round(work.shape[1] * scale)), max(4, round(work.shape[0] * scale))
            small, small_lab, small_found = (
                cv2.resize(m, size, interpolation=cv2.INTER_AREA) for m in (work, lab, found)
            )
            trials = [cv2.resize(guess, size, interpolation=cv2.INTER_NEAREST) for guess in guesses]
            cuts = [tidy(_cut(small, trial, TRIAL_ROUNDS), trial == cv2.GC_FGD) for trial in trials]
            values = [worth(cut, small_lab, small_found) for cut in cuts]
            marks = guesses[int(np.argmax(values))]
        return _cut(work, marks, ROUNDS), marks


def _standing_out(lab: Map) -> Map:
    height, width = lab.shape[:2]
    scale = min(1.0, SALIENCY_SIDE / max(height, width))
    size = max(2, round(width * scale)), max(2, round(height * scale))
    found = saliency(cv2.resize(lab, size, interpolation=cv2.INTER_AREA))
    return np.asarray(cv2.resize(found, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.float32)


def candidates(found: Map, faces: list[Face]) -> list[Pixels]:
    """GrabCut's marks, several guesses at them: what is surely and what is likely subject or background."""
    if faces:
        return [_closed(_person(found, faces))]
    level = _otsu(found)
    height, width = found.shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    away = np.hypot((x / max(1, width - 1) - 0.5) / 0.42, (y / max(1, height - 1) - 0.54) / 0.46)
    middle = np.clip(1.4 - away, 0, 1) * 0.6 + found * 0.4
    guesses = [_levels(found, level), _levels(found, 0.5 * (1 + level)), _levels(middle, _otsu(middle))]
    return [_closed(marks) for marks in guesses]


def _otsu(found: Map) -> float:
    threshold, _ = cv2.threshold((found * 255).astype(np.uint8), 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return float(threshold) / 255


def _levels(found: Map, level: float) -> Pixels:
    marks = np.full(found.shape, cv2.GC_PR_BGD, np.uint8)
    marks[found > level] = cv2.GC_PR_FGD
    marks[found > max(0.85, level)] = cv2.GC_FGD
    marks[found < level * 0.35] = cv2.GC_BGD
    return marks


def _person(found: Map, faces: list[Face]) -> Pixels:
    level = _otsu(found)
    marks = np.full(found.shape, cv2.GC_PR_BGD, np.uint8)
    body = likely(found.shape, faces)
    marks[body] = cv2.GC_PR_FGD
    # beside a person only what stands out strongly is theirs too
    marks[(found > max(0.6, level)) & ~body] = cv2.GC_PR_FGD
    reach = max(found.shape) // 12
    near = cv2.dilate(body.astype(np.uint8), np.ones((3, 3), np.uint8), iterations=reach) > 0
    marks[~near & (found < level * 0.6)] = cv2.GC_BGD
    marks[sure(found.shape, faces)] = cv2.GC_FGD
    return marks


def _closed(marks: Pixels) -> Pixels:
    """The border is background, but for the lower one, on which people and things stand."""
    edge = max(1, round(min(marks.shape) * 0.015))
    border = np.ones(marks.shape, bool)
    border[edge:, edge:-edge] = False
    marks[border & (marks != cv2.GC_FGD)] = cv2.GC_BGD
    return marks


def _cut(work: Pixels, marks: Pixels, rounds: int) -> NDArray[Any]:
    subject = (marks == cv2.GC_FGD) | (marks == cv2.GC_PR_FGD)
    if subject.all() or not subject.any():
        return np.asarray(subject)
    result = marks.copy()
    behind, before = np.zeros((1, 65)), np.zeros((1, 65))  # its two colour models
    cv2.setRNGSeed(0)  # its clusters start at random: the same picture shall give the same mask
    cv2.grabCut(
        np.ascontiguousarray(work[..., ::-1]),
        result,
        (0, 0, 0, 0),
        behind,
        before,
        rounds,
        cv2.GC_INIT_WITH_MASK,
    )
    return np.asarray((result == cv2.GC_FGD) | (result == cv2.GC_PR_FGD), dtype=bool)


def worth(cut: NDArray[Any], lab: Map, found: Map) -> float:
    """How good a cut looks: it runs along strong edges, parts what stands out, and is of a sensible size."""
    share = float(cut.mean())
    if not 0.005 < share < 0.97:
        return 0.0
    outline = cv2.morphologyEx(cut.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    outline[[0, -1], :] = outline[:, [0, -1]] = False
    if not outline.any():
        return 0.0
    smooth = cv2.GaussianBlur(lab, (0, 0), 1.0)
    slope = np.hypot(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)).max(axis=2)
    strong = float(np.clip(slope[outline] / 60, 0, 1).mean())
    real = float((slope[outline] > LEAST_SLOPE).mean())
    apart = float(found[cut].mean() - found[~cut].mean())
    size = min(1.0, share / 0.18) * min(1.0, (1 - share) / 0.12)
    return strong * real**3 * max(0.0, apart + 0.1) * size


def tidy(cut: NDArray[Any], wanted: NDArray[Any]) -> NDArray[Any]:
    """Without specks and pinholes: the large pieces, and those with a sure mark in them."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    marks = cv2.morphologyEx(cut.astype(np.uint8), cv2.MORPH_OPEN, kernel)
    marks = cv2.morphologyEx(marks, cv2.MORPH_CLOSE, kernel)
    pieces = _large_pieces(marks, wanted)
    holes = ~_large_pieces((~pieces).astype(np.uint8), np.zeros_like(wanted), least=0.004 * cut.size)
    return np.asarray(pieces | holes)


def _large_pieces(marks: Pixels, wanted: NDArray[Any], least: float | None = None) -> NDArray[Any]:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(marks, connectivity=4)
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    limit = LEAST_PART * areas.max() if least is None else least
    keep = areas >= max(1, limit)
    keep[np.unique(labels[wanted])] |= areas[np.unique(labels[wanted])] >= 0.25 * max(1, limit)
    keep[0] = False
    return np.asarray(keep[labels], dtype=bool) if count > 1 else np.zeros(marks.shape, bool)


def _soft(image: Image.Image, solid: NDArray[Any]) -> Pixels:
    """The mask at up to EDGE_SIDE, its edge led by the picture."""
    guide = np.asarray(shrunk(image, EDGE_SIDE)).astype(np.float32) / 255
    height, width = guide.shape[:2]
    rough = cv2.resize(solid.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    radius = max(2, round(max(height, width) / 130))
    smooth = guided_filter(guide, rough, radius, 1e-4)
    # far from the edge the rough mask is right, and texture must not shine through
    span = 2 * radius + 1
    inside = cv2.erode((rough > 0.5).astype(np.uint8), np.ones((span, span), np.uint8))
    outside = cv2.dilate((rough > 0.5).astype(np.uint8), np.ones((span, span), np.uint8))
    contrast = np.clip((smooth - 0.5) * 1.6 + 0.5, 0, 1)
    alpha = np.where(inside > 0, 1.0, np.where(outside == 0, 0.0, contrast))
    return np.asarray(alpha * 255 + 0.5, dtype=np.uint8)


def shrunk(image: Image.Image, longest: int) -> Image.Image:
    """RGB with at most `longest` pixels a side."""
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    scale = longest / max(rgb.size)
    if scale >= 1:
        return rgb
    size = max(1, round(rgb.width * scale)), max(1, round(rgb.height * scale))
    return rgb.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
