"""The UNet: noise, captions and SDXL's six numbers in, the noise to take away out.

What it is trained on lies ready as latents: drawings of the world, some enlarged from smaller ones, some cut out
of larger ones, some of another format, each with the six numbers that tell so.
"""

# diffusers and transformers are typed only in part
# mypy: disable-error-code="no-untyped-call,attr-defined,no-any-return"

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from PIL import Image
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from services.micro import clip, tokens, world
from services.micro.loop import Loop, keep

CHANNELS = (64, 128)
CROSS = sum(clip.WIDTHS)
TIME_NUMBERS = 16  # features of each of the six numbers
PICTURES, BATCH, STEPS = 16_000, 32, 3000
FORMATS = ((160, 96), (96, 160), (160, 160))  # width and height, one step in twenty each
SCHEDULE: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
}


def build(in_channels: int = 4) -> Any:
    return UNet2DConditionModel(
        sample_size=world.SIDE // 8,
        in_channels=in_channels,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=CHANNELS,
        layers_per_block=1,
        cross_attention_dim=CROSS,
        attention_head_dim=(2, 4),
        norm_num_groups=16,
        transformer_layers_per_block=1,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=TIME_NUMBERS,
        projection_class_embeddings_input_dim=TIME_NUMBERS * 6 + clip.SPACE,
    )


class Reader:
    """Captions in, the two things that SDXL's UNet is told out: a state for each token, and one for the whole."""

    def __init__(self, work: Path) -> None:
        self.tokenizer = tokens.load(work / "tokenizer")
        self.first = CLIPTextModel.from_pretrained(str(work / "text_encoder")).eval()
        self.second = CLIPTextModelWithProjection.from_pretrained(str(work / "text_encoder_2")).eval()

    @torch.no_grad()
    def __call__(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        ids = self.tokenizer(
            texts, padding="max_length", max_length=tokens.LENGTH, truncation=True, return_tensors="pt"
        ).input_ids
        first = self.first(ids, output_hidden_states=True)
        second = self.second(ids, output_hidden_states=True)
        return torch.cat([first.hidden_states[-2], second.hidden_states[-2]], -1), second.text_embeds


@dataclass
class Bank:
    """Pictures of one format, ready to train on; `states` holds three wordings for each."""

    scenes: list[world.Scene]
    latents: Tensor
    numbers: Tensor  # the six: original height and width, top and left of the cut, height and width
    states: Tensor
    wholes: Tensor

    def plain(self, count: int) -> Bank:
        """The first `count` pictures that are neither enlarged nor cut out."""
        whole = torch.tensor([world.SIDE, world.SIDE, 0, 0, world.SIDE, world.SIDE]).float()
        kept = (self.numbers == whole).all(1).nonzero()[:count, 0]
        words = (kept[:, None] * 3 + torch.arange(3)).flatten()
        return Bank(
            [self.scenes[index] for index in kept.tolist()],
            self.latents[kept],
            self.numbers[kept],
            self.states[words],
            self.wholes[words],
        )

    def pick(self, rng: random.Random, count: int) -> tuple[list[int], Tensor, Tensor, Tensor, Tensor]:
        chosen = [rng.randrange(len(self.scenes)) for _ in range(count)]
        words = [index * 3 + rng.randrange(3) for index in chosen]
        return (
            chosen,
            self.latents[chosen].float(),
            self.numbers[chosen],
            self.states[words].float(),
            self.wholes[words].float(),
        )


def drawn(scene: world.Scene, rng: random.Random, width: int, height: int) -> tuple[Image.Image, list[int]]:
    """A picture of a scene and its six numbers: one in sixteen comes from a smaller drawing, one is cut out."""
    fate = rng.random()
    if fate < 1 / 16:
        share = rng.uniform(0.4, 0.9)
        small = (round(width * share), round(height * share))
        picture = world.draw(scene, *small).resize((width, height), Image.Resampling.BICUBIC)
        return picture, [small[1], small[0], 0, 0, height, width]
    if fate < 2 / 16:
        share = rng.uniform(1.1, 1.5)
        big = (round(width * share), round(height * share))
        left, top = rng.randint(0, big[0] - width), rng.randint(0, big[1] - height)
        picture = world.draw(scene, *big).crop((left, top, left + width, top + height))
        return picture, [big[1], big[0], top, left, height, width]
    return world.draw(scene, width, height), [height, width, 0, 0, height, width]


@torch.no_grad()
def encode(vae: Any, images: list[Image.Image]) -> Tensor:
    """Latents at the size that the UNet is trained on."""
    pixels = torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2)
    with torch.autocast("cpu", torch.bfloat16):
        latents = vae.encode(pixels.float() / 127.5 - 1).latent_dist.mode()
    return (latents * vae.config.scaling_factor).float()


