"""k8s/: the chart for people who use kubectl and kustomize; current, and the same as the chart itself."""

from __future__ import annotations

import copy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from helm.kustomize import K8S, NAMESPACE, OVERLAYS, objects, tree

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
EVERY = ("base", *OVERLAYS)


def by_name(found: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(one["kind"], one["metadata"]["name"]): one for one in found}


def of_the_chart(name: str) -> dict[tuple[str, str], dict[str, Any]]:
    return by_name([one for made in objects(name).values() for one in made.values()])


def read(file: Path) -> list[dict[str, Any]]:
    return [one for one in yaml.load_all(file.read_text(), Loader=LOADER) if one]


def patched(one: dict[str, Any], steps: list[dict[str, Any]]) -> dict[str, Any]:
    """What RFC 6902 says of add, replace and remove."""
    made = copy.deepcopy(one)
    for step in steps:
        *way, last = [part.replace("~1", "/").replace("~0", "~") for part in step["path"].split("/")[1:]]
        at: Any = made
        for part in way:
            at = at[int(part)] if isinstance(at, list) else at[part]
        key: Any = int(last) if isinstance(at, list) else last
        if step["op"] == "remove":
            del at[key]
        else:
            at[key] = step["value"]
    return made


def built(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """What kustomize makes of a folder, as far as it uses what is used here."""
    (kustomization,) = read(folder / "kustomization.yaml")
    assert set(kustomization) <= {"apiVersion", "kind", "namespace", "resources", "patches"}
    assert kustomization["namespace"] == NAMESPACE
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for resource in kustomization["resources"]:
        path = folder / resource
        more = built(path) if path.is_dir() else by_name(read(path))
        assert not found.keys() & more.keys()
        found |= more
    for patch in kustomization.get("patches", []):
        key = (patch["target"]["kind"], patch["target"]["name"])
        content = yaml.safe_load(patch["patch"])
        if isinstance(content, dict):
            assert content["$patch"] == "delete"
            del found[key]
        else:
            found[key] = patched(found[key], content)
    return found


def test_what_is_committed_is_what_the_chart_renders() -> None:
    committed = {
        str(path.relative_to(K8S)): path.read_text()
        for folder in ("base", "overlays")
        for path in (K8S / folder).rglob("*")
        if path.is_file()
    }
    assert committed == tree(), "run `make chart`"


@pytest.mark.parametrize("name", EVERY)
def test_base_and_overlays_are_the_chart_with_their_values(name: str) -> None:
    made = built(K8S / "base" if name == "base" else K8S / "overlays" / name)
    namespace = made.pop(("Namespace", NAMESPACE))
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert made == of_the_chart(name)


@pytest.mark.parametrize("name", EVERY)
def test_kubectl_builds_them_alike(name: str) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed, so that its own kustomize is not tried")
    folder = K8S / "base" if name == "base" else K8S / "overlays" / name
    out = subprocess.run(
        [kubectl, "kustomize", folder], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    made = by_name([one for one in yaml.load_all(out, Loader=LOADER) if one])
    made.pop(("Namespace", NAMESPACE))
    for one in made.values():
        assert one["metadata"].pop("namespace") == NAMESPACE
    assert made == of_the_chart(name)


def test_nothing_of_helm_is_left_and_no_secret_is_in_it() -> None:
    text = "".join(tree().values())
    assert "helm.sh/" not in text
    assert "Helm" not in text
    assert "kind: Secret" not in text
