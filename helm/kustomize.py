"""`python -m helm.kustomize`: the chart and k8s/values/ go in, k8s/base and k8s/overlays come out, for kubectl.

The base is what the chart renders with base.yaml. An overlay is the difference that its values make: objects of its
own, patches, and what it does without.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import helm_python
import yaml

ROOT = Path(__file__).parent.parent
CHART, K8S = ROOT / "helm" / "darkroom", ROOT / "k8s"
NAMESPACE, RELEASE = "darkroom", "darkroom"
OVERLAYS = ("cpu-trial", "gpu", "canary")
HEAD = "# Written by `make chart` from helm/darkroom and k8s/values; edit those, or add an overlay of your own.\n"
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Object = dict[str, Any]
Key = tuple[str, str]


@cache
def objects(name: str) -> dict[str, dict[Key, Object]]:
    """By the part of the chart that they are of, without what is Helm's own."""
    values = merged(_read("base"), {} if name == "base" else _read(name))
    files = helm_python.Chart.load(CHART).render(values, name=RELEASE, namespace=NAMESPACE)
    found: dict[str, dict[Key, Object]] = {}
    for path, text in sorted(files.items()):
        part = Path(path).parent.name
        if part in ("templates", "tests"):
            continue
        for one in yaml.load_all(text, Loader=LOADER):
            if one:
                _without_helm(one)
                found.setdefault(part, {})[one["kind"], one["metadata"]["name"]] = one
    return found


def _without_helm(one: Object) -> None:
    templates = [one.get("spec", {}).get("template", {})] if isinstance(one.get("spec"), dict) else []
    for holder in (one, *templates):
        metadata = holder.get("metadata", {})
        for field in ("labels", "annotations"):
            kept = {
                name: text
                for name, text in metadata.get(field, {}).items()
                if not name.startswith("helm.sh/")
            }
            kept.pop("app.kubernetes.io/managed-by", None)
            metadata.pop(field, None)
            if kept:
                metadata[field] = kept


def merged(base: Object, over: Object) -> Object:
    """As Helm puts one values file over another."""
    made = dict(base)
    for name, value in over.items():
        both = isinstance(value, dict) and isinstance(made.get(name), dict)
        made[name] = merged(made[name], value) if both else value
    return made


def _read(name: str) -> Object:
    return yaml.safe_load((K8S / "values" / f"{name}.yaml").read_text()) or {}


def difference(old: Any, new: Any, path: str = "") -> Iterator[Object]:
    """JSON patch operations (RFC 6902); lists of another length are replaced whole."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            here = f"{path}/{name.replace('~', '~0').replace('/', '~1')}"
            if name not in new:
                yield {"op": "remove", "path": here}
            elif name not in old:
                yield {"op": "add", "path": here, "value": new[name]}
            else:
                yield from difference(old[name], new[name], here)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from difference(before, after, f"{path}/{index}")
    elif old != new:
        yield {"op": "replace", "path": path, "value": new}


def base() -> dict[str, str]:
    """The files of k8s/base by name."""
    parts = objects("base")
    files = {f"{part}.yaml": _dump(*made.values()) for part, made in parts.items()}
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    }
    files["namespace.yaml"] = _dump(namespace)
    return files | {"kustomization.yaml": _kustomization(namespace=NAMESPACE, resources=sorted(files))}


def overlay(name: str) -> dict[str, str]:
    """The files of an overlay by name."""
    old = {key: one for made in objects("base").values() for key, one in made.items()}
    new = {key: one for made in objects(name).values() for key, one in made.items()}
    files, resources, patches = {}, ["../../base"], []
    if own := [one for key, one in new.items() if key not in old]:
        files["own.yaml"] = _dump(*own)
        resources.append("own.yaml")
    for key in sorted(old):
        target = {"kind": key[0], "name": key[1]}
        if key not in new:
            gone = {
                "apiVersion": old[key]["apiVersion"],
                "kind": key[0],
                "metadata": {"name": key[1]},
                "$patch": "delete",
            }
            patches.append({"patch": _dump(gone, head=""), "target": target})
        elif steps := list(difference(old[key], new[key])):
            patches.append({"patch": yaml.safe_dump(steps, sort_keys=False, width=1000), "target": target})
    fields: Object = {"namespace": NAMESPACE, "resources": resources}
    return files | {
        "kustomization.yaml": _kustomization(**fields, **({"patches": patches} if patches else {}))
    }


def _kustomization(**fields: Any) -> str:
    return _dump({"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", **fields})


class _Dumper(yaml.SafeDumper):
    """Text of several lines as it would be written by hand."""


def _text(dumper: _Dumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def _dump(*made: Object, head: str = HEAD) -> str:
    return head + "---\n".join(yaml.dump(one, Dumper=_Dumper, sort_keys=False, width=1000) for one in made)


def tree() -> dict[str, str]:
    """Every file below k8s/ that is written, by its path there."""
    files = {f"base/{name}": text for name, text in base().items()}
    for name in OVERLAYS:
        files |= {f"overlays/{name}/{file}": text for file, text in overlay(name).items()}
    return files


def main() -> None:
    for folder in ("base", "overlays"):
        shutil.rmtree(K8S / folder, ignore_errors=True)
    for path, text in tree().items():
        file = K8S / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


if __name__ == "__main__":
    main()
