"""Every operation with its parameters, for editors and type checkers: written by `make schemas`.

What is left out, or None, is as the operation declares it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

from gateway.client.doing import Ask, AsyncDoes, Does
from gateway.client.params import PictureLike


class ControlInput(TypedDict, total=False):
    """A picture that steers the form of the result, or a pose as keypoints."""

    low: int
    high: int
    hands: bool
    face: bool
    image: PictureLike
    keypoints: Mapping[str, Any]
    kind: Literal["canny", "openpose", "canny-map", "openpose-map"]
    weight: float
    start: float
    end: float


class Lora(TypedDict, total=False):
    """A small change to the model, by its name in the catalogue or as a safetensors file of one's own."""

    name: str
    file: PictureLike
    weight: float


def text_to_image(
    prompt: str,
    *,
    model: str | None = None,
    format: Literal["png", "jpeg", "webp"] | None = None,
    quality: int | None = None,
    seed: int | None = None,
    negative_prompt: str | None = None,
    width: int | None = None,
    height: int | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    sampler: Literal[
        "ddim", "dpm++-2m", "dpm++-2m-karras", "dpm++-2m-sde", "dpm++-2m-sde-karras", "dpm++-sde",
        "dpm++-sde-karras", "euler", "euler-a", "heun", "lcm", "unipc"
    ] | None = None,
    clip_skip: int | None = None,
    refiner: str | None = None,
    refine_at: float | None = None,
    count: int | None = None,
    loras: Sequence[Lora] | None = None,
    reference: PictureLike | None = None,
    reference_scale: float | None = None,
    controls: Sequence[ControlInput] | None = None,
    guess_mode: bool | None = None,
    previews: int | None = None,
) -> Ask:
    """Make pictures from words.

    prompt: What is to be seen.
    model: The model by its name; `auto` takes the best that is loaded. Default: auto.
    format: The picture's file format; png unless Accept says otherwise.
    quality: For jpeg and webp; webp at 100 is lossless. Default: 90.
    seed: The n-th picture, from 0, has seed + n; drawn if absent.
    negative_prompt: What is not to be seen.
    width: In pixels; if absent beside a given height, what keeps the shape of the picture, else of the first
        control, else of the model's own size; if both are absent, the picture's own size (of at most as many
        pixels as the model was made for), else the first control's shape, else the model's own size.
    height: In pixels; if absent beside a given width, what keeps the shape of the picture, else of the first
        control, else of the model's own size; if both are absent, the picture's own size (of at most as many
        pixels as the model was made for), else the first control's shape, else the model's own size.
    steps: The model's own if absent, most often 30.
    guidance: How strictly the prompt is followed; the model's own if absent, most often 7.
    sampler: The model's own if absent, most often dpm++-2m-karras.
    clip_skip: How many of the text encoder's last layers are left out; 1 is none.
    refiner: A refiner model that finishes the picture.
    refine_at: The share of the work after which the refiner takes over. Default: 0.8.
    count: How many pictures. Default: 1.
    loras: Sequence[Lora].
    reference: A picture whose look is taken over (IP-Adapter).
    reference_scale: float. Default: 0.6.
    controls: Sequence[ControlInput].
    guess_mode: Controls lead alone, as if there were no prompt. Default: False.
    previews: A preview every so many steps; 0 for none. Default: 5.
    """
    return Ask("text-to-image", locals())


