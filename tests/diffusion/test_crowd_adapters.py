"""The engine with models from disk: a crowd of different LoRAs, references, controls and models, each as if alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from services.diffusion.devices import Plan
from services.diffusion.engine import Engine
from services.diffusion.recipe import LoraUse, Recipe
from services.diffusion.residents import Residents, offer
from services.errors import BadInput
from services.models import ModelEntry, Models
from tests.diffusion.crowd import Asked, differ
from tests.diffusion.lora_files import ip_adapter, peft_form
from tests.diffusion.tiny import control, controlnet, picture, pipeline, recipe

pytestmark = pytest.mark.filterwarnings("ignore:Already found a .peft_config:UserWarning")


@pytest.fixture(scope="module")
def residents(tmp_path_factory: pytest.TempPathFactory) -> Residents:
    folder = tmp_path_factory.mktemp("models")
    pipe = pipeline("sdxl")
    pipe.save_pretrained(folder / "one")
    pipe.save_pretrained(folder / "two")
    controlnet("sdxl", 11).save_pretrained(folder / "edges")
    ip_adapter(folder / "look", pipe.unet)
    (folder / "loras").mkdir()
    parts = {"unet": pipe.unet, "text_encoder_2": pipe.text_encoder_2}
    peft_form(folder / "loras" / "ink.safetensors", 1, **parts)
    peft_form(folder / "loras" / "chalk.safetensors", 2, unet=pipe.unet)
    peft_form(folder / "loras" / "old.safetensors", 3, unet=pipeline("sd").unet)
    usual = {"service": "sdxl", "engine": "diffusers", "licence": "none"}
    whole = {"controlnet-canny": "edges", "ip-adapter": "look"}
    entries = [
        *(ModelEntry.model_validate({"name": name, "parts": whole, **usual}) for name in ("one", "two")),
        *(ModelEntry.model_validate({"name": name, "kind": "part", **usual}) for name in ("edges", "look")),
    ]
    models = Models("sdxl", entries, folder)
    assert offer(models) == ["one", "two"]
    return Residents(models, Plan("cpu", torch.float32, 10**9, loras=2))


@pytest.fixture
def engine(residents: Residents) -> Iterator[Engine]:
    made = Engine(residents)
    yield made
    made.close()


def asked(seed: int, model: str = "one", steps: int = 4, **more: object) -> Recipe:
    return recipe(model=model, seed=seed, steps=steps, **more)


def test_a_crowd_of_all_kinds_gets_what_each_gets_alone(engine: Engine, residents: Residents) -> None:
    ink, chalk = LoraUse("ink", 0.7), LoraUse("chalk", 0.5)
    asks = [
        asked(1),
        asked(2, loras=(ink,), steps=6),
        asked(3, loras=(ink, chalk)),
        asked(4, reference=picture(4), reference_scale=0.8),
        asked(5, reference=picture(5), reference_scale=0.8, loras=(chalk,), steps=5),
        asked(6, controls=(control("canny"),)),
        asked(7, "two", loras=(ink,)),
        asked(8, "two", steps=3),
    ]
    alone = [Asked(one).start(engine).end().pictures[0] for one in asks]
    crowd = [Asked(one) for one in asks]
    for one in crowd:
        one.start(engine)
    for one, expected in zip(crowd, alone, strict=True):
        assert differ(one.end().pictures[0], expected) <= 1
    assert differ(alone[0], alone[7]) > 8, "they are not all the same picture"
    assert sorted(residents.names) == ["one", "two"]


def test_who_names_a_lora_that_does_not_fit_fails_alone(engine: Engine) -> None:
    fine = Asked(asked(1, steps=8)).start(engine)
    bad = Asked(asked(2, loras=(LoraUse("old"),))).start(engine).end()
    assert isinstance(bad.error, BadInput)
    assert bad.error.field == "loras.0.name"
    expected = Asked(asked(1, steps=8)).start(engine).end().pictures[0]
    assert differ(fine.end().pictures[0], expected) <= 1


def test_after_all_nobody_holds_anything(engine: Engine, residents: Residents) -> None:
    Asked(asked(1, loras=(LoraUse("ink"),))).start(engine).end()
    resident = residents.claim("one")
    assert resident.users == 1
    assert all(not lora.users for lora in resident.switchboard._loras.values())
    residents.release(resident)
