"""What is asked for with POST /v1/jobs: as JSON, and as a form with parameters in `params` or beside it."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.doors.jobs import requested
from gateway.forms import Form
from services.errors import BadInput


def form(**fields: Any) -> Form:
    return Form(fields=fields, text=True)


def test_a_form_has_its_parameters_in_params_or_as_fields_of_their_own() -> None:
    for given in (
        form(operation="text-to-image", params='{"prompt": "x", "loras": [{"name": "ink"}], "seed": 7}'),
        form(operation="text-to-image", prompt="x", loras='[{"name": "ink"}]', seed="7"),
        form(operation="text-to-image", prompt="x", params='{"loras": [{"name": "ink"}], "seed": 7}'),
    ):
        wanted, operation = requested(given)
        assert operation.name() == "text-to-image"
        assert wanted.params | {"seed": int(wanted.params["seed"])} == {
            "prompt": "x",
            "loras": [{"name": "ink"}],
            "seed": 7,
        }


@pytest.mark.parametrize(
    ("given", "field", "sentence"),
    [
        (Form({"operation": "text-to-image", "prompt": "x"}), "prompt", "belongs into `params`"),
        (Form({"operation": "text-to-image", "promt": "x"}), "promt", "is not known here"),
        (form(operation="text-to-image", prompt="x", params='{"prompt": "y"}'), "prompt", "given twice"),
        (form(operation="text-to-image", loras="[", prompt="x"), "loras", "must be JSON text"),
        (form(operation="nothing", prompt="x"), "operation", "There is no operation"),
        (form(prompt="x"), "operation", "required"),
    ],
)
def test_what_stands_in_the_wrong_place_is_told_where_it_belongs(
    given: Form, field: str, sentence: str
) -> None:
    with pytest.raises(BadInput, match=sentence) as caught:
        requested(given)
    assert caught.value.field == field
