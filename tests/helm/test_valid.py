"""Every set of values: Helm has nothing to say against it, and Kubernetes' and the operators' schemas neither."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import helm_python
import jsonschema
import kubernetes_validate.utils as kubernetes
import pytest

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "darkroom"
CRDS = (
    ROOT.parent / "shared" / "crds"
)  # schemas of KEDA, Gateway API and the Prometheus operator, beside the checkout
GROUPS = ("keda.sh", "gateway.networking.k8s.io", "monitoring.coreos.com")
OLDEST = "1.29"
RANGE = sorted(
    {kubernetes.major_minor(one) for one in kubernetes.all_versions()}, key=lambda one: int(one[2:])
)
RANGE = RANGE[RANGE.index(OLDEST) :]
INFO = 1

# it reads the definitions of a version, megabytes, for each object anew
kubernetes.schema_contents = cache(kubernetes.schema_contents)


def since(case_name: str) -> str:
    """The Kubernetes that a set of values needs, which its file says where that is not the oldest."""
    head = (CHART / "ci" / f"{case_name}-values.yaml").read_text()
    told = re.match(r"# kubernetes: (\S+)", head)
    return told[1] if told else OLDEST


@cache
def _valid(text: str, version: str) -> None:
    kubernetes.validate(json.loads(text), version, strict=True)


def validate(one: dict[str, Any], version: str) -> None:
    """Most objects are alike in all sets of values: each is looked at once."""
    _valid(json.dumps(one, sort_keys=True), version)


def custom(one: dict[str, Any]) -> bool:
    return one["apiVersion"].split("/")[0] in GROUPS


def test_there_are_value_files_for_all_that_the_chart_can_do() -> None:
    assert len(list((CHART / "ci").glob("*-values.yaml"))) >= 15


def test_helm_lints_it_strictly(case_name: str, values: Callable[[str], dict[str, Any]]) -> None:
    report = helm_python.lint(CHART, values(case_name), strict=True, namespace="studio")
    assert report["errors"] == []
    assert [one for one in report["messages"] if one["severity"] > INFO] == []


@pytest.mark.parametrize("ends", ["oldest", "newest"])
def test_kubernetes_knows_every_field(ends: str, case_name: str, case: Any) -> None:
    version = {"oldest": since(case_name), "newest": RANGE[-1]}[ends]
    for one in case(case_name).objects:
        if not custom(one):
            validate(one, version)


@pytest.mark.slow
def test_every_kubernetes_between_knows_them_too(case_name: str, case: Any) -> None:
    for version in RANGE[RANGE.index(since(case_name)) :]:
        for one in case(case_name).objects:
            if not custom(one):
                validate(one, version)


def test_operators_know_every_field_of_their_resources(case_name: str, case: Any) -> None:
    mine = [one for one in case(case_name).objects if custom(one)]
    if mine and not CRDS.is_dir():
        kinds = sorted({one["kind"] for one in mine})
        pytest.skip(f"{CRDS} is not there, so that the fields of {', '.join(kinds)} are not checked")
    for one in mine:
        group, version = one["apiVersion"].split("/")
        schema = json.loads((CRDS / f"{one['kind']}-{group}-{version}.json").read_text())
        jsonschema.validate(one, schema)


def test_no_two_objects_of_a_release_have_the_same_name(release: Any) -> None:
    names = [(one["kind"], one["metadata"]["name"]) for one in release.objects]
    assert len(names) == len(set(names))


def test_names_fit_even_under_a_long_release(render: Any, values: Any) -> None:
    made = render(values("canary"), name="a-release-whose-name-is-as-long-as-helm-lets-it-be123")
    for one in made.objects:
        assert len(one["metadata"]["name"]) <= 63, one["metadata"]["name"]
