"""Units of AUTOMATIC1111's ControlNet extension as our controls: in goes what `alwayson_scripts` has of it, out come
controls, and whether they lead alone.

A unit's module reads a map from its picture, and its model follows the map; without a module the picture is the map.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from services.errors import BadInput
from services.operations import Diffusion

SCRIPT = "controlnet"
MOST = next(
    int(rule.max_length)
    for rule in Diffusion.model_fields["controls"].metadata
    if hasattr(rule, "max_length")
)
VERSION = 2  # of the extension's interface
READ = ("canny", "openpose")
# module: what it reads, and the parts of a person
MODULES: dict[str, tuple[str, dict[str, bool]]] = {
    "canny": ("canny", {}),
    "openpose": ("openpose", {}),
    "openpose_hand": ("openpose", {"hands": True}),
    "openpose_face": ("openpose", {"face": True}),
    "openpose_full": ("openpose", {"hands": True, "face": True}),
    "dw_openpose_full": ("openpose", {"hands": True, "face": True}),
}
_NONE = ("", "none")
_LEADS_ALONE = (2, "ControlNet is more important")
_OURS = re.compile(r"controls\.(\d+)(?:\.(\w+))?")
_THEIRS = {
    "kind": "module",
    "hands": "module",
    "face": "module",
    "start": "guidance_start",
    "end": "guidance_end",
    "low": "threshold_a",
    "high": "threshold_b",
}


@dataclass(frozen=True, slots=True)
class Units:
    """Controls, the places of their units in the script's `args`, and whether they lead alone."""

    controls: list[dict[str, Any]] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    alone: bool = False


def called(field: str, places: Sequence[int] = ()) -> str:
    """A control's field by the name that it has in a unit."""
    match = _OURS.match(field)
    if match is None:
        return f"alwayson_scripts.{SCRIPT}" if field == "controls" else field
    at, inner = int(match[1]), match[2] or ""
    at = places[at] if at < len(places) else at
    return f"alwayson_scripts.{SCRIPT}.args.{at}.{_THEIRS.get(inner, inner)}".rstrip(".")


def read(asked: dict[str, Any], otherwise: str | None = None) -> Units:
    """`otherwise` is the picture that a unit without one reads, as in img2img."""
    controls, places, alone = [], [], False
    for at, unit in enumerate(_units(asked)):
        if unit.get("enabled", True) is False:
            continue
        controls.append(_control(unit, f"alwayson_scripts.{SCRIPT}.args.{at}", otherwise))
        places.append(at)
        mode = unit.get("control_mode", 0)
        alone = alone or (mode is not True and mode in _LEADS_ALONE)
    return Units(controls, places, alone)


def _units(asked: dict[str, Any]) -> list[dict[str, Any]]:
    scripts = asked.get("alwayson_scripts") or {}
    script: Any = next((scripts[name] for name in scripts if name.lower() == SCRIPT), None)
    if script is None:
        return []
    args = script.get("args") if isinstance(script, dict) else script
    if not isinstance(args, list) or not all(isinstance(unit, dict) for unit in args):
        raise BadInput("A script's args is a list of units.", field=f"alwayson_scripts.{SCRIPT}.args")
    return args


def _control(unit: dict[str, Any], at: str, otherwise: str | None) -> dict[str, Any]:
    module, net = _module(unit.get("module"), f"{at}.module"), _net(unit.get("model"), f"{at}.model")
    if module is None and net is None:
        raise BadInput("A unit names a module or a model.", field=f"{at}.model")
    kind, reads = module or (f"{net}-map", {})
    if net is not None and net != kind.removesuffix("-map"):
        raise BadInput(
            f"What {kind} reads is followed by a model for {kind}, not {net}.", field=f"{at}.model"
        )
    control: dict[str, Any] = {"kind": kind, "image": _image(unit, at, otherwise), **reads}
    for theirs, ours in (("weight", "weight"), ("guidance_start", "start"), ("guidance_end", "end")):
        if unit.get(theirs) is not None:
            control[ours] = unit[theirs]
    return control | (
        thresholds(unit.get("threshold_a"), unit.get("threshold_b"), f"{at}.") if kind == "canny" else {}
    )


def thresholds(a: Any, b: Any, at: str = "") -> dict[str, int]:
    """Canny's, in either order, as OpenCV takes them; what is negative was not chosen."""
    found: list[int] = []
    for name, value in (("threshold_a", a), ("threshold_b", b)):
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or value > 1000:
            raise BadInput(f"{name} is a number up to 1000.", field=f"{at}{name}")
        if value >= 0:
            found.append(round(value))
    return dict(zip(("low", "high"), sorted(found), strict=True)) if len(found) == 2 else {}


def _module(given: Any, at: str) -> tuple[str, dict[str, bool]] | None:
    name = str(given or "").strip().lower().replace(" ", "_")
    if name in _NONE:
        return None
    if name not in MODULES:
        raise BadInput(
            f"There is no module {name[:80]!r} here; there are none, {', '.join(MODULES)}.", field=at
        )
    return MODULES[name]


def _net(given: Any, at: str) -> str | None:
    """Which of ours a model's name speaks of, as control_v11p_sd15_canny [d14c016b] does."""
    name = str(given or "").strip().lower()
    if name in _NONE:
        return None
    net = next((net for net in READ if net in name), None)
    if net is None:
        raise BadInput(f"There is no ControlNet {name[:80]!r} here; there are {', '.join(READ)}.", field=at)
    return net


def _image(unit: dict[str, Any], at: str, otherwise: str | None) -> str:
    given = unit.get("image") or unit.get("input_image") or otherwise
    if isinstance(given, dict):
        given = given.get("image")
    if not isinstance(given, str):
        raise BadInput("A unit needs a picture, as base64.", field=f"{at}.image")
    return given


# ── what there is ────────────────────────────────────────────────────────────────────────────────────────────


def models() -> list[str]:
    """As `model_list` has them: a model is known by what its map is read with."""
    return list(READ)


def module_list() -> dict[str, Any]:
    sliders = [
        {"name": f"Canny {name} Threshold", "value": value, "min": 1, "max": 255, "step": 1}
        for name, value in (("Low", 100), ("High", 200))
    ]
    return {
        "module_list": ["none", *MODULES],
        "module_detail": {
            name: {"model_free": False, "sliders": sliders if name == "canny" else []}
            for name in ("none", *MODULES)
        },
    }


def control_types() -> dict[str, Any]:
    def those(kind: str) -> dict[str, Any]:
        modules = [name for name, (reads, _) in MODULES.items() if kind in ("", reads)]
        nets = [net for net in READ if kind in ("", net)]
        return {
            "module_list": ["none", *modules],
            "model_list": ["None", *nets],
            "default_option": modules[0] if kind else "none",
            "default_model": nets[0] if kind else "None",
        }

    return {"control_types": {"All": those(""), "Canny": those("canny"), "OpenPose": those("openpose")}}


def pose(keypoints: dict[str, Any]) -> dict[str, Any]:
    """A pose that was read, as OpenPose's own JSON: points in one flat list."""
    names = {
        "body": "pose_keypoints_2d",
        "left_hand": "hand_left_keypoints_2d",
        "right_hand": "hand_right_keypoints_2d",
        "face": "face_keypoints_2d",
    }
    people = [
        {
            theirs: [number for point in person[ours] for number in point] if person.get(ours) else None
            for ours, theirs in names.items()
        }
        for person in keypoints.get("people", ())
    ]
    return {
        "people": people,
        "animals": [],
        "canvas_width": keypoints.get("width"),
        "canvas_height": keypoints.get("height"),
    }
