"""What lies on disk: the version folders of a model, which of them its policy wants, and whether one has
changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from tf_serving.serving.status import invalid
from tf_serving.stubs import ModelConfig

Fingerprint = tuple[tuple[str, int, int], ...]


def versions(config: ModelConfig) -> dict[int, Path]:
    """The folders below the base path that are named by a number."""
    base = Path(config.base_path)
    try:
        children = list(base.iterdir())
    except OSError as error:
        raise invalid(
            f"Could not find base path {base} for servable {config.name} with error {error.strerror or error}"
        ) from error
    return {int(child.name): child for child in sorted(children) if child.name.isdecimal() and child.is_dir()}


def wanted(config: ModelConfig, found: Mapping[int, Path]) -> list[int]:
    """file_system_storage_path_source.cc: those that the model's policy asks for, newest first."""
    policy = config.model_version_policy
    newest_first = sorted(found, reverse=True)
    match policy.WhichOneof("policy_choice"):
        case "all":
            return newest_first
        case "specific":
            return [number for number in newest_first if number in policy.specific.versions]
        case _:
            return newest_first[: max(1, policy.latest.num_versions)]


def missing(config: ModelConfig, found: Iterable[int]) -> list[int]:
    """What a policy names that is not on disk."""
    return sorted(set(config.model_version_policy.specific.versions) - set(found))


def fingerprint(folder: Path) -> Fingerprint:
    """Names, sizes and times of all files: equal while nothing changes."""
    found = []
    try:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                about = path.stat()
                found.append((str(path.relative_to(folder)), about.st_size, about.st_mtime_ns))
    except OSError:  # it goes away while it is looked at
        return ()
    return tuple(found)
