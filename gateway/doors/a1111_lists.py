"""What an AUTOMATIC1111 server tells of itself: models, samplers, options, how far its work is; and the word to stop.

Lists of what there is not (upscalers, hypernetworks, styles ...) are empty, as that server's are without their files.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Sequence
from typing import Any

import psutil
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from gateway.desk import Desk
from gateway.doors import a1111_samplers, a1111_units, offered
from gateway.doors.a1111_options import Options
from gateway.doors.a1111_work import Works

_EMPTY = (
    "upscalers",
    "latent-upscale-modes",
    "hypernetworks",
    "face-restorers",
    "realesrgan-models",
    "prompt-styles",
    "sd-vae",
    "script-info",
    "extensions",
)
# what the original looks at anew when it is told to, and we always do
_REFRESHED = ("refresh-checkpoints", "refresh-vae", "refresh-loras", "refresh-embeddings")


class Lists:
    def __init__(self, desk: Desk, options: Options, works: Works) -> None:
        self._desk, self._options, self._works = desk, options, works

    def routes(self) -> Sequence[BaseRoute]:
        told: dict[str, Callable[[], Any]] = {
            "/sdapi/v1/samplers": a1111_samplers.listed,
            "/sdapi/v1/schedulers": a1111_samplers.schedulers,
            "/sdapi/v1/sd-models": self._models,
            "/sdapi/v1/loras": self._loras,
            "/sdapi/v1/embeddings": lambda: {"loaded": {}, "skipped": {}},
            "/sdapi/v1/scripts": lambda: {page: [a1111_units.SCRIPT] for page in ("txt2img", "img2img")},
            "/sdapi/v1/memory": _memory,
            "/sdapi/v1/cmd-flags": lambda: {"api": True, "nowebui": True},
            "/controlnet/version": lambda: {"version": a1111_units.VERSION},
            "/controlnet/model_list": lambda: {"model_list": a1111_units.models()},
            "/controlnet/module_list": a1111_units.module_list,
            "/controlnet/control_types": a1111_units.control_types,
            "/controlnet/settings": lambda: {"control_net_unit_count": a1111_units.MOST},
        }
        told |= {f"/sdapi/v1/{name}": list for name in _EMPTY}
        return [
            *(Route(path, _telling(what), methods=["GET"]) for path, what in told.items()),
            *(Route(f"/sdapi/v1/{name}", _nothing, methods=["POST"]) for name in _REFRESHED),
            Route("/sdapi/v1/options", self.options, methods=["GET", "POST"]),
            Route("/sdapi/v1/progress", self.progress, methods=["GET"]),
            Route("/sdapi/v1/interrupt", self.interrupt, methods=["POST"]),
            Route("/sdapi/v1/skip", self.skip, methods=["POST"]),
        ]

    async def options(self, request: Request) -> Response:
        key_id = request.scope["caller"].key_id
        if request.method == "GET":
            return JSONResponse(self._options.shown(key_id))
        form = await self._desk.form(request)
        form.discard()
        self._options.keep(key_id, form.fields)
        return JSONResponse(None)

    # ── work ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def progress(self, request: Request) -> Response:
        work = self._works.current(request.scope["caller"].key_id)
        state = {
            "skipped": False,
            "interrupted": work is not None and work.interrupted,
            "stopping_generation": False,
            "job": "" if work is None else work.name,
            "job_count": 0 if work is None else 1,
            "job_timestamp": "0" if work is None else work.stamp,
            "job_no": 0,
            "sampling_step": 0 if work is None else work.step,
            "sampling_steps": 0 if work is None else work.steps,
        }
        shown = None
        if (
            work is not None
            and work.preview
            and request.query_params.get("skip_current_image", "").lower() not in _YES
        ):
            shown = (await asyncio.to_thread(base64.b64encode, work.preview)).decode()
        return JSONResponse(
            {
                "progress": 0.0 if work is None else work.share,
                "eta_relative": 0.0 if work is None else work.seconds_left,
                "state": state,
                "current_image": shown,
                "textinfo": None,
            },
            headers={"cache-control": "no-store"},
        )

    async def interrupt(self, request: Request) -> Response:
        self._stop(request)
        return JSONResponse({})

    async def skip(self, request: Request) -> Response:
        """A call's pictures are made all at once here: none is left to do after one that is skipped."""
        self._stop(request)
        return JSONResponse(None)

    def _stop(self, request: Request) -> None:
        work = self._works.current(request.scope["caller"].key_id)
        if work is not None:
            work.interrupt()

    # ── what there is ────────────────────────────────────────────────────────────────────────────────────────

    def _models(self) -> list[dict[str, Any]]:
        return [
            {
                "title": model["name"],
                "model_name": model["name"],
                "hash": None,
                "sha256": None,
                "filename": model["name"],
                "config": None,
            }
            for model in offered.models(self._desk.state, "sdxl")
        ]

    def _loras(self) -> list[dict[str, Any]]:
        return [
            {
                "name": lora["name"],
                "alias": next(iter(lora.get("aliases", ())), lora["name"]),
                "path": lora["name"],
                "metadata": {"summary": lora.get("summary", ""), "licence": lora.get("licence", "")},
            }
            for lora in offered.models(self._desk.state, "sdxl", "lora")
        ]


_YES = ("1", "true", "yes", "on")


def _telling(what: Callable[[], Any]) -> Callable[[Request], Any]:
    async def told(request: Request) -> Response:
        return JSONResponse(what())

    return told


async def _nothing(request: Request) -> Response:
    return JSONResponse(None)


def _memory() -> dict[str, Any]:
    """Of the gateway's machine; devices belong to the services."""
    memory = psutil.virtual_memory()
    return {
        "ram": {"free": memory.available, "used": memory.used, "total": memory.total},
        "cuda": {"error": "unavailable"},
    }
