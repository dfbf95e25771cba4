"""What docs/doors.md says, as calls: each name of a table has a check, which asks a running gateway and looks at what
comes back.

    table = Table("of rembg's server")

    @table.works("om")
    def _(house): ...                      # asserts what it does

    table.ignored(post, af=200, ab=20)     # together they change nothing

    @table.refused("GET /docs")
    def _(house): return house.get("/docs")  # the answer, whose code the page must have
"""

from __future__ import annotations

import base64
import io
import random
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
from PIL import Image, ImageDraw

from services.micro import world
from tests.end_to_end.doors.conformance.strict import Strict

SAMPLE = Path(__file__).parents[4] / "docs" / "samples" / "astronaut.jpg"
SIDE = 128
Check = Callable[["House"], Any]
Call = Callable[["House", dict[str, Any]], Any]
TABLES: dict[str, Table] = {}


class Table:
    """The checks of one table of the page, by name: the verdict that they show, and the call."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.checks: dict[str, tuple[str, Check]] = {}
        assert title not in TABLES, title
        TABLES[title] = self

    def works(self, *names: str) -> Callable[[Check], Check]:
        return self._register("works", names)

    def refused(self, *names: str) -> Callable[[Check], Check]:
        """The check gives back the answer that refuses, or the error."""
        return self._register("refused", names)

    def unheeded(self, *names: str) -> Callable[[Check], Check]:
        return self._register("ignored", names)

    def ignored(self, call: Call, **values: Any) -> None:
        """`call` gives back the same whether `values` are asked or not, all of them at once."""

        def check(house: House) -> None:
            assert call(house, values) == house.once(call, lambda: call(house, {}))

        self._register("ignored", tuple(values))(check)

    def _register(self, verdict: str, names: tuple[str, ...]) -> Callable[[Check], Check]:
        def registered(check: Check) -> Check:
            for name in names:
                assert name not in self.checks, f"{self.title}: {name} has two checks"
                self.checks[name] = (verdict, check)
            return check

        return registered


class House:
    """A running stack, and what the checks send it."""

    def __init__(self, stack: Any, strict: Strict) -> None:
        self.stack, self.strict = stack, strict
        self.http = httpx.Client(base_url=stack.url, timeout=90)
        self._kept: dict[Any, Any] = {}

    def once(self, what: Any, made: Callable[[], Any]) -> Any:
        """What several names of a row need is asked for once."""
        if what not in self._kept:
            self._kept[what] = made()
        return self._kept[what]

    def close(self) -> None:
        self.http.close()
        for name in ("own", "foreign"):
            if name in self.__dict__:
                self.__dict__[name].close()

    @cached_property
    def own(self) -> grpc.Channel:
        return grpc.insecure_channel(self.stack.grpc)

    @cached_property
    def foreign(self) -> grpc.Channel:
        return grpc.insecure_channel(self.stack.inference)


def png(image: Image.Image, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def opened(data: bytes | str) -> Image.Image:
    image = Image.open(io.BytesIO(base64.b64decode(data, validate=True) if isinstance(data, str) else data))
    image.load()
    return image


def pixels(image: Image.Image) -> Any:
    return np.asarray(image.convert("RGB")).astype(int)


def scene() -> Image.Image:
    """A red disc on blue."""
    image = Image.new("RGB", (SIDE, SIDE), (20, 60, 200))
    ImageDraw.Draw(image).ellipse((40, 40, 90, 90), fill="red")
    return image


def hole(side: int = SIDE) -> Image.Image:
    """White where the disc is."""
    image = Image.new("L", (side, side))
    scale = side / SIDE
    ImageDraw.Draw(image).rectangle((30 * scale, 30 * scale, 100 * scale, 100 * scale), fill=255)
    return image


def figure() -> Image.Image:
    """A person as the micro family knows one."""
    person = world.sample_person(random.Random(3), "red")
    return world.draw(world.Scene("white", (person,)), 256, 256)


def photo() -> bytes:
    """A person, small."""
    with Image.open(SAMPLE) as image:
        return png(image.convert("RGB").resize((160, 160)), "JPEG")


def red(image: Image.Image) -> int:
    """How many pixels of it are red."""
    found = pixels(image)
    return int(((found[..., 0] > 150) & (found[..., 1] < 110) & (found[..., 2] < 110)).sum())
