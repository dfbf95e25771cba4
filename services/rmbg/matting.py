"""Alpha matting on request: in come a picture and a mask, out come the alpha of each hair, and the subject's colours.

Closed-form matting (Levin, Lischinski, Weiss 2008) decides the pixels near the mask's edge, multi-level estimation
(Germer et al. 2020) the colours, both by `pymatting`, in a picture small enough for seconds and a bounded memory. The
guided filter brings the alpha to full size.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from services.rmbg.foreground import Colours
from services.rmbg.refine import Map, Pixels, enlarged

SIDE = 720  # of the small picture; the equations take about 400 bytes a pixel
INSIDE, OUTSIDE = 0.01, 0.02  # of its longer side: how far from the mask's edge is decided anew
MOST_GREY = 0.35  # of the picture
STEPS = 1000
# its equations are nearly singular where colours are flat: without a shift the first attempts at them fail
SHIFTS = (1e-3, 1e-2, 0.1, 1.0, 10.0)
MOST_ENTRIES = 40_000_000  # of 16 bytes
EPS = 1e-6
_SURE = 0.95
_NEAR_ENOUGH = 1e-5


def matted(picture: Pixels, mask: Pixels, check: Callable[[], None]) -> tuple[Pixels, Colours | None]:
    """The alpha in the picture's size, and both colours in a small one; the mask itself where it leaves no question.

    `check` is called again and again, and may raise to stop.
    """
    scale = min(1.0, SIDE / max(mask.shape))
    size = max(1, round(mask.shape[1] * scale)), max(1, round(mask.shape[0] * scale))
    if min(size) < 8:
        return mask, None
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.float64) / 255
    rough = cv2.resize(mask, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    marks = trimap(rough)
    unknown = (marks > 0) & (marks < 1)
    if not (unknown.any() and (marks == 1).any() and (marks == 0).any()):
        return mask, None
    pymatting = _pymatting()
    check()
    alpha = marks.copy()
    window = _around(unknown)
    alpha[window] = _closed_form(pymatting, small[window], marks[window], check)
    check()
    front, back = pymatting.estimate_foreground_ml(small, alpha, return_background=True)
    check()
    colours = np.clip(front, 0, 1).astype(np.float32), np.clip(back, 0, 1).astype(np.float32)
    return enlarged(picture, alpha.astype(np.float32)), colours


def trimap(rough: Map) -> Map:
    """1 for subject, 0 for background, a half for what is to be decided: wider outside, where hair is."""
    longest = max(rough.shape)
    inner, outer = (_disc(max(1, round(longest * share))) for share in (INSIDE, OUTSIDE))
    # a mask that is grey all over tells no more than its middle level does
    grey = float(((rough < _SURE) & (rough > 1 - _SURE)).mean()) > MOST_GREY
    most, least = (0.5, 0.5) if grey else (_SURE, 1 - _SURE)
    inside = cv2.erode((rough > most).astype(np.uint8), inner) > 0
    reached = cv2.dilate((rough > least).astype(np.uint8), outer) > 0
    return np.where(inside, 1.0, np.where(reached, 0.5, 0.0))


def _closed_form(pymatting: Any, small: Map, marks: Map, check: Callable[[], None]) -> Map:
    if not ((marks == 1).any() and (marks == 0).any()):
        return marks
    solver = {"maxiter": STEPS, "rtol": _NEAR_ENOUGH, "callback": lambda *_: check()}
    found: Map = pymatting.estimate_alpha_cf(
        np.ascontiguousarray(small),
        np.ascontiguousarray(marks),
        laplacian_kwargs={"epsilon": EPS},
        cg_kwargs=solver,
        preconditioner=lambda matrix: pymatting.ichol(matrix, shifts=SHIFTS, max_nnz=MOST_ENTRIES),
    )
    return found


def _around(unknown: Map) -> tuple[slice, slice]:
    """The box with all that is to be decided, and some of what is known beside it."""
    rows, columns = np.flatnonzero(unknown.any(axis=1)), np.flatnonzero(unknown.any(axis=0))
    room = 8
    return (
        slice(max(0, int(rows[0]) - room), int(rows[-1]) + room + 1),
        slice(max(0, int(columns[0]) - room), int(columns[-1]) + room + 1),
    )


def _disc(radius: int) -> Pixels:
    found: Pixels = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    return found


def _pymatting() -> Any:
    """It compiles itself at its first import, and keeps that where it may write: beside itself or in the home."""
    import importlib.util

    spec = importlib.util.find_spec("pymatting")
    beside = Path(spec.origin).parent if spec and spec.origin else Path("/")
    if "NUMBA_CACHE_DIR" not in os.environ and not any(
        os.access(folder, os.W_OK) for folder in (beside, Path.home())
    ):
        os.environ["NUMBA_CACHE_DIR"] = tempfile.mkdtemp(prefix="darkroom-numba-")
    import pymatting

    return pymatting
