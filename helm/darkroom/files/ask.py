"""`helm test` runs this beside the gateway: it waits until the gateway is ready, and has one picture made."""

import io
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from typing import Any

import httpx
from PIL import Image, ImageDraw

from gateway.client import Darkroom
from services.errors import DarkroomError

URL, SECONDS = os.environ["DARKROOM_URL"], float(os.environ["DARKROOM_SECONDS"])
# a certificate has the name that people use, not the one that pods do; nothing secret goes another way
UNVERIFIED = ssl.create_default_context()
UNVERIFIED.check_hostname, UNVERIFIED.verify_mode = False, ssl.CERT_NONE
# the cheapest first
ASKS: dict[str, dict[str, Any]] = {
    "remove-background": {"image": True},
    "preprocess": {"image": True, "kind": "canny"},
    "portrait": {"image": True},
    "caption": {"image": True},
    "sketch-to-image": {"image": True},
    "text-to-image": {"prompt": "a red circle", "steps": 2, "width": 128, "height": 128},
}


def picture() -> bytes:
    drawn = Image.new("RGB", (96, 96), "white")
    ImageDraw.Draw(drawn).ellipse((24, 16, 72, 80), fill="firebrick")
    out = io.BytesIO()
    drawn.save(out, "PNG")
    return out.getvalue()


def wait() -> None:
    until = time.monotonic() + SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"{URL}/readyz?exclude=services", timeout=5, context=UNVERIFIED):
                return
        except OSError as error:
            if time.monotonic() > until:
                said = error.read().decode() if isinstance(error, urllib.error.HTTPError) else error
                sys.exit(f"The gateway at {URL} was not ready within {SECONDS:g} s: {said}")
        time.sleep(1)


def ask(darkroom: Darkroom) -> str:
    offered = {one["name"]: one for one in darkroom.operations()}
    ready = [name for name in ASKS if offered.get(name, {}).get("available")]
    if not ready:
        reasons = "; ".join(f"{name}: {one['reason']}" for name, one in offered.items())
        sys.exit(f"No operation can be performed now. {reasons}")
    params = dict(ASKS[ready[0]])
    if params.pop("image", False):
        params["image"] = picture()
    darkroom.run(ready[0], **params)
    return ready[0]


wait()
try:
    with Darkroom(URL, transport=httpx.HTTPTransport(verify=UNVERIFIED)) as darkroom:
        began = time.monotonic()
        done = ask(darkroom)
except DarkroomError as error:
    sys.exit(f"{error.detail} {error.what_to_do}")
sys.stdout.write(f"{URL} is ready, and {done} took {time.monotonic() - began:.2f} s.\n")