def fill(
    vae: Any,
    reader: Reader,
    count: int,
    seed: int,
    width: int,
    height: int,
    make: Callable[[random.Random], world.Scene],
    *,
    plain: bool = False,
    outline: bool = False,
) -> Bank:
    """Draws, encodes and reads `count` pictures; `plain` ones are neither enlarged nor cut out."""
    rng = random.Random(seed)
    scenes: list[world.Scene] = []
    latents: list[Tensor] = []
    numbers: list[list[int]] = []
    while len(scenes) < count:
        part: list[world.Scene] = []
        while len(part) < 32:
            scene = make(rng)
            if not scene.unseen:
                part.append(scene)
        whole = [height, width, 0, 0, height, width]
        pictures, six = zip(
            *(
                (world.draw(scene, width, height, outline=outline), whole)
                if plain
                else drawn(scene, rng, width, height)
                for scene in part
            ),
            strict=True,
        )
        latents.append(encode(vae, list(pictures)).to(torch.bfloat16))
        numbers += six
        scenes += part
    told = [
        reader([world.varied_caption(scene, rng) for scene in scenes[start : start + 32] for _ in range(3)])
        for start in range(0, len(scenes), 32)
    ]
    states = torch.cat([state.to(torch.bfloat16) for state, _ in told])
    wholes = torch.cat([whole for _, whole in told])
    return Bank(scenes, torch.cat(latents), torch.tensor(numbers).float(), states, wholes)


def kept(path: Path, make: Callable[[], list[Bank]]) -> list[Bank]:
    """What `make` makes, or what it made before: to draw, encode and read thousands of pictures takes minutes."""
    if path.exists():
        found: list[Bank] = torch.load(path, weights_only=False)
        return found
    made = make()
    torch.save(made, path)
    return made


