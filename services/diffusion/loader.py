"""From files to a model in memory: in go a catalogue entry and a plan, out comes a `Checkpoint`.

The networks are diffusers' and transformers' own classes, filled from safetensors only; nothing is downloaded. A part
(a VAE, a ControlNet, the UNet of a distilled variant) may lie with another entry, so that what variants share is on
disk once. Loading may go on beside a running engine, so diffusers' networks are built on the `meta` device of this
thread and given their tensors, rather than through its `from_pretrained`, which changes PyTorch's defaults for all.
"""

from __future__ import annotations

import json
import logging
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from services.diffusion.checkpoint import Checkpoint, Family
from services.diffusion.devices import Plan
from services.errors import OutOfMemory, Unavailable
from services.models import ModelEntry, Models
from services.models_disk import fault_of_safetensors

_log = logging.getLogger("darkroom.models")
_FAMILIES: dict[str, Family] = {
    "StableDiffusionXLPipeline": "sdxl",
    "StableDiffusionXLInpaintPipeline": "sdxl",
    "StableDiffusionXLControlNetPipeline": "sdxl",
    "StableDiffusionXLImg2ImgPipeline": "sdxl-refiner",
    "StableDiffusionPipeline": "sd",
    "StableDiffusionInpaintPipeline": "sd",
    "StableDiffusionControlNetPipeline": "sd",
}
# transformers and single files change what is global to PyTorch while they load: one at a time, and not while an
# adapter is attached
PATCHES = threading.RLock()


@dataclass(frozen=True, slots=True)
class Files:
    """Where a model's parts are: folders in diffusers' form, or one file each."""

    entry: ModelEntry
    folder: Path | None  # with model_index.json, if the entry has one of its own or through its base
    parts: dict[str, Path]  # what is somewhere else
    single_file: Path | None = None

    def part(self, name: str) -> Path | None:
        """A part's folder or file, if there is one."""
        if name in self.parts:
            return self.parts[name]
        own = self.folder / name if self.folder is not None else None
        return own if own is not None and own.is_dir() else None


def files_of(models: Models, name: str) -> Files:
    """Finds and checks all files that a model needs; Unavailable names the first that is missing or damaged."""
    entry = models.entry(models[name].name)
    place = models.place(entry)
    alone = [*entry.weights.values(), *([entry.single_file] if entry.single_file else [])]
    if not alone or entry.fetched:  # files of one's own may lie in a folder among others
        models.shelf.check(entry.name, place)
    folder: Path | None = place if not alone and (place / "model_index.json").is_file() else None
    parts = {part: _inside(place, file, entry.name) for part, file in entry.weights.items()}
    if folder is None and entry.base:
        base = files_of(models, entry.base)
        folder, parts = base.folder, {**base.parts, **parts}
    single = _inside(place, entry.single_file, entry.name) if entry.single_file else None
    if folder is None:
        raise Unavailable(
            f"{place / 'model_index.json'} is missing.",
            help=f"`darkroom models pull {entry.name}` fetches it; a single file needs a `base` in the catalogue.",
        )
    if "vae" in entry.parts:
        parts["vae"] = part_folder(models, entry.parts["vae"])
    return Files(entry, folder, parts, single)


def part_folder(models: Models, name: str) -> Path:
    """The checked folder of an entry that is a part of models."""
    entry = models.entry(name)
    place = models.place(entry)
    models.shelf.check(entry.name, place)
    return place / entry.subfolder


def _inside(place: Path, file: str, name: str) -> Path:
    path = place / file
    fault = fault_of_safetensors(path) if path.is_file() else "is missing"
    if fault:
        raise Unavailable(f"{path} {fault}.", help=f"`darkroom models pull {name}` fetches it.")
    return path


# ── the whole ─────────────────────────────────────────────────────────────────────────────────────────────────


