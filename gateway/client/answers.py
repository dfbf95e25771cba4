"""What the gateway answers, as values: a finished picture, a result, one of a batch, an asset. Nothing here talks to
anybody."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.errors import BadInput, DarkroomError, ServiceFault, from_problem

if TYPE_CHECKING:
    from PIL.Image import Image

EXTENSIONS = {
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/webp": ".webp",
    "image/gif": ".gif",
    "image/tiff": ".tif",
}


@dataclass(frozen=True, slots=True)
class Made:
    """A picture that was made: its bytes, and what is known of it."""

    content: bytes = field(repr=False)
    media_type: str
    role: str = "picture"
    width: int | None = None
    height: int | None = None
    seed: int | None = None
    id: str | None = None

    @property
    def extension(self) -> str:
        return EXTENSIONS.get(self.media_type, ".bin")

    def save(self, path: str | Path) -> Path:
        """Write it; a path without an extension gets the picture's own."""
        target = Path(path)
        if not target.suffix:
            target = target.with_suffix(self.extension)
        target.write_bytes(self.content)
        return target

    def pil(self) -> Image:
        """The picture for Pillow."""
        from PIL import Image as Pillow

        return Pillow.open(io.BytesIO(self.content))


@dataclass(frozen=True, slots=True)
class Result:
    """What a call or a job came to: its pictures, its data, and the whole document."""

    document: dict[str, Any] = field(repr=False)
    pictures: list[Made]

    @property
    def operation(self) -> str:
        return str(self.document["operation"])

    @property
    def model(self) -> str | None:
        name: str | None = self.document.get("model")
        return name

    @property
    def data(self) -> Any:
        return self.document.get("data")

    @property
    def timing(self) -> dict[str, Any]:
        return dict(self.document.get("timing") or {})

    @property
    def picture(self) -> Made:
        """The first picture."""
        if not self.pictures:
            raise BadInput(f"{self.operation} answered with data, not with a picture.", help="Read `.data`.")
        return self.pictures[0]

    def save(self, path: str | Path) -> Path:
        """Write the first picture."""
        return self.picture.save(path)

    def save_all(self, folder: str | Path, stem: str | None = None) -> list[Path]:
        """Write each picture into a folder, as STEM-1.png and so on; the operation's name is the stem otherwise."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        name = stem or self.operation
        return [
            picture.save(Path(folder) / f"{name}-{number}{picture.extension}")
            for number, picture in enumerate(self.pictures, 1)
        ]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one of a batch: `given` is what went in, as the `index`-th."""

    index: int
    given: Any = field(repr=False)
    answer: Result | None = None
    error: DarkroomError | None = None

    @property
    def ok(self) -> bool:
        return self.error is None

    @property
    def result(self) -> Result:
        """The result; where it failed, its error is raised."""
        if self.answer is None:
            raise self.error or ServiceFault("There is neither a result nor an error.")
        return self.answer


@dataclass(frozen=True, slots=True)
class Asset:
    """A picture that the gateway keeps; give it wherever a picture is asked for."""

    id: str
    document: dict[str, Any] = field(repr=False)


def finished(document: dict[str, Any]) -> bool:
    return document["state"] in ("succeeded", "failed", "cancelled")


def raise_if_failed(document: dict[str, Any]) -> None:
    """A job's failure as the exception that it was."""
    if document["state"] == "succeeded":
        return
    problem = document.get("error") or {
        "type": "cancelled",
        "detail": f"The job {document['id']} was cancelled.",
    }
    raise from_problem(problem)
