"""LoRAs as files: in goes a name or the digest of an upload, out go tensors that fit the model, or a refusal.

A LoRA is found in the catalogue, in `models/loras/` under its file's name, or among the uploads. diffusers' own
converters read the forms of kohya and diffusers; what came of it is then held against the model's layers, name by
name and width by width, before anything of it is attached.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from services import uploads
from services.diffusion.checkpoint import Checkpoint
from services.errors import BadInput, UnknownModel
from services.models import ModelEntry, Models

Widths = dict[str, tuple[int, int]]  # a layer's path: how many numbers go in and out
_ENDS = {".lora_A.weight": "in", ".lora_B.weight": "out"}


@dataclass(slots=True)
class LoraFile:
    """A LoRA that was read and fits: tensors by part of the model, in the form that diffusers attaches."""

    source: str
    tensors: dict[str, torch.Tensor]
    alphas: dict[str, float] | None
    metadata: dict[str, Any] | None
    parts: frozenset[str] = field(default_factory=frozenset)  # unet, text_encoder, text_encoder_2

    @property
    def size(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors.values())


class Library:
    """Where LoRAs are found."""

    def __init__(self, models: Models) -> None:
        self._models = models

    def find(self, source: str, where: str = "loras") -> Path:
        """The file of a name or of an upload; UnknownModel where there is none. `where` is the field at fault."""
        if source.startswith(uploads.SCHEME):
            path = uploads.find(source)
            if path is None:
                raise BadInput("The uploaded LoRA is no longer here; send it again.", field=where)
            return path
        entry = self.entries().get(source)
        if entry is None:
            raise UnknownModel(f"There is no LoRA {source!r} here. {self._names()}", field=where)
        if entry.single_file:
            place = self._models.place(entry)
            if entry.fetched and not self._models.shelf.present(place):
                raise UnknownModel(
                    f"The LoRA {entry.name!r} is not on this disk.",
                    field=where,
                    help=f"`darkroom models pull {entry.name}` fetches it.",
                )
            if entry.fetched:
                self._models.shelf.check(entry.name, place)
            return place / entry.single_file
        raise UnknownModel(f"The catalogue names no file of the LoRA {source!r}.", field=where)

    def checksum(self, source: str) -> str:
        """The SHA-256 of a name's file, by which people find a LoRA again; kept for as long as the file stays."""
        path = self.find(source)
        facts = path.stat()
        return _checksum(path, facts.st_mtime_ns, facts.st_size)

    def entries(self) -> dict[str, ModelEntry]:
        """By name and alias: the catalogue's, and the files in `models/loras/`, which need no entry."""
        return {name: entry for entry in self._models.loras() for name in (entry.name, *entry.aliases)}

    def _names(self) -> str:
        names = sorted({entry.name for entry in self.entries().values()})
        shown = ", ".join(names[:12]) + (" ..." if len(names) > 12 else "")
        return (
            f"There are: {shown}." if names else "Put one into the folder models/loras, or send it as a file."
        )


@lru_cache(maxsize=256)
def _checksum(path: Path, changed_at: int, size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def layers_of(checkpoint: Checkpoint) -> dict[str, Widths]:
    """Every layer that a LoRA can change, by part; made while nothing is attached yet."""
    parts = {"unet": checkpoint.unet}
    # the refiner's only encoder is the second one's kind, and is named so in files
    names = ["text_encoder_2"] if checkpoint.family == "sdxl-refiner" else ["text_encoder", "text_encoder_2"]
    parts |= dict(zip(names, checkpoint.text_encoders, strict=False))
    return {name: _widths(part) for name, part in parts.items()}


def _widths(network: torch.nn.Module) -> Widths:
    found: Widths = {}
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.Linear):
            found[name] = (module.in_features, module.out_features)
        elif isinstance(module, torch.nn.Conv2d):
            found[name] = (module.in_channels, module.out_channels)
        elif isinstance(module, torch.nn.Embedding):
            found[name] = (module.num_embeddings, module.embedding_dim)
    return found


