"""What every door builds on: the operations' names, fields and digests."""

from __future__ import annotations

from typing import ClassVar

import pytest
from pydantic import Field, ValidationError

from services import operations
from services.operations import OPERATIONS, Cleanup, Control, Operation, TextToImage
from services.pictures import Mask, Picture

TEN = {
    "text-to-image": "sdxl",
    "image-to-image": "sdxl",
    "inpaint": "sdxl",
    "control": "controlnet",
    "preprocess": "controlnet",
    "remove-background": "rmbg",
    "cleanup": "cleanup",
    "caption": "caption",
    "portrait": "portrait",
    "sketch-to-image": "pix2pix",
}


def _declare(name: str, fields: dict[str, object], annotations: dict[str, object]) -> type[Operation]:
    before = dict(OPERATIONS)
    try:
        kind = type(
            name,
            (Operation,),
            {"__annotations__": annotations, "__module__": __name__, **fields},
            service="toy",
        )
    finally:
        OPERATIONS.clear()
        OPERATIONS.update(before)
    return kind


def test_all_ten_are_declared_with_their_services() -> None:
    ours = {
        name: kind.service for name, kind in OPERATIONS.items() if kind.__module__ == "services.operations"
    }
    assert ours == TEN


def test_name_and_method_come_from_the_class() -> None:
    kind = operations.RemoveBackground
    assert (kind.name(), kind.method()) == ("remove-background", "remove_background")


def test_every_operation_has_a_sentence_and_a_model() -> None:
    for name, kind in OPERATIONS.items():
        assert kind.summary().endswith("."), name
        assert "model" in kind.model_fields, name


def test_another_wording_has_the_same_digest() -> None:
    one = _declare("Toy", {"size": Field(1, ge=0, description="How large.")}, {"size": int})
    other = _declare(
        "Toy", {"size": Field(1, ge=0, description="The size of it.", examples=[4])}, {"size": int}
    )
    assert one.digest() == other.digest()


@pytest.mark.parametrize("field", [Field(1, ge=1), Field(2, ge=0), Field(ge=0)])
def test_another_bound_or_default_has_another_digest(field: object) -> None:
    one = _declare("Toy", {"size": Field(1, ge=0)}, {"size": int})
    assert one.digest() != _declare("Toy", {"size": field}, {"size": int}).digest()


def test_another_name_or_type_has_another_digest() -> None:
    one = _declare("Toy", {"size": Field(1)}, {"size": int})
    assert one.digest() != _declare("Toy", {"width": Field(1)}, {"width": int}).digest()
    assert one.digest() != _declare("Toy", {"size": Field(1)}, {"size": float}).digest()


def test_picture_fields_know_masks_and_unions() -> None:
    assert Cleanup.picture_fields() == {"image": Picture, "mask": Mask}
    assert operations.RemoveBackground.picture_fields() == {"image": Picture, "background": Picture}
    assert TextToImage.picture_fields() == {"reference": Picture}


def test_pictures_are_found_deep_inside_by_their_path() -> None:
    ask = Control(
        prompt="a cat",
        controls=[{"image": "part:a", "kind": "canny"}, {"image": "part:b", "kind": "openpose"}],  # type: ignore[list-item]
        reference=Picture("part:c"),
    )
    found = {path: picture.ref for path, picture in ask.pictures().items()}
    assert found == {"controls.0.image": "part:a", "controls.1.image": "part:b", "reference": "part:c"}


def test_what_is_dumped_is_validated_to_the_same() -> None:
    ask = Cleanup(image=Picture("part:image"), mask=Mask("part:mask"), quality=70)
    again = Cleanup.model_validate(ask.model_dump(mode="json", exclude_none=True))
    assert isinstance(again.mask, Mask)
    assert again.model_dump(mode="json") == ask.model_dump(mode="json")


def test_controls_send_a_text_to_image_to_controlnet() -> None:
    assert TextToImage(prompt="x").performed_by() == "sdxl"
    steered = TextToImage.model_validate({"prompt": "x", "controls": [{"image": "part:a", "kind": "canny"}]})
    assert steered.performed_by() == "controlnet"


@pytest.mark.parametrize(
    "given", [{"steps": 0}, {"width": 100}, {"guidance": float("nan")}, {"extra": 1}, {"count": 17}]
)
def test_what_is_out_of_bounds_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TextToImage.model_validate({"prompt": "x", **given})


def test_a_class_without_a_service_is_no_operation() -> None:
    class Shared(Operation):
        note: ClassVar[str] = "only fields"

    assert "shared" not in OPERATIONS