def load(models: Models, name: str, plan: Plan) -> Checkpoint:
    """The model in memory, on its device, as the plan says."""
    files = files_of(models, name)
    _without_bars()
    try:
        checkpoint = _from_single_file(files) if files.single_file else _from_folder(files)
        return settle(checkpoint, plan)
    except (SafetensorError, OSError, ValueError, RuntimeError, KeyError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise OutOfMemory(f"The model {name!r} does not fit into the memory of {plan.device}.") from error
        raise Unavailable(
            f"The model {name!r} cannot be loaded from {files.single_file or files.folder}: {_brief(error)}",
            help=f"`darkroom models verify {name}` names the damaged file, `darkroom models pull {name}` mends it.",
        ) from error


def _from_folder(files: Files) -> Checkpoint:
    from diffusers import AutoencoderKL, UNet2DConditionModel

    assert files.folder is not None
    index = _json(files.folder / "model_index.json")
    encoders = [
        text_encoder(path, str(index[part][1]))
        for part in ("text_encoder", "text_encoder_2")
        if (path := files.part(part)) is not None
    ]
    tokenizers = [
        tokenizer(path) for part in ("tokenizer", "tokenizer_2") if (path := files.part(part)) is not None
    ]
    config = files.folder / "unet" / "config.json"
    unet = network(UNet2DConditionModel, _part(files, "unet"), config)
    vae = network(AutoencoderKL, _part(files, "vae"), files.folder / "vae" / "config.json")
    entry = files.entry
    return Checkpoint(
        name=entry.name,
        family=cast(Family, entry.family)
        if entry.family
        else _FAMILIES.get(str(index.get("_class_name")), "sd"),
        unet=unet,
        vae=vae,
        text_encoders=encoders,
        tokenizers=tokenizers,
        scheduler_config=_json(files.folder / "scheduler" / "scheduler_config.json") | entry.scheduler,
        defaults=dict(entry.defaults),
        zero_negative=bool(index.get("force_zeros_for_empty_prompt", False)),
    )


def _from_single_file(files: Files) -> Checkpoint:
    """All networks from one file; the base's folder tells their form, so that nothing is asked of the hub."""
    import diffusers

    assert files.folder is not None and files.single_file is not None
    index = _json(files.folder / "model_index.json")
    kind = getattr(diffusers, str(index["_class_name"]))
    with PATCHES:
        pipeline = kind.from_single_file(
            str(files.single_file),
            config=str(files.folder),
            local_files_only=True,
            torch_dtype=torch.float32,
            **({"safety_checker": None} if index["_class_name"].startswith("StableDiffusionP") else {}),
        )
    found = checkpoint_of(pipeline, files.entry.name)
    for part in (found.unet, found.vae, *found.text_encoders):
        part.requires_grad_(False).eval()
    found.defaults = dict(files.entry.defaults)
    found.scheduler_config |= files.entry.scheduler
    return found


def checkpoint_of(pipeline: Any, name: str, defaults: dict[str, Any] | None = None) -> Checkpoint:
    """The parts of a diffusers pipeline that is already in memory."""
    encoders = [getattr(pipeline, part, None) for part in ("text_encoder", "text_encoder_2")]
    tokenizers = [getattr(pipeline, part, None) for part in ("tokenizer", "tokenizer_2")]
    nets = getattr(pipeline, "controlnet", None)
    return Checkpoint(
        name=name,
        family=_FAMILIES.get(type(pipeline).__name__, "sdxl" if encoders[1] is not None else "sd"),
        unet=pipeline.unet,
        vae=pipeline.vae,
        text_encoders=[encoder for encoder in encoders if encoder is not None],
        tokenizers=[tokenizer for tokenizer in tokenizers if tokenizer is not None],
        scheduler_config=dict(pipeline.scheduler.config),
        controlnets={"controlnet": nets} if nets is not None else {},
        image_encoder=getattr(pipeline, "image_encoder", None),
        device=pipeline.unet.device,
        dtype=pipeline.unet.dtype,
        defaults=dict(defaults or {}),
        zero_negative=bool(pipeline.config.get("force_zeros_for_empty_prompt", False)),
    )


# ── its parts ─────────────────────────────────────────────────────────────────────────────────────────────────


def network(kind: Any, path: Path, config: Path | None = None) -> Any:
    """One of diffusers' networks, from a folder of its own or from a file beside which `config` tells its form."""
    at = path / "config.json" if path.is_dir() else config
    assert at is not None
    with torch.device("meta"):
        made = kind.from_config(_json(at))
    state = _tensors(path)
    made._fix_state_dict_keys_on_load(state)  # SD 1.x's VAE has names of an older diffusers
    made.load_state_dict(state, strict=True, assign=True)
    made.requires_grad_(False)
    return made.eval()


def text_encoder(path: Path, kind: str) -> Any:
    """CLIP's text side, in float32: another dtype would change PyTorch's default while it loads."""
    return transformer(kind, path)


def transformer(kind: str, path: Path) -> Any:
    """A network of transformers from a folder, in float32."""
    import transformers

    with PATCHES:
        made = getattr(transformers, kind).from_pretrained(
            str(path),
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            variant=_variant(path),
        )
    made.requires_grad_(False)
    return made.eval()


def tokenizer(path: Path) -> Any:
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(str(path), local_files_only=True)


def controlnet(models: Models, name: str, plan: Plan) -> Any:
    """A ControlNet by its entry's name, on its device."""
    from diffusers import ControlNetModel

    return place(network(ControlNetModel, part_folder(models, name)), plan)


def image_encoder(path: Path, plan: Plan) -> Any:
    """CLIP's picture side, for an IP-Adapter."""
    return transformer("CLIPVisionModelWithProjection", path).to(plan.device, plan.dtype)


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    """A file's tensors, or a folder's, in shards too; the plain files go before a variant's."""
    if path.is_file():
        return dict(load_file(path))
    files = sorted(path.glob("*.safetensors"))
    plain = [file for file in files if not _is_variant(file)]
    found: dict[str, torch.Tensor] = {}
    for file in plain or files:
        found |= load_file(file)
    if not found:
        raise Unavailable(f"{path} has no safetensors file.", help="`darkroom models pull` fetches it.")
    return found


def _is_variant(file: Path) -> bool:
    """`model.fp16.safetensors` and `model.fp16-00001-of-00002.safetensors` are; `model-00001-of-00002` is not."""
    return "." in file.name.removesuffix(".safetensors")


def _variant(path: Path) -> str | None:
    files = sorted(path.glob("*.safetensors"))
    if any(not _is_variant(file) for file in files) or not files:
        return None
    return files[0].name.removesuffix(".safetensors").split(".")[1].split("-")[0]


# ── onto the device ───────────────────────────────────────────────────────────────────────────────────────────


def settle(checkpoint: Checkpoint, plan: Plan) -> Checkpoint:
    """Moves a model to its device and gives it the form that the plan says."""
    checkpoint.device, checkpoint.dtype = torch.device(plan.device), plan.dtype
    for encoder in checkpoint.text_encoders:
        _to(encoder, dtype=plan.dtype)
    vae_dtype = plan.dtype
    if plan.dtype == torch.float16 and checkpoint.vae.config.get("force_upcast", False):
        vae_dtype = torch.float32  # SDXL's own VAE overflows in half precision
    _to(checkpoint.vae, dtype=vae_dtype)
    place(checkpoint.unet, plan, move=plan.offload == "none")
    if plan.channels_last:
        _to(checkpoint.vae, memory_format=torch.channels_last)
    if plan.vae_tiling:
        checkpoint.vae.enable_tiling()
    if plan.vae_slicing:
        checkpoint.vae.enable_slicing()
    if plan.offload == "none":
        for part in (checkpoint.vae, *checkpoint.text_encoders):
            _to(part, device=plan.device)
    else:
        _offload(checkpoint, plan)
    return checkpoint


def place(net: Any, plan: Plan, *, move: bool = True) -> Any:
    """A UNet or ControlNet in the plan's dtype and order, with its attention, compiled where that is asked for."""
    _to(net, dtype=plan.dtype)
    if plan.channels_last:
        _to(net, memory_format=torch.channels_last)
    if move:
        _to(net, device=plan.device)
    choose_attention(net, plan.attention)
    if plan.compile:
        compile_blocks(net)
    return net


def choose_attention(net: Any, attention: str) -> None:
    """`sdpa` is what diffusers has by itself."""
    from diffusers.models.attention_processor import AttnProcessor

    if attention == "plain":
        net.set_attn_processor(AttnProcessor())
    elif attention == "sliced":
        net.set_attention_slice("auto")
    elif attention == "xformers":
        try:
            net.enable_xformers_memory_efficient_attention()
        except (ImportError, ModuleNotFoundError, ValueError) as error:
            raise Unavailable(
                f"DARKROOM_ATTENTION says xformers, which does not work here: {_brief(error)}",
                help="Install xformers, or set DARKROOM_ATTENTION=sdpa.",
            ) from error


def compile_blocks(net: Any) -> None:
    """Compiles the blocks that repeat, each kind once: far quicker to be ready than the whole network."""
    if getattr(net, "_repeated_blocks", None):
        net.compile_repeated_blocks(dynamic=True)
    else:
        net.compile(dynamic=True)


def _offload(checkpoint: Checkpoint, plan: Plan) -> None:
    """Accelerate's hooks bring each part to the device when it is called."""
    from accelerate import cpu_offload, cpu_offload_with_hook

    device = torch.device(plan.device)
    if plan.offload == "sequential":
        for part in (*checkpoint.text_encoders, checkpoint.unet, checkpoint.vae):
            cpu_offload(part, device, offload_buffers=True)
        return
    hook = None
    for part in (*checkpoint.text_encoders, checkpoint.unet, checkpoint.vae):
        _, hook = cpu_offload_with_hook(part, device, prev_module_hook=hook)


def size_of(*parts: Any) -> int:
    """Bytes of the parameters and buffers of networks, each counted once."""
    seen: dict[int, int] = {}
    for part in parts:
        if isinstance(part, torch.nn.Module):
            for tensor in (*part.parameters(), *part.buffers()):
                seen[id(tensor)] = tensor.numel() * tensor.element_size()
    return sum(seen.values())


def size_of_checkpoint(checkpoint: Checkpoint) -> int:
    return size_of(
        checkpoint.unet,
        checkpoint.vae,
        *checkpoint.text_encoders,
        *checkpoint.controlnets.values(),
        checkpoint.image_encoder,
        checkpoint.safety,
    )


def _part(files: Files, name: str) -> Path:
    found = files.part(name)
    if found is None:
        raise Unavailable(
            f"{files.folder}/{name} is missing.",
            help=f"`darkroom models pull {files.entry.name}` fetches it.",
        )
    return found


def _json(path: Path) -> dict[str, Any]:
    try:
        read: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise Unavailable(f"{path} is missing.", help="`darkroom models pull` fetches it.") from error
    return read


def _without_bars() -> None:
    """A service's log is no terminal."""
    import diffusers
    import transformers

    for library in (cast(Any, diffusers), cast(Any, transformers)):
        library.utils.logging.disable_progress_bar()


def _to(net: Any, **how: Any) -> None:
    """Not diffusers' own `to`, which warns at each call of modules that do not exist."""
    torch.nn.Module.to(net, **how)


def _brief(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