def read(
    path: Path, source: str, checkpoint: Checkpoint, layers: dict[str, Widths], where: str = "loras"
) -> LoraFile:
    """Reads a LoRA and holds it against the model; BadInput names the field and what does not fit."""
    from diffusers.loaders.lora_pipeline import (
        StableDiffusionLoraLoaderMixin,
        StableDiffusionXLLoraLoaderMixin,
    )

    mixin = StableDiffusionLoraLoaderMixin if checkpoint.family == "sd" else StableDiffusionXLLoraLoaderMixin
    try:
        raw = load_file(path)
        if any(not torch.isfinite(tensor).all() for tensor in raw.values() if tensor.is_floating_point()):
            raise BadInput("The LoRA has numbers that are not finite (NaN).", field=where, help=_HELP)
        tensors, alphas, metadata = mixin.lora_state_dict(
            raw, unet_config=checkpoint.unet.config, return_lora_metadata=True
        )
    except (SafetensorError, OSError) as error:
        raise BadInput(
            f"The LoRA {_named(source)} cannot be read: {error}", field=where, help=_HELP
        ) from error
    except (ValueError, KeyError, IndexError, RuntimeError, AttributeError, TypeError) as error:
        raise BadInput(
            f"The LoRA {_named(source)} is in no form that is known here: {_brief(error)}",
            field=where,
            help=_HELP,
        ) from error
    found = LoraFile(source, dict(tensors), alphas or None, metadata)
    try:
        found.parts = _held_against(found, checkpoint.name, layers, where)
    except (ValueError, KeyError, IndexError, AttributeError) as error:
        raise BadInput(
            f"The LoRA {_named(source)} is in no form that is known here: {_brief(error)}",
            field=where,
            help=_HELP,
        ) from error
    return found


_HELP = (
    "Send a LoRA that was trained for the same base model, in the form of kohya or diffusers; "
    "GET /v1/models tells each model's family."
)


def _held_against(lora: LoraFile, model: str, layers: dict[str, Widths], where: str) -> frozenset[str]:
    """The parts that it changes. Refuses a layer that the model does not have, or has in another width."""
    parts = set()
    for part, key, tensor in _as_attached(lora.tensors, layers):
        end = next((end for end in _ENDS if key.endswith(end)), None)
        layer = key.removesuffix(end or "")
        if end is None and key.endswith(
            (".alpha", ".lora_magnitude_vector", ".lora_magnitude_vector.weight")
        ):
            continue
        if end is None or layer not in layers.get(part, {}):
            raise BadInput(
                f"The LoRA {_named(lora.source)} does not fit the model {model!r}, which has no layer "
                f"{f'{part}.{layer}'[:120]!r}.",
                field=where,
                help=_HELP,
            )
        widths = layers[part][layer]
        wanted, at = (widths[0], 1) if _ENDS[end] == "in" else (widths[1], 0)
        has = tensor.shape[at] if tensor.ndim >= 2 else 0
        if has != wanted:
            raise BadInput(
                f"The LoRA {_named(lora.source)} does not fit the model {model!r}: its layer "
                f"{f'{part}.{layer}'[:120]!r} is {has} wide, the model's {wanted}.",
                field=where,
                help=_HELP,
            )
        parts.add(part)
    if not parts:
        raise BadInput(f"The LoRA {_named(lora.source)} changes no layer.", field=where, help=_HELP)
    return frozenset(parts)


def _as_attached(
    tensors: dict[str, torch.Tensor], layers: dict[str, Widths]
) -> Iterator[tuple[str, str, torch.Tensor]]:
    """Part, layer and tensor under the names by which diffusers will attach them."""
    from diffusers.utils import state_dict_utils

    forms = cast(Any, state_dict_utils)
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        part, _, name = key.partition(".")
        parts.setdefault(part, {})[name] = tensor
    for part, named in parts.items():
        if part == "unet" and "lora_A" not in next(iter(named)):
            named = forms.convert_unet_state_dict_to_peft(named)
        elif part.startswith("text_encoder"):
            named = forms.convert_state_dict_to_peft(forms.convert_state_dict_to_diffusers(named))
        flat = not any(layer.startswith("text_model.") for layer in layers.get(part, {}))
        for name, tensor in named.items():
            # transformers 5 has some text models without the level that older files name
            yield part, name.removeprefix("text_model.") if flat else name, tensor


def _named(source: str) -> str:
    return "that was sent" if source.startswith(uploads.SCHEME) else repr(source)


def _brief(error: BaseException) -> str:
    return (str(error).split("\n\n")[0].splitlines() or [type(error).__name__])[0][:200]