def image_to_image(
    image: PictureLike,
    prompt: str,
    *,
    model: str | None = None,
    format: Literal["png", "jpeg", "webp"] | None = None,
    quality: int | None = None,
    seed: int | None = None,
    negative_prompt: str | None = None,
    width: int | None = None,
    height: int | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    sampler: Literal[
        "ddim", "dpm++-2m", "dpm++-2m-karras", "dpm++-2m-sde", "dpm++-2m-sde-karras", "dpm++-sde",
        "dpm++-sde-karras", "euler", "euler-a", "heun", "lcm", "unipc"
    ] | None = None,
    clip_skip: int | None = None,
    refiner: str | None = None,
    refine_at: float | None = None,
    count: int | None = None,
    loras: Sequence[Lora] | None = None,
    reference: PictureLike | None = None,
    reference_scale: float | None = None,
    controls: Sequence[ControlInput] | None = None,
    guess_mode: bool | None = None,
    previews: int | None = None,
    strength: float | None = None,
) -> Ask:
    """Make a picture anew, led by words and by the picture itself.

    image: A picture: `part:NAME`, `asset:ID`, a data URI, base64, or an http(s) address.
    prompt: What is to be seen.
    model: The model by its name; `auto` takes the best that is loaded. Default: auto.
    format: The picture's file format; png unless Accept says otherwise.
    quality: For jpeg and webp; webp at 100 is lossless. Default: 90.
    seed: The n-th picture, from 0, has seed + n; drawn if absent.
    negative_prompt: What is not to be seen.
    width: In pixels; if absent beside a given height, what keeps the shape of the picture, else of the first
        control, else of the model's own size; if both are absent, the picture's own size (of at most as many
        pixels as the model was made for), else the first control's shape, else the model's own size.
    height: In pixels; if absent beside a given width, what keeps the shape of the picture, else of the first
        control, else of the model's own size; if both are absent, the picture's own size (of at most as many
        pixels as the model was made for), else the first control's shape, else the model's own size.
    steps: The model's own if absent, most often 30.
    guidance: How strictly the prompt is followed; the model's own if absent, most often 7.
    sampler: The model's own if absent, most often dpm++-2m-karras.
    clip_skip: How many of the text encoder's last layers are left out; 1 is none.
    refiner: A refiner model that finishes the picture.
    refine_at: The share of the work after which the refiner takes over. Default: 0.8.
    count: How many pictures. Default: 1.
    loras: Sequence[Lora].
    reference: A picture whose look is taken over (IP-Adapter).
    reference_scale: float. Default: 0.6.
    controls: Sequence[ControlInput].
    guess_mode: Controls lead alone, as if there were no prompt. Default: False.
    previews: A preview every so many steps; 0 for none. Default: 5.
    strength: 0 keeps the picture, 1 forgets it. Default: 0.6.
    """
    return Ask("image-to-image", locals())


def inpaint(
    image: PictureLike,
    mask: PictureLike,
    prompt: str,
    *,
    model: str | None = None,
    format: Literal["png", "jpeg", "webp"] | None = None,
    quality: int | None = None,
    seed: int | None = None,
    negative_prompt: str | None = None,
    width: int | None = None,
    height: int | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    sampler: Literal[
        "ddim", "dpm++-2m", "dpm++-2m-karras", "dpm++-2m-sde", "dpm++-2m-sde-karras", "dpm++-sde",
        "dpm++-sde-karras", "euler", "euler-a", "heun", "lcm", "unipc"
    ] | None = None,
    clip_skip: int | None = None,
    refiner: str | None = None,
    refine_at: float | None = None,
    count: int | None = None,
    loras: Sequence[Lora] | None = None,
    reference: PictureLike | None = None,
    reference_scale: float | None = None,
    controls: Sequence[ControlInput] | None = None,
    guess_mode: bool | None = None,
    previews: int | None = None,
    strength: float | None = None,
) -> Ask:
    """Paint anew what the mask covers, as the words say.

    image: A picture: `part:NAME`, `asset:ID`, a data URI, base64, or an http(s) address.
    mask: White where the picture is to be painted anew.
    prompt: What is to be seen.
    model: The model by its name; `auto` takes the best that is loaded. Default: auto.
    format: The picture's file format; png unless Accept says otherwise.
    quality: For jpeg and webp; webp at 100 is lossless. Default: 90.
    seed: The n-th picture, from 0, has seed + n; drawn if absent.
    negative_prompt: What is not to be seen.
    width: In pixels; if absent beside a given height, what keeps the shape of the picture, else of the first
        control, else of the model's own size; if both are absent, the picture's own size (of at most as many
        pixels as the model was made for), else the first control's shape, else the model's own size.
    height: In pixels; if absent beside a given width, what keeps the shape of the picture, else of the first
        control, else of the model's own size; if both are absent, the picture's own size (of at most as many
        pixels as the model was made for), else the first control's shape, else the model's own size.
    steps: The model's own if absent, most often 30.
    guidance: How strictly the prompt is followed; the model's own if absent, most often 7.
    sampler: The model's own if absent, most often dpm++-2m-karras.
    clip_skip: How many of the text encoder's last layers are left out; 1 is none.
    refiner: A refiner model that finishes the picture.
    refine_at: The share of the work after which the refiner takes over. Default: 0.8.
    count: How many pictures. Default: 1.
    loras: Sequence[Lora].
    reference: A picture whose look is taken over (IP-Adapter).
    reference_scale: float. Default: 0.6.
    controls: Sequence[ControlInput].
    guess_mode: Controls lead alone, as if there were no prompt. Default: False.
    previews: A preview every so many steps; 0 for none. Default: 5.
    strength: 0 keeps what is under the mask, 1 forgets it. Default: 1.0.
    """
    return Ask("inpaint", locals())


