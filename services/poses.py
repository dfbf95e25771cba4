"""Poses as JSON, in and out: for each person the 18 points of OpenPose's body model, and hands and face where known.

The order of the body's points is OpenPose's (COCO): nose, neck, right shoulder, elbow, wrist, left shoulder, elbow,
wrist, right hip, knee, ankle, left hip, knee, ankle, right eye, left eye, right ear, left ear. A point that is
not seen has confidence 0. Coordinates are pixels of a canvas of `width` x `height`.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

BODY_POINTS, HAND_POINTS, FACE_POINTS = 18, 21, 70

Coordinate = Annotated[float, Field(ge=-16_384, le=16_384)]
Confidence = Annotated[float, Field(ge=0, le=1)]
Point = tuple[Coordinate, Coordinate, Confidence]


class Person(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    body: list[Point] = Field(min_length=BODY_POINTS, max_length=BODY_POINTS)
    left_hand: list[Point] | None = Field(None, min_length=HAND_POINTS, max_length=HAND_POINTS)
    right_hand: list[Point] | None = Field(None, min_length=HAND_POINTS, max_length=HAND_POINTS)
    face: list[Point] | None = Field(None, min_length=68, max_length=FACE_POINTS)


class Poses(BaseModel):
    """Everyone in a picture."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    people: list[Person] = Field(min_length=1, max_length=16)
    width: int | None = Field(
        None, ge=1, le=16_384, description="The canvas; the picture's own size if absent."
    )
    height: int | None = Field(None, ge=1, le=16_384)


def _from_openpose(value: Any) -> Any:
    """Takes OpenPose's own JSON (`pose_keypoints_2d`, flat), and a bare list of one person's points."""
    if isinstance(value, list):
        return {"people": [{"body": value}]}
    if not isinstance(value, dict) or not isinstance(value.get("people"), list):
        return value
    names = {
        "pose_keypoints_2d": "body",
        "hand_left_keypoints_2d": "left_hand",
        "hand_right_keypoints_2d": "right_hand",
        "face_keypoints_2d": "face",
    }
    if not any(isinstance(person, dict) and "pose_keypoints_2d" in person for person in value["people"]):
        return value
    people = [
        {ours: _triples(person[theirs]) for theirs, ours in names.items() if person.get(theirs)}
        for person in value["people"]
        if isinstance(person, dict)
    ]
    size = {"width": value.get("canvas_width"), "height": value.get("canvas_height")}
    return {"people": people, **{name: number for name, number in size.items() if number is not None}}


def _triples(flat: Any) -> Any:
    if not isinstance(flat, list) or len(flat) % 3:
        return flat
    return [tuple(flat[at : at + 3]) for at in range(0, len(flat), 3)]


Keypoints = Annotated[Poses, BeforeValidator(_from_openpose)]
