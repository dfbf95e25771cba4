"""IOPaint's dialect, `/api/v1/*`: JSON with base64 in, the picture's bytes out.

IOPaint's server holds one model at a time, which a client switches; here each key has its own. A model of cleanup
erases, one of sdxl paints what the prompt says.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from gateway.desk import Desk, Guest, Outcome
from gateway.doors import brush
from gateway.doors.dialect import Dialect, called
from gateway.doors.splice import Pieces
from services.errors import BadInput, DarkroomError, NotFound, UnknownModel
from services.operations import Cleanup, Inpaint, Operation, RemoveBackground
from services.samplers import SAMPLERS

AUTO, CV2, REMOVE_BG = "auto", "cv2", "RemoveBG"
REMEMBERED = 1000  # keys whose choice is kept
_STRATEGIES = {
    "original": "original",
    "resize": "resize",
    "crop": "auto",
}  # their crop is for large pictures only
_FLAGS = {"INPAINT_NS": "navier-stokes", "INPAINT_TELEA": "telea"}
# our parameters by the names that the client knows
_ERASED = {"limit": "hd_strategy_resize_limit", "margin": "hd_strategy_crop_margin"}
_PAINTED = {
    "prompt": "prompt",
    "negative_prompt": "negative_prompt",
    "strength": "sd_strength",
    "steps": "sd_steps",
    "guidance": "sd_guidance_scale",
    "sampler": "sd_sampler",
    "seed": "sd_seed",
}
# how a file begins, in base64
_FORMATS = {"/9j/": "jpeg", "UklGR": "webp"}


class IOPaint(Dialect):
    name = "iopaint"
    prefixes = ("/api/v1/",)
    given = "base64 or a data URI"
    words: ClassVar[Mapping[type[DarkroomError], str]] = {
        UnknownModel: "GET /api/v1/server-config lists the names.",
        NotFound: "Pictures are made at /api/v1/inpaint, and backgrounds removed at /api/v1/run_plugin_gen_image.",
    }

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self._chosen: OrderedDict[tuple[str, str], str] = OrderedDict()

    def routes(self) -> Sequence[BaseRoute]:
        return [
            Route("/api/v1/inpaint", self.inpaint, methods=["POST"]),
            Route("/api/v1/server-config", self.config, methods=["GET"]),
            Route("/api/v1/model", self.model, methods=["GET", "POST"]),
            Route("/api/v1/samplers", self.samplers, methods=["GET"]),
            Route("/api/v1/switch_plugin_model", self.switch_plugin, methods=["POST"]),
            Route("/api/v1/run_plugin_gen_image", self.cut_out, methods=["POST"]),
            Route("/api/v1/run_plugin_gen_mask", self.find, methods=["POST"]),
        ]

    # ── pictures ─────────────────────────────────────────────────────────────────────────────────────────────

    async def inpaint(self, request: Request) -> Response:
        asked = await self._asked(request)
        if asked.get("use_extender"):
            raise BadInput(
                "Painting beyond the picture's edge is not done here.",
                field="use_extender",
                help="Leave use_extender out.",
            )
        name = self._choice(request, "model")
        paints = name in self._names("sdxl")
        operation: type[Operation] = Inpaint if paints else Cleanup
        fields = painted(asked, name) if paints else erased(asked, name)
        with called(_PAINTED if paints else _ERASED):
            outcome = await self.desk.run(operation, fields, Guest.of(request), passed_on=True)
        return _bytes(outcome, {"x-seed": str(outcome.picture.seed or asked.get("sd_seed", 42))})

    async def cut_out(self, request: Request) -> Response:
        return _bytes(await self._plugin(request, "cutout", passed_on=True))

    async def find(self, request: Request) -> Response:
        outcome = await self._plugin(request, "mask")
        return Response(await brush.stroke(outcome.picture.data), media_type="image/png")

    async def _plugin(self, request: Request, output: str, *, passed_on: bool = False) -> Outcome:
        asked = await self._asked(request)
        if asked.get("name") != REMOVE_BG:
            raise BadInput(f"There is one plugin here: {REMOVE_BG}.", field="name")
        fields = {"image": _plain(asked, "image"), "output": output, "format": "png"}
        return await self.desk.run(
            RemoveBackground,
            fields | {"model": self._choice(request, REMOVE_BG)},
            Guest.of(request),
            passed_on=passed_on,
        )

    async def _asked(self, request: Request) -> dict[str, Any]:
        form = await self.desk.form(request)
        form.discard()  # no file has a meaning here
        return form.fields

    # ── what there is ────────────────────────────────────────────────────────────────────────────────────────

    async def config(self, request: Request) -> Response:
        return JSONResponse(
            {
                "plugins": [{"name": REMOVE_BG, "support_gen_image": True, "support_gen_mask": True}],
                "modelInfos": [
                    self._info(name) for name in (AUTO, CV2, *self._names("cleanup"), *self._names("sdxl"))
                ],
                "removeBGModel": self._choice(request, REMOVE_BG),
                "removeBGModels": [AUTO, *self._names("rmbg")],
                "realesrganModel": "",
                "realesrganModels": [],
                "interactiveSegModel": "",
                "interactiveSegModels": [],
                "enableFileManager": False,
                "enableAutoSaving": False,
                "enableControlnet": False,
                "controlnetMethod": None,
                "disableModelSwitch": False,
                "isDesktop": False,
                "samplers": list(SAMPLERS),
            }
        )

    async def samplers(self, request: Request) -> Response:
        return JSONResponse(list(SAMPLERS))

    async def model(self, request: Request) -> Response:
        if request.method == "POST":
            name = str((await self._asked(request)).get("name", ""))
            known = (AUTO, CV2, *self._names("cleanup"), *self._names("sdxl"))
            self._choose(request, "model", name, known, "name")
        return JSONResponse(self._info(self._choice(request, "model")))

    async def switch_plugin(self, request: Request) -> Response:
        asked = await self._asked(request)
        if asked.get("plugin_name") != REMOVE_BG:
            raise BadInput(f"There is one plugin here: {REMOVE_BG}.", field="plugin_name")
        known = (AUTO, *self._names("rmbg"))
        self._choose(request, REMOVE_BG, str(asked.get("model_name", "")), known, "model_name")
        return JSONResponse(None)

    # ── each key's choice ────────────────────────────────────────────────────────────────────────────────────

    def _choice(self, request: Request, what: str) -> str:
        return self._chosen.get((request.scope["caller"].key_id, what), AUTO)

    def _choose(self, request: Request, what: str, name: str, known: Sequence[str], field: str) -> None:
        if name not in known:
            raise BadInput(
                f"There is no model {name[:80]!r} here; there are {', '.join(known)}.", field=field
            )
        mine = (request.scope["caller"].key_id, what)
        self._chosen[mine] = name
        self._chosen.move_to_end(mine)
        while len(self._chosen) > REMEMBERED:
            self._chosen.popitem(last=False)

    def _names(self, service: str) -> list[str]:
        """The models that a service can be asked for now."""
        status = self.desk.state.upstream.status().get(service)
        if status is None:
            return []
        return [
            str(model["name"])
            for model in status.models
            if model.get("kind", "model") == "model" and model.get("available", True)
        ]

    def _info(self, name: str) -> dict[str, Any]:
        """A model as IOPaint's page reads it."""
        paints = name in self._names("sdxl")
        return {
            "name": name,
            "path": name,
            "model_type": "diffusers_sdxl_inpaint" if paints else "inpaint",
            "is_single_file_diffusers": False,
            "need_prompt": paints,
            "controlnets": [],
            "brushnets": [],
            "support_strength": paints,
            "support_outpainting": False,
            "support_lcm_lora": False,
            "support_controlnet": False,
            "support_brushnet": False,
            "support_powerpaint_v2": False,
        }

    def document(self, error: DarkroomError, request_id: str) -> Any:
        return {
            "error": type(error).__name__,
            "detail": self.told(error),
            "body": error.field or "",
            "errors": self.detail(error),
        }