def control(
    prompt: str,
    controls: Sequence[ControlInput],
    *,
    model: str | None = None,
    format: Literal["png", "jpeg", "webp"] | None = None,
    quality: int | None = None,
    seed: int | None = None,
    negative_prompt: str | None = None,
    width: int | None = None,
    height: int | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    sampler: Literal[
        "ddim", "dpm++-2m", "dpm++-2m-karras", "dpm++-2m-sde", "dpm++-2m-sde-karras", "dpm++-sde",
        "dpm++-sde-karras", "euler", "euler-a", "heun", "lcm", "unipc"
    ] | None = None,
    clip_skip: int | None = None,
    refiner: str | None = None,
    refine_at: float | None = None,
    count: int | None = None,
    loras: Sequence[Lora] | None = None,
    reference: PictureLike | None = None,
    reference_scale: float | None = None,
    guess_mode: bool | None = None,
    previews: int | None = None,
) -> Ask:
    """Make pictures from words that follow the edges or the pose of another picture.

    prompt: What is to be seen.
    controls: Sequence[ControlInput].
    model: The model by its name; `auto` takes the best that is loaded. Default: auto.
    format: The picture's file format; png unless Accept says otherwise.
    quality: For jpeg and webp; webp at 100 is lossless. Default: 90.
    seed: The n-th picture, from 0, has seed + n; drawn if absent.
    negative_prompt: What is not to be seen.
    width: In pixels; if absent beside a given height, what keeps the shape of the picture, else of the first
        control, else of the model's own size; if both are absent, the picture's own size (of at most as many
        pixels as the model was made for), else the first control's shape, else the model's own size.
    height: In pixels; if absent beside a given width, what keeps the shape of the picture, else of the first
        control, else of the model's own size; if both are absent, the picture's own size (of at most as many
        pixels as the model was made for), else the first control's shape, else the model's own size.
    steps: The model's own if absent, most often 30.
    guidance: How strictly the prompt is followed; the model's own if absent, most often 7.
    sampler: The model's own if absent, most often dpm++-2m-karras.
    clip_skip: How many of the text encoder's last layers are left out; 1 is none.
    refiner: A refiner model that finishes the picture.
    refine_at: The share of the work after which the refiner takes over. Default: 0.8.
    count: How many pictures. Default: 1.
    loras: Sequence[Lora].
    reference: A picture whose look is taken over (IP-Adapter).
    reference_scale: float. Default: 0.6.
    guess_mode: Controls lead alone, as if there were no prompt. Default: False.
    previews: A preview every so many steps; 0 for none. Default: 5.
    """
    return Ask("control", locals())


def preprocess(
    *,
    model: str | None = None,
    format: Literal["png", "jpeg", "webp"] | None = None,
    quality: int | None = None,
    low: int | None = None,
    high: int | None = None,
    hands: bool | None = None,
    face: bool | None = None,
    image: PictureLike | None = None,
    keypoints: Mapping[str, Any] | None = None,
    kind: Literal["canny", "openpose"] | None = None,
) -> Ask:
    """Show the map of edges or the pose that a control would follow.

    model: The model by its name; `auto` takes the best that is loaded. Default: auto.
    format: The picture's file format; png unless Accept says otherwise.
    quality: For jpeg and webp; webp at 100 is lossless. Default: 90.
    low: canny: below it there is no edge; found from the picture if absent.
    high: canny: above it there is an edge; found from the picture if absent.
    hands: openpose: hands too. Default: False.
    face: openpose: the face too. Default: False.
    image: PictureLike.
    keypoints: A pose as JSON, to draw instead of a picture's.
    kind: Literal["canny", "openpose"]. Default: canny.
    """
    return Ask("preprocess", locals())


