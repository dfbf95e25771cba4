"""The autoencoder: pictures of the world in, latents of an eighth of their size with four channels out, and back."""

# diffusers and transformers are typed only in part
# mypy: disable-error-code="no-untyped-call,attr-defined,no-any-return"

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor

from services.micro import world
from services.micro.loop import Loop, keep

CROP, BATCH, STEPS = 64, 16, 2400
PICTURES = 5000
DECODER_STEPS = 2000
# A mean over the latent's numbers: just enough to keep them near the middle
KL = 2e-6


def build() -> Any:
    """Without attention in its middle, so that it may be trained on pieces of pictures."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 96),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=world.SIDE,
        mid_block_add_attention=False,
        force_upcast=False,
    )


def pictures(count: int, seed: int) -> Tensor:
    """Drawings, and one in twelve that is none of this world: washes of colour, noise, strokes."""
    rng = random.Random(seed)
    drawn = [
        np.asarray(stranger(rng) if rng.random() < 1 / 12 else world.draw(world.sample(rng, person=0.3)))
        for _ in range(count)
    ]
    return torch.from_numpy(np.stack(drawn)).permute(0, 3, 1, 2).contiguous()


def stranger(rng: random.Random, side: int = world.SIDE) -> Image.Image:
    """A picture unlike the world's, so that those of other people survive the autoencoder somewhat."""
    noise = np.random.default_rng(rng.getrandbits(32))
    cells = rng.choice((2, 3, 4, 6, 12))
    coarse = Image.fromarray(noise.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
    picture = coarse.resize((side, side), Image.Resampling.BICUBIC)
    if rng.random() < 0.5:
        other = Image.new("RGB", (side, side), tuple(rng.randrange(256) for _ in range(3)))
        scene = world.sample(rng, person=0.3)
        stencil = world.mask(scene.things[0], side, side, whole=False)
        picture = Image.composite(other, picture, stencil)
    return picture


def crops(images: Tensor, rng: torch.Generator, count: int = BATCH, side: int = CROP) -> Tensor:
    """Random pieces in -1..1; of two pieces the busier one is taken, since most of the world is flat."""
    out = []
    for _ in range(count):
        best, busiest = None, -1.0
        for _ in range(2):
            index = int(torch.randint(0, len(images), (1,), generator=rng))
            y, x = (int(torch.randint(0, images.shape[2] - side + 1, (1,), generator=rng)) for _ in range(2))
            piece = images[index, :, y : y + side, x : x + side].float()
            busy = float((piece[:, ::2, 1:] - piece[:, ::2, :-1]).abs().mean())
            if busy > busiest:
                best, busiest = piece, busy
        assert best is not None
        out.append(best)
    return torch.stack(out) / 127.5 - 1


def train(work: Path, steps: int = STEPS, lr: float = 3e-3, muon: bool = True) -> Any:
    torch.manual_seed(1)
    model = build()
    images, unseen = pictures(PICTURES, 1), pictures(48, 2).float() / 127.5 - 1
    rng = torch.Generator().manual_seed(1)
    loop = Loop("vae", {"vae": model}, steps, lr=lr, work=work, muon=muon, average=0.998)

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        batch = crops(images, rng.manual_seed(1_000_000 + step))
        with torch.autocast("cpu", torch.bfloat16, enabled=True):
            latents = model.encode(batch).latent_dist
            back = model.decode(latents.sample()).sample
        back = back.float()
        error = F.mse_loss(back, batch)
        spread = 0.5 * (latents.mean.float() ** 2 + latents.var.float() - 1 - latents.logvar.float()).mean()
        return error + 0.2 * F.l1_loss(back, batch) + KL * spread, {
            "mse": float(error.detach()),
            "kl": float(spread.detach()),
        }

    @torch.no_grad()
    def look(done: int) -> str:
        plain = {key: value.clone() for key, value in model.state_dict().items()}
        loop.averaged()
        back = torch.cat(
            [model.decode(model.encode(part).latent_dist.mode()).sample for part in unseen.split(8)]
        )
        model.load_state_dict(plain)
        rows = torch.cat([unseen[:12], back[:12], unseen[12:24], back[12:24]])
        sheet(rows, 12).save(work / "vae.png")
        return f"squared error on unseen pictures {float(F.mse_loss(back.clamp(-1, 1), unseen)):.5f}"

    loop.run(loss, look=look, looks=500)
    loop.averaged()
    with torch.no_grad():
        latents = torch.cat([model.encode(part).latent_dist.mode() for part in unseen.split(8)])
    model.register_to_config(scaling_factor=round(1 / float(latents.std()), 5))
    keep(model, work / "vae")
    return model


def train_decoder(work: Path, steps: int = DECODER_STEPS, lr: float = 1.5e-3) -> Any:
    """Makes the way back sharper, while the latents, and so all that has been trained on them, stay as they are."""
    torch.manual_seed(4)
    model = AutoencoderKL.from_pretrained(str(work / "vae"))
    model.encoder.requires_grad_(False)
    model.quant_conv.requires_grad_(False)
    images, unseen = pictures(PICTURES, 4), pictures(48, 2).float() / 127.5 - 1
    rng = torch.Generator()
    back = torch.nn.ModuleDict({"post": model.post_quant_conv, "decoder": model.decoder})
    loop = Loop("decoder", {"back": back}, steps, lr=lr, work=work, average=0.998)

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        batch = crops(images, rng.manual_seed(2_000_000 + step))
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                latents = model.encode(batch).latent_dist.mode()
            # The UNet's latents are never quite right: a little noise makes the decoder forgiving.
            shaken = latents + 0.03 / model.config.scaling_factor * torch.randn(latents.shape, generator=rng)
            said = model.decode(shaken).sample.float()
        error = F.mse_loss(said, batch)
        return error + 0.2 * F.l1_loss(said, batch), {"mse": float(error.detach())}

    @torch.no_grad()
    def look(done: int) -> str:
        plain = {key: value.clone() for key, value in back.state_dict().items()}
        loop.averaged()
        parts = [model.decode(model.encode(part).latent_dist.mode()).sample for part in unseen.split(8)]
        back.load_state_dict(plain)
        return (
            f"squared error on unseen pictures {float(F.mse_loss(torch.cat(parts).clamp(-1, 1), unseen)):.5f}"
        )

    loop.run(loss, look=look, looks=300)
    loop.averaged()
    keep(model, work / "vae")
    return model


def sheet(images: Tensor, columns: int) -> Image.Image:
    """Pictures in -1..1 side by side."""
    pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    height, width = pixels.shape[1:3]
    rows = -(-len(pixels) // columns)
    out = Image.new("RGB", (columns * (width + 2), rows * (height + 2)), (128, 128, 128))
    for index, picture in enumerate(pixels):
        out.paste(
            Image.fromarray(picture), ((index % columns) * (width + 2), (index // columns) * (height + 2))
        )
    return out
