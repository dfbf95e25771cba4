"""The chart as Helm's own library renders it: values in, Kubernetes objects out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "darkroom"
CASES = {
    path.name.removesuffix("-values.yaml"): path for path in sorted((CHART / "ci").glob("*-values.yaml"))
}
NAMESPACE = "studio"
CONTROLLERS = ("Deployment", "StatefulSet", "Job", "Pod")

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C is twenty times quicker

Object = dict[str, Any]


@dataclass(frozen=True)
class Release:
    """What one set of values renders."""

    name: str
    objects: tuple[Object, ...]
    notes: str

    def of(self, *kinds: str) -> list[Object]:
        return [one for one in self.objects if one["kind"] in kinds]

    def get(self, kind: str, name: str) -> Object:
        (found,) = (one for one in self.of(kind) if one["metadata"]["name"] == name)
        return found

    def has(self, kind: str, name: str) -> bool:
        return any(one["metadata"]["name"] == name for one in self.of(kind))

    def pods(self) -> Iterator[tuple[Object, Object]]:
        """Everything that runs: the object, and its pods' template (a Pod is its own)."""
        for one in self.of(*CONTROLLERS):
            yield one, one if one["kind"] == "Pod" else one["spec"]["template"]

    def containers(self) -> Iterator[tuple[str, Object]]:
        """All containers, also those that run first, with a name for people."""
        for one, pod in self.pods():
            for field in ("initContainers", "containers"):
                for container in pod["spec"].get(field, []):
                    yield f"{one['kind']}/{one['metadata']['name']}/{container['name']}", container


def values_of(case: str) -> Object:
    return yaml.safe_load(CASES[case].read_text()) or {}


@cache
def chart() -> helm_python.Chart:
    return helm_python.Chart.load(CHART)


def rendered(values: Object, name: str = "dr") -> Release:
    files = chart().render(values, name=name, namespace=NAMESPACE)
    notes = next(text for path, text in files.items() if path.endswith("NOTES.txt"))
    texts = [text for path, text in files.items() if not path.endswith("NOTES.txt")]
    objects = [one for text in texts for one in yaml.load_all(text, Loader=LOADER) if one]
    return Release(name, tuple(objects), notes)


@cache
def _case(case: str) -> Release:
    return rendered(values_of(case))


@pytest.fixture
def render() -> Callable[..., Release]:
    """`render({...})`: the objects of those values; what Helm refuses is its own exception."""
    return rendered


@pytest.fixture
def case() -> Callable[[str], Release]:
    """`case("gpu")`: what helm/darkroom/ci/gpu-values.yaml renders."""
    return _case


@pytest.fixture
def values() -> Callable[[str], Object]:
    return values_of


@pytest.fixture(params=CASES)
def release(request: pytest.FixtureRequest) -> Release:
    """Each of the value files in turn."""
    return _case(request.param)


@pytest.fixture(params=CASES)
def case_name(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name
