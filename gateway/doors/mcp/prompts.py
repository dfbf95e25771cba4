"""A few prompts: what somebody may pick in a client's menu; the words that tell a model which tools to use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from string import Template

from mcp_types import GetPromptResult, Prompt, PromptArgument, PromptMessage, TextContent

from services.errors import BadInput

LONGEST = 4000  # characters of an argument


@dataclass(frozen=True, slots=True)
class Recipe:
    title: str
    description: str
    operations: tuple[str, ...]  # that have to be here
    words: str
    needed: Mapping[str, str]
    optional: Mapping[str, tuple[str, str]] = field(
        default_factory=dict
    )  # description and what stands for it


_PICTURE = "The picture: a resource's URI, an https address or a data URI."
RECIPES: dict[str, Recipe] = {
    "product-photo": Recipe(
        "Product photo",
        "Puts the subject of a photograph on a plain ground, cropped to it.",
        ("remove-background",),
        "Make a product photo of $picture: call remove-background with it, background $background and trim true. "
        "Look at the result; where edges are ragged, try again with matting true. Then tell me its `url`.",
        {"picture": _PICTURE},
        {"background": ("A colour such as #f4efe6.", "white")},
    ),
    "profile-picture": Recipe(
        "Profile picture",
        "Makes a studio portrait of a photograph.",
        ("portrait",),
        "Make a profile picture of $picture: call portrait with it, size $size and tone $tone. If several faces "
        "are found, ask me whose picture it shall be. Then tell me its `url`.",
        {"picture": _PICTURE},
        {
            "size": ("avatar, id-card, passport or student-card.", "avatar"),
            "tone": ("cool, neutral or warm.", "neutral"),
        },
    ),
    "variations": Recipe(
        "Variations on a picture",
        "Paints a picture anew in a few ways, to choose from.",
        ("image-to-image", "caption"),
        "Look at $picture with caption, and write a prompt of it in this manner: $style. Call image-to-image with the "
        "picture and that prompt three times, with strength 0.3, 0.5 and 0.7 and the same seed. Show me the three "
        "and tell me which keeps most of the picture.",
        {"picture": _PICTURE, "style": "What it should become, in a few words."},
    ),
}


def prompt(name: str, recipe: Recipe) -> Prompt:
    arguments = [
        PromptArgument(name=own, description=about, required=True) for own, about in recipe.needed.items()
    ]
    arguments += [
        PromptArgument(name=own, description=f"{about} {usual} if absent.", required=False)
        for own, (about, usual) in recipe.optional.items()
    ]
    return Prompt(name=name, title=recipe.title, description=recipe.description, arguments=arguments)


def written(recipe: Recipe, given: Mapping[str, str]) -> GetPromptResult:
    """The prompt's words with what was given in them."""
    for name in recipe.needed:
        if not given.get(name, "").strip():
            raise BadInput(f"The prompt needs {name}.", field=name)
    if any(len(value) > LONGEST for value in given.values()):
        raise BadInput(f"An argument has {LONGEST} characters at most.")
    values = {name: usual for name, (_, usual) in recipe.optional.items()}
    values |= {name: value for name, value in given.items() if value.strip()}
    text = Template(recipe.words).safe_substitute(values)
    return GetPromptResult(
        description=recipe.description,
        messages=[PromptMessage(role="user", content=TextContent(text=text))],
    )
