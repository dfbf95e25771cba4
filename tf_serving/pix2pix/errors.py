"""What can go wrong with a model's life; each says in a sentence what to do."""

from __future__ import annotations


class Pix2PixError(Exception):
    """Nothing was done, or no more is done."""


class DataError(Pix2PixError):
    """The pairs cannot be used."""


class ShapeError(Pix2PixError):
    """No such net can be built."""


class RunError(Pix2PixError):
    """A run's folder, or a checkpoint in it, is not what it should be."""


class TuningError(Pix2PixError):
    """A search cannot be used."""


class ExportError(Pix2PixError):
    """A model cannot be written, or is not what it was made of."""


class Stopped(KeyboardInterrupt):
    """Ctrl-C, and what was learned is saved. Not an `Exception`, so that no search takes it for a failed trial."""