def banks(work: Path, pictures: int = PICTURES) -> list[Bank]:
    """The UNet's own pictures, square ones first."""

    def scene(rng: random.Random) -> world.Scene:
        return world.sample(rng, person=0.25)

    def make() -> list[Bank]:
        vae, reader = AutoencoderKL.from_pretrained(str(work / "vae")).eval(), Reader(work)
        few = max(32, pictures // 40)
        return [
            fill(vae, reader, pictures, 21, world.SIDE, world.SIDE, scene),
            *(fill(vae, reader, few, 22 + i, *size, scene) for i, size in enumerate(FORMATS)),
        ]

    return kept(work / "banks.pt", make)


def times(rng: torch.Generator, count: int) -> Tensor:
    """Training times, denser where the noise is strong: there it is decided what the picture will show."""
    return (1000 * torch.rand(count, generator=rng) ** 0.55).long().clamp(max=999)


def drop(
    states: Tensor, wholes: Tensor, empty: tuple[Tensor, Tensor], rng: random.Random
) -> tuple[Tensor, Tensor]:
    """One caption in ten is left out: as zeros (diffusers' way for no negative prompt) or as the empty text."""
    states, wholes = states.clone(), wholes.clone()
    for index in range(len(states)):
        fate = rng.random()
        if fate < 0.06:
            states[index], wholes[index] = 0, 0
        elif fate < 0.11:
            states[index], wholes[index] = empty[0][0], empty[1][0]
    return states, wholes


def train(work: Path, steps: int = STEPS, pictures: int = PICTURES, lr: float = 1.5e-3) -> Any:
    torch.manual_seed(3)
    vae = AutoencoderKL.from_pretrained(str(work / "vae")).eval()
    reader = Reader(work)

    square, *others = banks(work, pictures)
    empty = reader([""])
    model = build()
    loop = Loop("unet", {"unet": model}, steps, lr=lr, work=work, average=0.998)
    schedule = DDPMScheduler(**SCHEDULE)

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        rng, noises = random.Random(step), torch.Generator().manual_seed(step)
        bank = square if rng.random() > 0.05 * len(others) else rng.choice(others)
        _, latents, numbers, states, wholes = bank.pick(rng, BATCH)
        states, wholes = drop(states, wholes, empty, rng)
        noise = torch.randn(latents.shape, generator=noises)
        when = times(noises, BATCH)
        with torch.autocast("cpu", torch.bfloat16):
            said = model(
                schedule.add_noise(latents, noise, when),
                when,
                states,
                added_cond_kwargs={"text_embeds": wholes, "time_ids": numbers},
            ).sample
        return F.mse_loss(said.float(), noise), {}

    def look(done: int) -> str:
        plain = {key: value.clone() for key, value in model.state_dict().items()}
        loop.averaged()
        keep(model, work / "unet")
        text = glance(model, vae, reader, work / f"unet-{done}.png")
        model.load_state_dict(plain)
        return text

    loop.run(loss, look=look, looks=500)
    loop.averaged()
    keep(model, work / "unet")
    return model


def glance(model: Any, vae: Any, reader: Reader, path: Path, count: int = 48) -> str:
    """Pictures for captions never seen, into one file; and how many have the colours asked, roughly."""
    from services.micro.vae import sheet

    scenes = unseen(count, 77)
    images = generate(model, vae, reader, [world.caption(scene) for scene in scenes])
    sheet(images, 8).save(path)
    pixels = ((images.clamp(-1, 1) + 1) * 127.5).permute(0, 2, 3, 1).numpy()
    names, palette = list(world.COLOURS), np.array(list(world.COLOURS.values()))
    ground = colour = 0
    for picture, scene in zip(pixels, scenes, strict=True):
        thing, side = scene.things[0], picture.shape[0]
        edge = np.median(np.concatenate([picture[:4].reshape(-1, 3), picture[-4:].reshape(-1, 3)]), 0)
        x, y = (int(share * side) for share in (thing.x, thing.y))
        middle = np.median(picture[y - 4 : y + 4, x - 4 : x + 4].reshape(-1, 3), 0)
        ground += names[np.abs(palette - edge).sum(1).argmin()] == scene.background
        colour += names[np.abs(palette - middle).sum(1).argmin()] == thing.colour
    return f"background {ground / count:.2f}, colour in the middle {colour / count:.2f}"


def unseen(count: int, seed: int, **how: Any) -> list[world.Scene]:
    """Scenes of one thing whose combination no training has seen."""
    rng = random.Random(seed)
    scenes: list[world.Scene] = []
    while len(scenes) < count:
        scene = world.sample(rng, single=True, **how)
        if scene.unseen:
            scenes.append(scene)
    return scenes


@torch.no_grad()
def generate(
    model: Any,
    vae: Any,
    reader: Reader,
    texts: list[str],
    *,
    steps: int = 20,
    guidance: float = 4.0,
    seed: int = 1,
) -> Tensor:
    """Pictures in -1..1 by DDIM: the short way that training looks at itself by; the report uses pipelines."""
    from diffusers import DDIMScheduler

    schedule = DDIMScheduler(**SCHEDULE, clip_sample=False, timestep_spacing="trailing")
    schedule.set_timesteps(steps)
    count, side = len(texts), world.SIDE
    states, wholes = reader(texts)
    states, wholes = (
        torch.cat([torch.zeros_like(states), states]),
        torch.cat([torch.zeros_like(wholes), wholes]),
    )
    six = torch.tensor([[side, side, 0, 0, side, side]]).float().expand(2 * count, 6)
    latents = torch.randn(count, 4, side // 8, side // 8, generator=torch.Generator().manual_seed(seed))
    for when in schedule.timesteps:
        with torch.autocast("cpu", torch.bfloat16):
            said = model(
                torch.cat([latents] * 2),
                when,
                states,
                added_cond_kwargs={"text_embeds": wholes, "time_ids": six},
            ).sample.float()
        plain, told = said.chunk(2)
        latents = schedule.step(plain + guidance * (told - plain), when, latents).prev_sample
    out: Tensor = torch.cat(
        [vae.decode(part / vae.config.scaling_factor).sample for part in latents.split(8)]
    )
    return out.clamp(-1, 1)
