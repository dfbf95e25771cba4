"""What changes a model for one request: LoRAs by weight, and the IP-Adapter. In go uses, out goes an active model.

`claim` is called in the request's thread: it finds, reads and checks the files, and touches no network. `activate` is
called on the engine's thread, the only one that touches them: it attaches what is new (diffusers' and peft's own way),
sets the weights, and takes off what was not used for longest. With nothing active a model computes what it computed
before, bit for bit: its own layers are called as they were.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from services.diffusion import loras
from services.diffusion.checkpoint import Checkpoint
from services.diffusion.lane import Adapters
from services.diffusion.loader import PATCHES
from services.diffusion.loras import Library, LoraFile
from services.diffusion.recipe import LoraUse
from services.errors import BadInput, Unavailable

# several are what is wanted here
warnings.filterwarnings("ignore", message="Already found a `peft_config`", category=UserWarning)


@dataclass(slots=True, eq=False)
class _Lora:
    name: str  # by which peft knows it
    file: LoraFile | None  # until it is attached
    parts: frozenset[str]
    attached: bool = False
    users: int = 0
    used_at: int = 0


@dataclass(slots=True, eq=False)
class _Reference:
    """The IP-Adapter: processors for the cross-attentions, and what turns an embedding into tokens."""

    pairs: list[tuple[Any, Any, Any]]  # an attention, its own processor, the adapter's
    projection: Any
    scale: float = field(default=-1.0)


class Switchboard:
    """The adapters of one checkpoint. `reference` finds the IP-Adapter's file, and `image_encoder` loads its eye."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        library: Library,
        *,
        keep: int = 8,
        reference: Callable[[], Path] | None = None,
        image_encoder: Callable[[], Any] | None = None,
        sequential: bool = False,
    ) -> None:
        self.checkpoint, self._sequential = checkpoint, sequential
        self._library, self._keep = library, keep
        self._find_reference, self._load_eye = reference, image_encoder
        self._layers = loras.layers_of(checkpoint)
        self._loras: dict[str, _Lora] = {}
        self._changed_layers: dict[str, list[Any]] = {name: [] for name in self._layers}
        self._reference: _Reference | None = None
        self._own_projection = (
            getattr(checkpoint.unet, "encoder_hid_proj", None),
            checkpoint.unet.config.get("encoder_hid_dim_type"),
        )
        self._active: Adapters | None = Adapters()
        self._lock, self._reading = threading.RLock(), threading.Lock()
        self._ticks = self._names = 0

    # ── in the request's thread ─────────────────────────────────────────────────────────────────────────────

    def claim(
        self,
        uses: tuple[LoraUse, ...] = (),
        reference_scale: float | None = None,
        fields: tuple[str, ...] = (),
    ) -> Adapters:
        """Makes ready what a request names; what cannot be is refused with the field at fault.

        `fields` are the uses' fields in the request, where they are not `loras.N.name` or `loras.N.file`.
        """
        if self._sequential and (uses or reference_scale is not None):
            raise BadInput(
                f"The model {self.checkpoint.name!r} is held piece by piece here, and takes no LoRA or reference.",
                field="loras" if uses else "reference",
                help="Ask without; the operator's setting DARKROOM_OFFLOAD=model takes them.",
            )
        weights: dict[str, float] = {}
        try:
            with self._reading:  # not the lock of `activate`: the engine does not wait for a file
                for at, use in enumerate(uses):
                    if use.source not in weights:
                        self._hold(use.source, fields[at] if at < len(fields) else _field(use, at))
                    weights[use.source] = weights.get(use.source, 0.0) + use.weight
                if reference_scale is not None and self._reference is None:
                    self._reference = self._read_reference()
        except BaseException:
            self.release(Adapters(tuple(weights.items())))
            raise
        return Adapters(tuple(sorted(weights.items())), reference_scale)

    def _hold(self, source: str, where: str) -> None:
        """Counts a user of a LoRA; reads it where it is not here."""
        with self._lock:
            known = self._loras.get(source)
            if known is None:
                self._names += 1
            else:
                known.users += 1
        if known is None:
            path = self._library.find(source, where)
            read = loras.read(path, source, self.checkpoint, self._layers, where)
            known = _Lora(f"lora_{self._names}", read, read.parts, users=1)
            with self._lock:
                self._loras[source] = known
        with self._lock:
            self._ticks += 1
            known.used_at = self._ticks

    def release(self, adapters: Adapters) -> None:
        """Says that a request no longer needs them; what is over the bound is taken off at the next `activate`."""
        with self._lock:
            for source, _ in adapters.loras:
                if (lora := self._loras.get(source)) is not None and lora.users > 0:
                    lora.users -= 1

    @property
    def attached(self) -> list[str]:
        """The sources of what is attached, active or not."""
        with self._lock:
            return sorted(source for source, lora in self._loras.items() if lora.attached)

    def _read_reference(self) -> _Reference:
        """The IP-Adapter for this UNet, built beside it."""
        if self._find_reference is None or self._load_eye is None:
            raise BadInput(
                f"The model {self.checkpoint.name!r} has no IP-Adapter.",
                field="reference",
                help="Leave `reference` out, or ask for a model that has one.",
            )
        path, unet = self._find_reference(), self.checkpoint.unet
        try:
            tensors = load_file(path)
        except (SafetensorError, OSError) as error:
            raise Unavailable(
                f"{path} cannot be read: {error}", help="`darkroom models verify` tells which entry it is."
            ) from error
        state: dict[str, dict[str, torch.Tensor]] = {"image_proj": {}, "ip_adapter": {}}
        for key, tensor in tensors.items():
            kind, _, name = key.partition(".")
            if kind in state:
                state[kind][name] = tensor
        from diffusers.models.embeddings import MultiIPAdapterImageProjection

        try:
            with PATCHES:
                processors = unet._convert_ip_adapter_attn_to_diffusers([state], low_cpu_mem_usage=False)
                projection = unet._convert_ip_adapter_image_proj_to_diffusers(
                    state["image_proj"], low_cpu_mem_usage=False
                )
        except (KeyError, RuntimeError, ValueError) as error:
            raise Unavailable(
                f"{path} does not fit the model {self.checkpoint.name!r}: {str(error).splitlines()[0][:200]}",
                help="Correct the model's part `ip-adapter` in the catalogue.",
            ) from error
        device, dtype = self.checkpoint.device, self.checkpoint.dtype
        pairs = []
        for name, module in unet.named_modules():
            new = processors.get(f"{name}.processor")
            if isinstance(new, torch.nn.Module):
                pairs.append((module, module.processor, new.to(device, dtype).requires_grad_(False).eval()))
        if self.checkpoint.image_encoder is None:
            self.checkpoint.image_encoder = self._load_eye()
        made = MultiIPAdapterImageProjection([projection]).to(device, dtype).requires_grad_(False).eval()
        return _Reference(pairs, made)

    # ── on the engine's thread ──────────────────────────────────────────────────────────────────────────────

    def activate(self, adapters: Adapters) -> None:
        """Makes the UNet and the text encoders as these adapters want them; costs nothing where they are so."""
        if adapters == self._active:
            return
        with self._lock, torch.no_grad():
            self._active = None  # until it has succeeded: whoever comes next does all of it
            wanted = [(self._loras[source], weight) for source, weight in adapters.loras]
            for lora, _ in wanted:
                if not lora.attached:
                    self._attach(lora)
            self._weigh(wanted)
            self._refer(adapters.reference_scale)
            self._take_off(adapters)
            self._active = adapters

    def _attach(self, lora: _Lora) -> None:
        """diffusers puts layers of small rank beside the model's own."""
        from diffusers.loaders.lora_pipeline import StableDiffusionLoraLoaderMixin

        file = lora.file
        assert file is not None
        with PATCHES, _quiet():
            try:
                if "unet" in lora.parts:
                    StableDiffusionLoraLoaderMixin.load_lora_into_unet(
                        dict(file.tensors),
                        network_alphas=file.alphas,
                        unet=self.checkpoint.unet,
                        adapter_name=lora.name,
                        metadata=file.metadata,
                    )
                for name, encoder in self._encoders().items():
                    if name in lora.parts:
                        StableDiffusionLoraLoaderMixin.load_lora_into_text_encoder(
                            dict(file.tensors),
                            network_alphas=file.alphas,
                            text_encoder=encoder,
                            prefix=name,
                            adapter_name=lora.name,
                            metadata=file.metadata,
                        )
            except BaseException:
                self._look_for_layers()
                self._detach(lora)
                raise
        self._look_for_layers()
        lora.attached, lora.file = True, None

    def _look_for_layers(self) -> None:
        self._changed_layers = {name: _lora_layers(part) for name, part in self._parts().items()}

    def _weigh(self, wanted: list[tuple[_Lora, float]]) -> None:
        """Switches each part to the LoRAs that change it.

        peft's own switches also say what is to be trained, which takes as long as a step of a small network; here
        nothing is.
        """
        for name, layers in self._changed_layers.items():
            here = [(lora.name, weight) for lora, weight in wanted if name in lora.parts]
            names = [one for one, _ in here]
            for layer in layers:
                layer._disable_adapters, layer._active_adapter = not here, names
                for one, weight in here:
                    layer.set_scale(one, weight)

    def _refer(self, scale: float | None) -> None:
        """Puts the IP-Adapter's processors in, or the model's own back."""
        reference, unet = self._reference, self.checkpoint.unet
        if reference is None:
            return
        if scale is not None and reference.scale != scale:
            for _, _, mine in reference.pairs:
                mine.scale = [scale] * len(mine.scale)
        if (scale is None) != (unet.encoder_hid_proj is not reference.projection):
            for attention, own, mine in reference.pairs:
                attention.set_processor(own if scale is None else mine)
            if scale is None:
                unet.encoder_hid_proj, unet.config.encoder_hid_dim_type = self._own_projection
            else:
                unet.encoder_hid_proj, unet.config.encoder_hid_dim_type = (
                    reference.projection,
                    "ip_image_proj",
                )
        reference.scale = -1.0 if scale is None else scale

    def _take_off(self, adapters: Adapters) -> None:
        """Takes off the LoRAs that nobody uses, those not used for longest first, down to the bound."""
        active = {source for source, _ in adapters.loras}
        idle = sorted(
            (source for source, lora in self._loras.items() if not lora.users and source not in active),
            key=lambda source: self._loras[source].used_at,
        )
        for source in idle[: max(0, len(self._loras) - self._keep)]:
            lora = self._loras.pop(source)
            if lora.attached:
                self._detach(lora)
        if not any(lora.attached for lora in self._loras.values()):
            self._unwrap()

    def _detach(self, lora: _Lora) -> None:
        from diffusers.utils import peft_utils

        for name, part in self._parts().items():
            if lora.name not in getattr(part, "peft_config", {}):
                continue
            for layer in self._changed_layers[name]:
                layer._active_adapter = []  # else peft would choose another in its place
            cast(Any, peft_utils).delete_adapter_layers(part, lora.name)
            if hasattr(part, "peft_config"):
                part.peft_config.pop(lora.name, None)

    def _unwrap(self) -> None:
        """With no LoRA left, the model's own layers stand alone again."""
        from diffusers.utils import peft_utils

        for name, part in self._parts().items():
            if not self._changed_layers[name]:
                continue
            cast(Any, peft_utils).recurse_remove_peft_layers(part)
            if hasattr(part, "peft_config"):
                del part.peft_config
            part._hf_peft_config_loaded = False
            self._changed_layers[name] = []

    def _encoders(self) -> dict[str, Any]:
        names = [name for name in self._layers if name != "unet"]
        return dict(zip(names, self.checkpoint.text_encoders, strict=True))

    def _parts(self) -> dict[str, Any]:
        return {"unet": self.checkpoint.unet, **self._encoders()}


def _lora_layers(part: Any) -> list[Any]:
    """The layers of a network that have others of small rank beside them."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [module for module in part.modules() if isinstance(module, BaseTunerLayer)]


@contextmanager
def _quiet() -> Iterator[None]:
    """transformers reports each LoRA that was there before as missing from the new one."""
    loggers = [logging.getLogger(name) for name in ("transformers", "diffusers")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _field(use: LoraUse, at: int) -> str:
    return f"loras.{at}.{'file' if use.source.startswith('sha256:') else 'name'}"
