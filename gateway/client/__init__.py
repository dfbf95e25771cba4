"""Darkroom from a Python program: parameters and pictures in, pictures and data out.

from gateway.client import Darkroom

with Darkroom() as darkroom:
    darkroom.run("remove-background", image="photo.jpg").save("cutout.png")
"""

from gateway.client.answers import Asset, Made, Result
from gateway.client.asynchronous import AsyncDarkroom, AsyncJob
from gateway.client.events import ServerEvent
from gateway.client.sync import Darkroom, Job

__all__ = ["Asset", "AsyncDarkroom", "AsyncJob", "Darkroom", "Job", "Made", "Result", "ServerEvent"]
