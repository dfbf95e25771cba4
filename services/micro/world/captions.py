"""What people say of a scene: the whole truth in one wording, or as they come to word it."""

from __future__ import annotations

import random

from services.micro.world.scenes import Scene, Thing


def caption(scene: Scene) -> str:
    """The whole truth about a scene, in one wording."""
    ground = f"on {_article(scene.background)} background"
    if len(scene.things) == 2:
        first, second = (_name(thing, size=False) for thing in scene.things)
        return f"{_article(first)} next to {_article(second)} {ground}"
    thing = scene.things[0]
    return f"{_article(_name(thing))} at the {thing.position} {ground}"


def varied_caption(scene: Scene, rng: random.Random) -> str:
    """A caption as people may word it: parts left out, other orders, words that mean nothing to this world."""
    if rng.random() < 0.35:
        return caption(scene)
    lead = rng.choice(
        ["", "", "", "", "a picture of ", "a drawing of ", "a photo of ", "an image of ", "draw "]
    )
    if len(scene.things) == 2:
        first, second = (_name(thing, size=False) for thing in scene.things)
        first, second = _article(first), _article(second)
        relation = rng.choice(
            [
                f"{first} next to {second}",
                f"{first} and {second}",
                f"{first} left of {second}",
                f"{second} right of {first}",
            ]
        )
        ground = rng.choice(
            [
                f" on {_article(scene.background)} background",
                f" on {scene.background}",
                f", {scene.background} background",
            ]
        )
        return lead + relation + ground
    thing = scene.things[0]
    name = _name(thing, size=rng.random() < 0.6, texture=rng.random() < 0.85, pose=rng.random() < 0.8)
    place = rng.choice(
        [f" at the {thing.position}", f" at the {thing.position}", f" on the {thing.position}", "", ""]
    )
    if thing.position == "center" and place:
        place = rng.choice([place, " in the center", " in the middle"])
    ground = rng.choice([f" on {_article(scene.background)} background", f" on {scene.background}", ""])
    words = lead + (_article(name) if rng.random() < 0.7 else name) + place + ground
    if rng.random() < 0.2:
        parts = [
            name,
            *([thing.position] if place else []),
            *([f"{scene.background} background"] if ground else []),
        ]
        rng.shuffle(parts)
        words = ", ".join(parts)
    if rng.random() < 0.06:
        words += rng.choice(
            [
                ", best quality",
                ", masterpiece",
                ", highly detailed",
                ", " + _nonsense(rng),
                " " + _nonsense(rng),
            ]
        )
    return words


def _name(thing: Thing, *, size: bool = True, texture: bool = True, pose: bool = True) -> str:
    words = [thing.size] if size else []
    if texture and thing.texture != "plain":
        words.append(thing.texture)
    words += [thing.colour, thing.kind]
    if pose and thing.pose:
        words.append(f"with {thing.pose}")
    return " ".join(words)


def _article(name: str) -> str:
    return ("an " if name[0] in "aeiou" else "a ") + name


def _nonsense(rng: random.Random) -> str:
    return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(3, 8)))
