"""The dialect of rembg's server: `/api/remove`, by POST with a file or by GET with an address; answers PNG bytes.

A model's name is one of rembg's, names or aliases in our catalogue; without one the best that is loaded works.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from gateway.desk import Guest
from gateway.doors.dialect import Dialect, called
from gateway.doors.splice import Pieces
from services.errors import BadInput, DarkroomError, Malformed, NotFound, UnknownModel, UnsupportedMedia
from services.operations import RemoveBackground

YES, NO = (
    frozenset({"1", "true", "on", "yes", "t", "y"}),
    frozenset({"0", "false", "off", "no", "f", "n", ""}),
)
_COLOUR = re.compile(r"\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*(?:,\s*(\d+)\s*)?\Z")


_FORM = "Send multipart/form-data with the picture as its part `file`."


class Rembg(Dialect):
    name = "rembg"
    given = "a file, or the address of one as `url`"
    words: ClassVar[Mapping[type[DarkroomError], str]] = {
        Malformed: _FORM,
        UnknownModel: "Leave `model` out, and the best that is loaded works; GET /v1/models lists the names.",
        NotFound: "Backgrounds are removed at /api/remove.",
    }

    def routes(self) -> Sequence[BaseRoute]:
        return [
            Route("/api/remove", self.by_address, methods=["GET"]),
            Route("/api/remove", self.by_file, methods=["POST"]),
        ]

    async def by_address(self, request: Request) -> Response:
        if "url" not in request.query_params:
            raise BadInput("The address of a picture is needed.", field="url")
        fields = asked(request.query_params) | {"image": request.query_params["url"]}
        with called({"image": "url"}):
            return await self._answer(request, fields)

    async def by_file(self, request: Request) -> Response:
        try:
            form = await self.desk.form(request)
        except UnsupportedMedia as error:  # no body at all, for one
            raise BadInput("A file part named `file` is needed.", field="file", help=_FORM) from error
        file = form.files.pop("file", None)
        for other in form.files.values():
            other.discard()
        if file is None:
            raise BadInput("A file part named `file` is needed.", field="file", help=_FORM)
        try:
            # rembg reads the colour from the query in either case
            fields = asked({**form.fields, **request.query_params}) | {"image": "part:image"}
        except BadInput:
            file.discard()
            raise
        with called({"image": "file"}):
            return await self._answer(request, fields, {"image": file})

    async def _answer(
        self, request: Request, fields: dict[str, Any], files: Mapping[str, Any] | None = None
    ) -> Response:
        outcome = await self.desk.run(RemoveBackground, fields, Guest.of(request), files, passed_on=True)
        picture = outcome.picture
        return Pieces([picture.file], picture.media_type, {"cache-control": "no-store"})

    def document(self, error: DarkroomError, request_id: str) -> Any:
        """FastAPI's own form, which rembg's server answers with."""
        if error.field is None:
            return {"detail": self.told(error)}
        return {"detail": [{"loc": ["body", error.field], "msg": self.told(error), "type": error.slug}]}


def asked(given: Mapping[str, Any]) -> dict[str, Any]:
    """rembg's parameters as ours.

    The thresholds of its matting (af, ab, ae), its clean-up of masks (ppm), of edges (dc, which ours always does) and
    `extras` say nothing here.
    """
    fields: dict[str, Any] = {"format": "png"}
    if model := given.get("model"):
        fields["model"] = str(model)
    if _flag(given, "om"):
        fields["output"] = "mask"
    if _flag(given, "a") or _flag(given, "vm"):
        fields["matting"] = True
    if colour := given.get("bgc"):
        fields["background"] = _colour(str(colour))
    return fields


def _flag(given: Mapping[str, Any], name: str) -> bool:
    word = str(given.get(name, "")).lower()
    if word not in YES | NO:
        raise BadInput(f"{name} is a yes or a no.", field=name)
    return word in YES


def _colour(text: str) -> str:
    match = _COLOUR.match(text)
    parts = [] if match is None else [int(part) for part in match.groups(default="255")]
    if not parts or max(parts) > 255:
        raise BadInput("A colour is written as four numbers from 0 to 255: 255,255,255,255.", field="bgc")
    return "#" + "".join(f"{part:02x}" for part in parts)
