"""Who cuts the person out: in comes a model's name, out comes the engine of the rmbg service that has it.

The engines run in this process, on pictures that have never been encoded in between.
"""

from __future__ import annotations

from pathlib import Path

from services.errors import UnknownModel
from services.models import AUTO, Models, own_catalogues, read_catalogue
from services.rmbg.engines import Engine, engines

NONE = "none"  # keeps the photograph's own ground


class Cutters:
    """The rmbg service's engines, by their models' names and aliases."""

    def __init__(self, folder: Path, threads: int = 1) -> None:
        self._models = Models("rmbg", read_catalogue(*own_catalogues(folder)), folder)
        self._engines = engines(self._models, threads)

    def engine(self, name: str) -> Engine | None:
        """None where nothing is cut out."""
        if name == NONE:
            return None
        try:
            found = self._engines.best() if name == AUTO else self._models.resolve(name)
        except UnknownModel as error:
            raise UnknownModel(
                f"{error.detail} {NONE!r} keeps the photograph's own ground.",
                field="cutter",
                help=error.what_to_do,
            ) from error
        return self._engines[found]
