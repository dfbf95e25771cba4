"""AUTOMATIC1111's dialect: `/sdapi/v1/*`, and of its extensions ControlNet's `/controlnet/*` and rembg's `/rembg`.

JSON with base64 goes in and comes out. What that server has one of (options, the work that progress shows and interrupt
stops) each key has here for itself, in this gateway's memory. Lists of what there is are in a1111_lists.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, ClassVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from gateway.arriving import Arriving
from gateway.desk import Desk, Guest, last_of
from gateway.doors import a1111_ask, a1111_info, a1111_told, a1111_units, offered
from gateway.doors.a1111_ask import Drawing, named
from gateway.doors.a1111_lists import Lists
from gateway.doors.a1111_mask import decoded
from gateway.doors.a1111_options import Options
from gateway.doors.a1111_work import Works
from gateway.doors.dialect import BASIC, Dialect
from gateway.doors.splice import Coded, Spliced
from gateway.kept import Kept
from services.errors import BadInput, DarkroomError, NotFound, UnknownModel
from services.operations import Caption, Control, Diffusion, Preprocess, RemoveBackground
from services.settings import Limits

_READS = ("kind", "hands", "face")  # what a module's name decides
_NO_STORE = {"cache-control": "no-store"}


class A1111(Dialect):
    name = "a1111"
    prefixes = ("/sdapi/v1/", "/controlnet/")
    challenges = (BASIC, "Bearer")
    words: ClassVar[Mapping[type[DarkroomError], str]] = {
        UnknownModel: "GET /sdapi/v1/sd-models lists the names.",
        NotFound: "Pictures are made at /sdapi/v1/txt2img and /sdapi/v1/img2img, and backgrounds cut out at /rembg.",
    }
    missing: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(
            ("/sdapi/v1/extra-single-image", "/sdapi/v1/extra-batch-images"),
            "Nothing is enlarged here; /rembg cuts backgrounds out.",
        ),
        **dict.fromkeys(
            ("/sdapi/v1/reload-checkpoint", "/sdapi/v1/unload-checkpoint"),
            "Leave it out: the services see to their memory themselves.",
        ),
        **dict.fromkeys(
            ("/controlnet/txt2img", "/controlnet/img2img"),
            "Send the units to /sdapi/v1/txt2img or /sdapi/v1/img2img, under alwayson_scripts.",
        ),
    }

    def __init__(self, desk: Desk) -> None:
        self.options, self._works = Options(desk.state), Works()
        self._lists = Lists(desk, self.options, self._works)
        settings = desk.state.settings
        self._limits = Limits(
            max_picture_bytes=settings.max_picture_bytes,
            max_pixels=settings.max_pixels,
            max_side=settings.max_side,
        )
        super().__init__(desk)

    def routes(self) -> Sequence[BaseRoute]:
        return [
            Route("/sdapi/v1/txt2img", self.txt2img, methods=["POST"]),
            Route("/sdapi/v1/img2img", self.img2img, methods=["POST"]),
            Route("/sdapi/v1/png-info", self.png_info, methods=["POST"]),
            Route("/sdapi/v1/interrogate", self.interrogate, methods=["POST"]),
            Route("/controlnet/detect", self.detect, methods=["POST"]),
            Route("/rembg", self.rembg, methods=["POST"]),
            *self._lists.routes(),
        ]

    # ── pictures ─────────────────────────────────────────────────────────────────────────────────────────────

    async def txt2img(self, request: Request) -> Response:
        asked = await self._asked(request)
        options, own = self._settled(request, asked)
        return await self._drawn(request, a1111_ask.text_to_image(asked, options, own), "txt2img")

    async def img2img(self, request: Request) -> Response:
        asked = await self._asked(request)
        options, own = self._settled(request, asked)
        drawing = await a1111_ask.image_to_image(asked, options, own, self._limits)
        return await self._drawn(request, drawing, "img2img")

    def _settled(self, request: Request, asked: dict[str, Any]) -> tuple[dict[str, Any], Mapping[str, Any]]:
        """The options that hold for this request, and what is known of the model that they name."""
        override = asked.get("override_settings") or {}
        if not isinstance(override, dict):
            raise BadInput("override_settings is an object.", field="override_settings")
        options = self.options.of(request.scope["caller"].key_id, override)
        if (refiner := a1111_ask.refining(asked)[0]) is not None:
            options[a1111_ask.REFINER] = self.options.checkpoint(refiner, "refiner_checkpoint")
        model = options.get("sd_model_checkpoint", "auto")
        return options, offered.model(self.desk.state, "sdxl", model)

    async def _drawn(self, request: Request, drawing: Drawing, name: str) -> Response:
        guest, ask = Guest.of(request), None
        if drawing.operation is not Control:  # which shows its maps by itself
            drawing.maps = await self._maps(drawing, guest)
        with (
            named(places=drawing.units.places),
            self._works.at(guest.caller.key_id, name, drawing.fields["count"]) as work,
        ):
            async with AsyncExitStack() as stack:
                ask, events = await stack.enter_async_context(
                    self.desk.stream(drawing.operation, drawing.fields, guest, drawing.files)
                )
                async for event, body in events:
                    last = drawing.send and last_of(ask, len(work.pictures))
                    if last and isinstance(body, Arriving) and await a1111_info.in_its_head(body):
                        work.tell(event, body)
                        await guest.stay(stack, body, events)
                        break
                    work.tell(event, await self.desk.keep(body))
        assert ask is None or isinstance(ask, Diffusion)
        passed_on = any(isinstance(one.file, Arriving) for one in work.pictures) and len(work.pictures) == 1
        told = (
            a1111_told.answer(drawing, ask, work)
            if passed_on
            else await asyncio.to_thread(a1111_told.answer, drawing, ask, work)
        )
        return Spliced(told, _NO_STORE)

    async def _maps(self, drawing: Drawing, guest: Guest) -> list[Kept]:
        """What the controls follow, which the original shows behind the pictures."""
        maps = []
        for place, control in zip(drawing.units.places, drawing.units.controls, strict=True):
            names = {name: a1111_units.called(f"controls.0.{name}", [place]) for name in ("image", *_READS)}
            with named(names):
                if control["kind"] in a1111_units.READ:
                    fields = {
                        name: value for name, value in control.items() if name in Preprocess.model_fields
                    }
                    outcome = await self.desk.run(Preprocess, fields | {"format": "png"}, guest)
                    maps.append(outcome.pictures[0].kept)
                elif not control["image"].startswith(("http://", "https://", "asset:", "part:")):
                    maps.append(Kept.of(await asyncio.to_thread(decoded, control["image"], "image")))
        return maps

    async def detect(self, request: Request) -> Response:
        """Maps of pictures, by the ControlNet extension's modules."""
        asked = await self._asked(request)
        given = asked.get("controlnet_input_images") or asked.get("controlnet_images") or []
        module = str(asked.get("controlnet_module") or "none").strip().lower()
        if module not in a1111_units.MODULES:
            raise BadInput("Module not available", field="controlnet_module")
        if not isinstance(given, list) or not given:
            raise BadInput("No image selected", field="controlnet_input_images")
        if len(given) > a1111_ask.MOST_PICTURES:
            raise BadInput(f"{a1111_ask.MOST_PICTURES} pictures at most.", field="controlnet_input_images")
        kind, reads = a1111_units.MODULES[module]
        fields: dict[str, Any] = {"kind": kind, "format": "png", **reads}
        if kind == "canny":
            fields |= a1111_units.thresholds(
                asked.get("controlnet_threshold_a"), asked.get("controlnet_threshold_b"), "controlnet_"
            )
        maps, poses = [], []
        with named({"image": "controlnet_input_images"} | dict.fromkeys(_READS, "controlnet_module")):
            for image in given:
                outcome = await self.desk.run(Preprocess, fields | {"image": image}, Guest.of(request))
                maps.append(outcome.pictures[0].kept)
                if kind == "openpose":
                    poses.append(a1111_units.pose((outcome.data or {}).get("keypoints") or {}))
        told = {"info": "Success"} | ({"poses": poses} if poses else {})
        return Spliced({"images": [Coded(file) for file in maps], **told}, _NO_STORE)

    async def rembg(self, request: Request) -> Response:
        asked = await self._asked(request)
        model = asked.get("model", "auto")
        if model in (None, "", "None"):
            return JSONResponse(None)
        fields = {
            "image": asked.get("input_image"),
            "model": model,
            "output": "mask" if asked.get("return_mask") else "cutout",
            "matting": bool(asked.get("alpha_matting")),
            "format": "png",
        }
        with named({"image": "input_image", "model": "model"}):
            outcome = await self.desk.run(RemoveBackground, fields, Guest.of(request), passed_on=True)
        return Spliced({"image": Coded(outcome.picture.file)}, _NO_STORE)

    # ── words ────────────────────────────────────────────────────────────────────────────────────────────────

    async def interrogate(self, request: Request) -> Response:
        asked = await self._asked(request)
        if not asked.get("image"):
            raise NotFound("Image not found")
        if asked.get("model", "clip") != "clip":
            raise NotFound("Model not found", help="There is one here: clip.")
        with named({"image": "image"}):
            outcome = await self.desk.run(Caption, {"image": asked["image"]}, Guest.of(request))
        told = outcome.data or {}
        return JSONResponse({"caption": told.get("prompt") or told.get("caption") or ""}, headers=_NO_STORE)

    async def png_info(self, request: Request) -> Response:
        given = (await self._asked(request)).get("image")
        if not isinstance(given, str) or not given.strip():
            raise BadInput("image is needed, as base64.", field="image")
        if len(given) * 3 // 4 > self._limits.max_picture_bytes:
            raise BadInput(f"A picture may have {self._limits.max_picture_bytes} bytes.", field="image")

        def read() -> dict[str, Any]:
            words = a1111_info.read(decoded(given.strip(), "image"))
            return {"info": words.text, "items": words.items, "parameters": a1111_info.fields(words.text)}

        return JSONResponse(await asyncio.to_thread(read), headers=_NO_STORE)

    async def _asked(self, request: Request) -> dict[str, Any]:
        form = await self.desk.form(request)
        form.discard()  # no file has a meaning here
        return form.fields

    # ── errors ───────────────────────────────────────────────────────────────────────────────────────────────

    def status(self, error: DarkroomError) -> int:
        # a LoRA that the prompt names is a mistake in the prompt; a model's name is looked for and not found
        return 404 if isinstance(error, UnknownModel) and error.field != "prompt" else error.status

    def document(self, error: DarkroomError, request_id: str) -> Any:
        return {
            "error": type(error).__name__,
            "detail": self.detail(error),
            "body": error.field or "",
            "errors": self.what_to_do(error),
        }
