"""Who reads poses here: in come the models on disk, out comes the one that a request asks for, loaded when first used.

`micro-pose` knows the stick figures of the micro family's world and comes with it; `openpose` reads photographs, where
its weights are on disk and controlnet-aux is installed. `canny` is arithmetic and always there.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable
from typing import Protocol

from PIL import Image

from services.errors import BadInput, UnknownModel
from services.models import AUTO, ModelEntry, Models
from services.operations import Preprocess
from services.poses import Person

CANNY, OPENPOSE, MICRO = "canny", "openpose", "micro-pose"
HOW_TO_OPENPOSE = (
    f"`darkroom models pull {OPENPOSE}` fetches the weights, and `pip install darkroom[openpose]` the code that reads "
    "with them; or send the pose as `keypoints`."
)


class PoseReader(Protocol):
    """What every engine that finds people is."""

    hands: bool  # whether it can tell them
    face: bool

    def read(self, image: Image.Image, *, hands: bool, face: bool) -> list[Person]:
        """Everyone in an RGB picture, the surest first; the points are pixels of the picture."""


class Readers:
    """The engines that can be had, the best first; each is made at its first use and kept."""

    def __init__(self, makers: dict[str, Callable[[], PoseReader]]) -> None:
        self._makers = makers
        self._made: dict[str, PoseReader] = {}
        self._one_at_a_time = threading.Lock()

    @property
    def names(self) -> list[str]:
        return [*self._makers]

    def choose(self, ask: Preprocess) -> str:
        """The name of what performs it."""
        if ask.kind == "canny":
            return self._only(ask.model, CANNY)
        if ask.keypoints is not None:
            return self._only(ask.model, OPENPOSE) if ask.model not in self._makers else ask.model
        if ask.model == AUTO:
            return next(iter(self._makers), OPENPOSE)
        return self._known(ask.model)

    def pose(self, name: str = AUTO, *, hands: bool = False, face: bool = False, at: str = "") -> PoseReader:
        """The engine of that name, or the best that can tell what is asked; `at` is the path of the request's part."""
        if not self._makers:
            raise UnknownModel(
                "Nothing that reads poses is loaded here.", field="model", help=HOW_TO_OPENPOSE
            )
        names = [*self._makers] if name == AUTO else [self._known(name)]
        readers = (self._reader(name) for name in names)
        found = next((r for r in readers if r.hands >= hands and r.face >= face), None)
        if found is None:
            wanted = "hands" if hands else "face"
            raise BadInput(
                f"{' and '.join(names)} cannot read {'faces' if wanted == 'face' else wanted}.",
                field=f"{at}{wanted}",
                help=HOW_TO_OPENPOSE,
            )
        return found

    def _reader(self, name: str) -> PoseReader:
        with self._one_at_a_time:
            if name not in self._made:
                self._made[name] = self._makers[name]()
            return self._made[name]

    def _known(self, name: str) -> str:
        if name not in self._makers:
            raise UnknownModel(
                f"The pose reader {name!r} is not loaded here. Loaded are: {', '.join(self._makers) or 'none'}.",
                field="model",
                help=HOW_TO_OPENPOSE,
            )
        return name

    @staticmethod
    def _only(asked: str, name: str) -> str:
        if asked not in (AUTO, name):
            raise UnknownModel(
                f"{asked!r} does not do this; {name} does.", field="model", help="Leave out `model`."
            )
        return name


def load_readers(models: Models, device: str = "cpu") -> Readers:
    """Those whose files are on disk and whose code is installed; a damaged file is told when it is first read."""
    makers: dict[str, Callable[[], PoseReader]] = {}
    for entry in sorted(models, key=lambda entry: -entry.rank):
        make = _ENGINES.get(entry.engine)
        if make is not None and (maker := make(entry, models, device)) is not None:
            makers[entry.name] = maker
    return Readers(makers)


def _openpose(entry: ModelEntry, models: Models, device: str) -> Callable[[], PoseReader] | None:
    if importlib.util.find_spec("controlnet_aux") is None or not models.shelf.present(models.place(entry)):
        return None

    def make() -> PoseReader:
        from services.controlnet.openpose import OpenposeReader

        models.shelf.check(entry.name, models.place(entry))
        return OpenposeReader(models.place(entry), device)

    return make


def _micro(entry: ModelEntry, models: Models, _device: str) -> Callable[[], PoseReader] | None:
    if not models.shelf.present(models.place(entry)):
        return None

    def make() -> PoseReader:
        from services.controlnet.micro_pose import MicroReader

        return MicroReader(models.place(entry))

    return make


_ENGINES: dict[str, Callable[[ModelEntry, Models, str], Callable[[], PoseReader] | None]] = {
    "controlnet-aux": _openpose,
    "micro-pose": _micro,
}