def erased(asked: dict[str, Any], model: str) -> dict[str, Any]:
    """What a model of cleanup is asked."""
    if model == CV2:
        model = _one_of(asked, "cv2_flag", _FLAGS, "INPAINT_NS")
    strategy = _one_of(
        {"hd_strategy": str(asked.get("hd_strategy", "crop")).lower()}, "hd_strategy", _STRATEGIES, "crop"
    )
    fields = {**_pictures(asked), "model": model, "strategy": strategy}
    if strategy == "resize" and "hd_strategy_resize_limit" in asked:
        fields["limit"] = asked["hd_strategy_resize_limit"]
    if strategy == "auto" and "hd_strategy_crop_margin" in asked:
        fields["margin"] = asked["hd_strategy_crop_margin"]
    return fields


def painted(asked: dict[str, Any], model: str) -> dict[str, Any]:
    """What a model of sdxl is asked."""
    asked = asked | {"sd_seed": asked.get("sd_seed", 42)}
    if asked["sd_seed"] == -1:
        del asked["sd_seed"]
    fields = {**_pictures(asked), "model": model, "prompt": "", "previews": 0}
    return fields | {
        ours: asked[theirs] for ours, theirs in _PAINTED.items() if asked.get(theirs) is not None
    }


def _pictures(asked: dict[str, Any]) -> dict[str, Any]:
    image = _plain(asked, "image")
    kind = next((kind for head, kind in _FORMATS.items() if image.startswith(head)), "png")
    return {"image": image, "mask": _plain(asked, "mask"), "format": kind, "quality": 95}


def _plain(asked: dict[str, Any], name: str) -> str:
    """Base64 without the head of a data URI, whose media type IOPaint does not look at."""
    text = asked.get(name)
    if not isinstance(text, str) or not text:
        raise BadInput(f"{name} is needed, as base64.", field=name)
    return text.partition(",")[2] if text.startswith("data:") else text


def _one_of(asked: dict[str, Any], name: str, known: dict[str, str], usual: str) -> str:
    given = asked.get(name, usual)
    if given not in known:
        raise BadInput(f"{name} is one of {', '.join(known)}.", field=name)
    return known[given]


def _bytes(outcome: Outcome, headers: dict[str, str] | None = None) -> Response:
    picture = outcome.picture
    return Pieces([picture.file], picture.media_type, {"cache-control": "no-store", **(headers or {})})