def remove_background(
    image: PictureLike,
    *,
    model: str | None = None,
    format: Literal["png", "jpeg", "webp"] | None = None,
    quality: int | None = None,
    output: Literal["cutout", "mask"] | None = None,
    background: PictureLike | None = None,
    trim: bool | None = None,
    matting: bool | None = None,
) -> Ask:
    """Cut the subject out of its background.

    image: A picture: `part:NAME`, `asset:ID`, a data URI, base64, or an http(s) address.
    model: auto, grabcut, micro-matte, birefnet, isnet, u2net ...; rmbg-1.4 and rmbg-2.0 are not for
        commercial use, so that auto never takes them. Default: auto.
    format: The picture's file format; png unless Accept says otherwise.
    quality: For jpeg and webp; webp at 100 is lossless. Default: 90.
    output: The subject with transparency, or its mask alone. Default: cutout.
    background: A colour or a picture to put behind the subject.
    trim: Crop to the subject. Default: False.
    matting: Decide each hair at the edges: takes seconds; for hair, fur and veils. Default: False.
    """
    return Ask("remove-background", locals())


def cleanup(
    image: PictureLike,
    mask: PictureLike,
    *,
    model: str | None = None,
    format: Literal["png", "jpeg", "webp"] | None = None,
    quality: int | None = None,
    strategy: Literal["auto", "original", "resize", "crop"] | None = None,
    limit: int | None = None,
    margin: int | None = None,
    grow: int | None = None,
    feather: int | None = None,
) -> Ask:
    """Erase what the mask covers and fill it from its surroundings.

    image: A picture: `part:NAME`, `asset:ID`, a data URI, base64, or an http(s) address.
    mask: White where the picture is to be erased.
    model: The model by its name; `auto` takes the best that is loaded. Default: auto.
    format: The picture's file format; png unless Accept says otherwise.
    quality: For jpeg and webp; webp at 100 is lossless. Default: 90.
    strategy: What the model is shown: the picture at its original size, resized to the limit, or cropped
        around each piece of the mask. auto: the whole picture if the model takes it at once, else crops.
        Default: auto.
    limit: The longer side, in pixels, that the model is shown at most; 1280 for resize if absent.
    margin: For crop: pixels around a piece that the model sees; its own if absent, most often 128.
    grow: Pixels by which the mask is widened first. Default: 0.
    feather: Pixels by which the mask is widened further, over which the fill fades into the picture. Default:
        0.
    """
    return Ask("cleanup", locals())


def caption(
    image: PictureLike,
    *,
    model: str | None = None,
    mode: Literal["best", "fast", "classic", "negative", "caption"] | None = None,
    phrases: int | None = None,
) -> Ask:
    """Say what a picture shows.

    image: A picture: `part:NAME`, `asset:ID`, a data URI, base64, or an http(s) address.
    model: The model by its name; `auto` takes the best that is loaded. Default: auto.
    mode: How the prompt is composed, as CLIP interrogator's users know it; caption is the sentence alone.
        Default: fast.
    phrases: How many ranked phrases of each kind to tell. Default: 8.
    """
    return Ask("caption", locals())


