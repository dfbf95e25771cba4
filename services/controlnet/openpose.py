"""OpenPose as controlnet-aux has it: in comes a picture, out come its people, with hands and face where asked.

The nets and the finding of limbs are controlnet-aux's, which brings torchvision and timm and is imported here only.
Its own loader would fetch from the network and demands all three files; here the weights come from a folder, by
`weights_only`, and hands and face where their files are.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from controlnet_aux.open_pose import OpenposeDetector, util
from controlnet_aux.open_pose.body import Body, BodyResult
from controlnet_aux.open_pose.face import Face, FaceNet
from controlnet_aux.open_pose.hand import Hand
from controlnet_aux.open_pose.model import bodypose_model, handpose_model
from numpy.typing import NDArray
from PIL import Image

from services.controlnet.geometry import moved
from services.errors import Unavailable
from services.poses import FACE_POINTS, HAND_POINTS, Person, Point

BODY_FILE, HAND_FILE, FACE_FILE = "body_pose_model.pth", "hand_pose_model.pth", "facenet.pth"
SIDE = 512  # of the picture's shorter side: what the nets were made for
LONGEST = 2048
LEAST_HEAT = 0.05  # of a point of the face that is there
UNSEEN: Point = (0.0, 0.0, 0.0)

Pixels = NDArray[Any]  # of uint8, BGR


class OpenposeReader:
    def __init__(self, folder: Path, device: str = "cpu") -> None:
        body = _net(Body, bodypose_model(), folder / BODY_FILE, renamed=True)
        hand = _net(Hand, handpose_model(), folder / HAND_FILE, renamed=True)
        face = _net(Face, FaceNet(), folder / FACE_FILE, renamed=False)
        if body is None:
            raise Unavailable(
                f"{folder / BODY_FILE} is missing.", help="`darkroom models pull openpose` fetches it."
            )
        self.hands, self.face = hand is not None, face is not None
        self._detector = OpenposeDetector(body, hand, face)
        for part in filter(None, (body, hand, face)):
            part.to(device)
        self._one_at_a_time = threading.Lock()

    def read(self, image: Image.Image, *, hands: bool, face: bool) -> list[Person]:
        scale = min(SIDE / min(image.size), LONGEST / max(image.size))
        size = max(8, round(image.width * scale)), max(8, round(image.height * scale))
        pixels = np.ascontiguousarray(np.asarray(image.convert("RGB"))[:, :, ::-1])
        pixels = np.asarray(
            cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LANCZOS4)
        )
        with self._one_at_a_time, torch.inference_mode():
            found = self._detector.body_estimation.format_body_result(*self._detector.body_estimation(pixels))
            people = [
                self._person(body, pixels, hands, face)
                for body in sorted(found, key=lambda body: -body.total_score)
            ]
        return [moved(person, (image.width / size[0], image.height / size[1])) for person in people]

    def _person(self, body: BodyResult, pixels: Pixels, hands: bool, face: bool) -> Person:
        left, right = self._detector.detect_hands(body, pixels) if hands else (None, None)
        height, width = pixels.shape[:2]
        return Person(
            body=[
                UNSEEN if point is None else (float(point.x), float(point.y), _share(point.score))
                for point in body.keypoints
            ],
            left_hand=_hand(left, width, height),
            right_hand=_hand(right, width, height),
            face=self._face(body, pixels) if face else None,
        )

    def _face(self, body: BodyResult, pixels: Pixels) -> list[Point] | None:
        """The strongest answer for each point; its own reading leaves out weak ones, and the rest would slip."""
        box = util.faceDetect(body, pixels)
        if box is None:
            return None
        left, top, side = box
        heat = self._detector.face_estimation(pixels[top : top + side, left : left + side])[:FACE_POINTS]
        points: list[Point] = []
        for layer in heat:
            y, x = np.unravel_index(int(np.argmax(layer)), layer.shape)
            value = float(layer[y, x])
            points.append((float(left + x), float(top + y), _share(value)) if value > LEAST_HEAT else UNSEEN)
        return points if any(point[2] for point in points) else None


def _net(kind: Any, model: Any, path: Path, *, renamed: bool) -> Any:
    """One of controlnet-aux's estimators with weights from a file; None where there is no such file."""
    if not path.is_file():
        return None
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(util.transfer(model, weights) if renamed else weights)
    except (
        Exception
    ) as error:  # unpicklers and shapes fail in many ways; each means another file than it should be
        raise Unavailable(
            f"{path} does not hold the weights of this net: {str(error)[:200]}",
            help="Delete it; `darkroom models pull openpose` fetches it anew.",
        ) from error
    estimator = kind.__new__(kind)
    estimator.model = model.eval()
    return estimator


def _hand(points: Any, width: int, height: int) -> list[Point] | None:
    """From shares of the picture to its pixels; what was not found lies left of it."""
    if points is None or len(points) != HAND_POINTS:
        return None
    read = [
        (float(point.x) * width, float(point.y) * height, 1.0) if point.x >= 0 and point.y >= 0 else UNSEEN
        for point in points
    ]
    return read if any(point[2] for point in read) else None


def _share(value: float) -> float:
    return min(1.0, max(0.0, float(value)))
