"""Darkroom from a Python program: parameters and pictures in, pictures and data out.

from gateway.client import Darkroom

with Darkroom() as darkroom:
    darkroom.remove_background("photo.jpg").save("cutout.png")
"""

from gateway.client.answers import Asset, Made, Outcome, Result
from gateway.client.asynchronous import AsyncDarkroom, AsyncJob, AsyncStream
from gateway.client.events import ServerEvent
from gateway.client.params import PictureLike
from gateway.client.steps import Unreachable
from gateway.client.sync import Darkroom, Job, Stream
from services.errors import DarkroomError

__all__ = [
    "Asset",
    "AsyncDarkroom",
    "AsyncJob",
    "AsyncStream",
    "Darkroom",
    "DarkroomError",
    "Job",
    "Made",
    "Outcome",
    "PictureLike",
    "Result",
    "ServerEvent",
    "Stream",
    "Unreachable",
]
