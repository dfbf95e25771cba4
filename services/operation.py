"""What an operation is: the base of all that `services/operations.py` declares, and what several of them share.

Nothing heavy is imported here.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from services.pictures import Picture

Answer = Literal["pictures", "data"]
Format = Literal["png", "jpeg", "webp"]
Name = Annotated[str, Field(min_length=1, max_length=120, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:+-]*$")]

OPERATIONS: dict[str, type[Operation]] = {}
_LEDGER = Path(__file__).with_name("schemas.json")


def misfit(field: str, sentence: str, **values: Any) -> PydanticCustomError:
    """For a model's validator to raise: parameters that do not fit together, told at `field`, of which one has to
    be changed."""
    return PydanticCustomError("misfit", sentence, {"field": field, **values})


class Operation(BaseModel):
    """The base of every operation. Give a subclass `service=` to declare it, none to share fields."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False)

    service: ClassVar[str] = ""
    answers: ClassVar[Answer] = "pictures"
    with_maps: ClassVar[bool] = False  # the maps that it followed come after the pictures
    # for fields of `then()`, those of this operation that they came from
    handed: ClassVar[dict[str, str]] = {}

    model: Name = Field("auto", description="The model by its name; `auto` takes the best that is loaded.")

    def __init_subclass__(cls, service: str = "", answers: Answer = "pictures", **more: Any) -> None:
        super().__init_subclass__(**more)
        cls.service, cls.answers = service, answers

    @classmethod
    def __pydantic_init_subclass__(cls, **more: Any) -> None:
        super().__pydantic_init_subclass__(**more)
        if cls.service:
            OPERATIONS[cls.name()] = cls

    @classmethod
    @cache
    def name(cls) -> str:
        """`RemoveBackground` is called `remove-background` by every door."""
        return re.sub(r"(?<!^)(?=[A-Z])", "-", cls.__name__).lower()

    @classmethod
    def method(cls) -> str:
        """The name of the service method that performs it: `remove_background`."""
        return cls.name().replace("-", "_")

    @classmethod
    def summary(cls) -> str:
        return (cls.__doc__ or cls.name()).strip().splitlines()[0]

    @classmethod
    @cache
    def json_schema(cls) -> dict[str, Any]:
        return cls.model_json_schema()

    @classmethod
    @cache
    def digest(cls) -> str:
        """What the schema asks for, in twelve letters; wording does not change it."""
        return hashlib.sha256(json.dumps(_bare(cls.json_schema()), sort_keys=True).encode()).hexdigest()[:12]

    @classmethod
    @cache
    def accepted_digests(cls) -> frozenset[str]:
        """This version's digest and the one before it, so that a rollout may meet in the middle."""
        return frozenset([cls.digest(), *ledger().get(cls.name(), [])])

    @classmethod
    @cache
    def picture_fields(cls) -> dict[str, type[Picture]]:
        """The fields of this operation that hold one picture each, by name."""
        found = {}
        for name, field in cls.model_fields.items():
            if kind := _picture_kind(field.annotation):
                found[name] = kind
        return found

    def performed_by(self) -> str:
        """The service for this very request; most operations have just one."""
        return self.service

    def then(self) -> Operation | None:
        """The next link of a chain: it gets the first picture of this one's answer as its `image`."""
        return None

    def count_asked(self) -> int:
        """How many pictures the answer will have, maps aside; a foreign door passes on the last of them as it comes."""
        return int(getattr(self, "count", 1)) if self.answers == "pictures" else 0

    def pictures(self) -> dict[str, Picture]:
        """Every picture that was given, by its path: `image`, `controls.0.image`."""
        return dict(_pictures(self, ""))


def _picture_kind(annotation: Any) -> type[Picture] | None:
    """The kind of picture that an annotation allows, looking into unions but not into lists."""
    if isinstance(annotation, type) and issubclass(annotation, Picture):
        return annotation
    if get_origin(annotation) is list:
        return None
    return next((kind for inner in get_args(annotation) if (kind := _picture_kind(inner))), None)


def _pictures(value: Any, path: str) -> Iterator[tuple[str, Picture]]:
    if isinstance(value, Picture):
        yield path, value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _pictures(getattr(value, name), f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for at, item in enumerate(value):
            yield from _pictures(item, f"{path}.{at}")


def _bare(schema: Any) -> Any:
    if isinstance(schema, dict):
        wording = (
            ("description", "title", "examples")
            if "type" in schema or "properties" in schema
            else ("description",)
        )
        return {key: _bare(value) for key, value in schema.items() if key not in wording}
    return [_bare(item) for item in schema] if isinstance(schema, list) else schema


@cache
def ledger() -> dict[str, list[str]]:
    """`schemas.json`: for each operation its digest and its previous one (`make schemas` rewrites it)."""
    digests: dict[str, list[str]] = json.loads(_LEDGER.read_text()) if _LEDGER.exists() else {}
    return digests


# ── what several operations share ─────────────────────────────────────────────────────────────────────────────


class Encoded(Operation):
    """Operations that answer with pictures."""

    format: Format | None = Field(
        None, description="The picture's file format; png unless Accept says otherwise."
    )
    quality: int = Field(90, ge=1, le=100, description="For jpeg and webp; webp at 100 is lossless.")


LAST_SEED = 2**53 - 1  # the largest that a JavaScript reader gets whole


class Seeded(Encoded):
    seed: int | None = Field(
        None, ge=0, le=LAST_SEED, description="The n-th picture, from 0, has seed + n; drawn if absent."
    )

    @model_validator(mode="after")
    def _seeds(self) -> Self:
        if self.seed is not None and self.seed + self.count_asked() - 1 > LAST_SEED:
            raise misfit(
                "seed", "the last picture's seed, seed + count - 1, must not lie above {last}", last=LAST_SEED
            )
        return self