def portrait(
    image: PictureLike,
    *,
    model: str | None = None,
    format: Literal["png", "jpeg", "webp"] | None = None,
    quality: int | None = None,
    seed: int | None = None,
    size: Literal["avatar", "id-card", "passport", "student-card"] | None = None,
    side: int | None = None,
    dpi: int | None = None,
    sheet: Literal["10x15", "a4"] | None = None,
    copies: int | None = None,
    face: Literal["only", "largest"] | int | None = None,
    level: bool | None = None,
    backdrop: str | None = None,
    backdrop_to: str | None = None,
    gradient: Literal["linear", "radial"] | None = None,
    cutter: str | None = None,
    matting: bool | None = None,
    tone: Literal["cool", "neutral", "warm"] | float | None = None,
    exposure: float | None = None,
    smooth: float | None = None,
    style: str | None = None,
    style_lora: str | None = None,
    style_weight: float | None = None,
    style_strength: float | None = None,
    style_model: str | None = None,
) -> Ask:
    """Turn a photograph into a studio profile picture.

    image: A photograph with one face, from the front.
    model: The model by its name; `auto` takes the best that is loaded. Default: auto.
    format: The picture's file format; png unless Accept says otherwise.
    quality: For jpeg and webp; webp at 100 is lossless. Default: 90.
    seed: The n-th picture, from 0, has seed + n; drawn if absent.
    size: avatar is square; id-card is 30 x 40 mm, passport 35 x 45 mm (the head fills 70 to 80 % of its
        height, as ICAO asks), student-card 25 x 30 mm. Default: avatar.
    side: An avatar's pixels a side, 512 if absent; cards follow their dpi.
    dpi: Pixels an inch, written into the file; a card's pixels follow. Default: 300.
    sheet: Several on a sheet to print and cut: 10 x 15 cm or A4.
    copies: How many on the sheet; as many as fit if absent.
    face: Whose portrait: only refuses a photograph with several faces, largest takes the largest, a number
        counts from the left, from 0. Default: only.
    level: Turn the picture so that the eyes are level. Default: True.
    backdrop: The colour behind the person. Default: #e8e4dc.
    backdrop_to: The colour that the backdrop runs to: below, or outwards if radial.
    gradient: How the backdrop runs to the other colour. Default: linear.
    cutter: The model of remove-background that cuts the person out; none keeps the photograph's own ground.
        Default: auto.
    matting: Decide the transparency of each hair; it takes a second or a few more. Default: False.
    tone: cool, neutral, warm, or a number from -1 (cool) to 1 (warm). Default: neutral.
    exposure: In stops: 1 doubles the light, -1 halves it. Default: 0.0.
    smooth: How far the skin is smoothed; eyes, mouth and hair are kept. Default: 0.0.
    style: Words that hand the portrait on to image-to-image.
    style_lora: A LoRA of the catalogue, by its name, that goes with the style.
    style_weight: The LoRA's weight. Default: 1.0.
    style_strength: 0 keeps the portrait, 1 forgets it. Default: 0.4.
    style_model: The model of image-to-image that paints the style. Default: auto.
    """
    return Ask("portrait", locals())


def sketch_to_image(
    image: PictureLike,
    *,
    model: str | None = None,
    format: Literal["png", "jpeg", "webp"] | None = None,
    quality: int | None = None,
    version: str | None = None,
) -> Ask:
    """Colour a sketch.

    image: A picture: `part:NAME`, `asset:ID`, a data URI, base64, or an http(s) address.
    model: The model by its name; `auto` takes the best that is loaded. Default: auto.
    format: The picture's file format; png unless Accept says otherwise.
    quality: For jpeg and webp; webp at 100 is lossless. Default: 90.
    version: The model's version: a number, or a label such as stable or canary; the installation's choice
        (most often the newest) if absent.
    """
    return Ask("sketch-to-image", locals())


class Operations:
    """What a client can do, an attribute each."""

    text_to_image = Does(text_to_image)
    image_to_image = Does(image_to_image)
    inpaint = Does(inpaint)
    control = Does(control)
    preprocess = Does(preprocess)
    remove_background = Does(remove_background)
    cleanup = Does(cleanup)
    caption = Does(caption)
    portrait = Does(portrait)
    sketch_to_image = Does(sketch_to_image)


class AsyncOperations:
    """What a client can do, an attribute each."""

    text_to_image = AsyncDoes(text_to_image)
    image_to_image = AsyncDoes(image_to_image)
    inpaint = AsyncDoes(inpaint)
    control = AsyncDoes(control)
    preprocess = AsyncDoes(preprocess)
    remove_background = AsyncDoes(remove_background)
    cleanup = AsyncDoes(cleanup)
    caption = AsyncDoes(caption)
    portrait = AsyncDoes(portrait)
    sketch_to_image = AsyncDoes(sketch_to_image)
