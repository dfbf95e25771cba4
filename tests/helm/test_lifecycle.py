"""A release through its life, by Helm's own engine against a stand-in for the cluster."""

from __future__ import annotations

import copy
import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helm_python
import pytest

CHART = Path(__file__).parents[2] / "helm" / "darkroom"


@pytest.fixture
def cluster() -> Iterator[Any]:
    spec = importlib.util.spec_from_file_location("darkroom_cluster", Path(__file__).with_name("cluster.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    made = module.Cluster()
    yield made
    made.close()


@pytest.fixture
def helm(cluster: Any) -> Iterator[helm_python.Config]:
    with helm_python.Config(
        kubeconfig_content=cluster.kubeconfig,
        namespace="studio",
        storage_driver="memory",
        qps=1000,
        burst_limit=1000,
    ) as config:
        yield config


def services_of(cluster: Any) -> dict[str, list[str]]:
    (container,) = cluster.objects["deployments", "dr-gateway"]["spec"]["template"]["spec"]["containers"]
    (text,) = (one["value"] for one in container["env"] if one["name"] == "DARKROOM_SERVICES")
    found: dict[str, list[str]] = json.loads(text)
    return found


def test_an_upgrade_keeps_the_keys_and_passwords_that_were_drawn(
    cluster: Any, helm: Any, values: Any
) -> None:
    helm.install(CHART, "dr", values("trial"), timeout=60)
    drawn = {
        name: copy.deepcopy(cluster.objects["secrets", name]["data"]) for name in ("dr-keys", "dr-trial")
    }
    assert len(drawn["dr-keys"]["admin-key"]) > 24
    helm.upgrade(CHART, "dr", values("trial") | {"gateway": {"replicas": 3}}, timeout=60)
    assert cluster.objects["deployments", "dr-gateway"]["spec"]["replicas"] == 3
    assert {name: cluster.objects["secrets", name]["data"] for name in drawn} == drawn


def test_a_key_that_a_later_chart_adds_is_drawn_beside_those_that_are_there(cluster: Any, helm: Any) -> None:
    helm.install(CHART, "dr", {}, timeout=60)
    kept = cluster.objects["secrets", "dr-keys"]["data"].pop("admin-key")
    secret = cluster.objects["secrets", "dr-keys"]["data"]["secret"]
    helm.upgrade(CHART, "dr", {}, timeout=60)
    after = cluster.objects["secrets", "dr-keys"]["data"]
    assert after["secret"] == secret
    assert after["admin-key"] not in ("", kept)


def test_keys_and_data_outlive_the_release_and_are_taken_up_again(cluster: Any, helm: Any) -> None:
    helm.install(CHART, "dr", {}, timeout=60)
    keys = copy.deepcopy(cluster.objects["secrets", "dr-keys"]["data"])
    helm.uninstall("dr", timeout=60)
    assert set(cluster.objects) == {("secrets", "dr-keys"), ("persistentvolumeclaims", "dr-data")}
    helm.install(CHART, "dr", {}, timeout=60)
    assert cluster.objects["secrets", "dr-keys"]["data"] == keys


def test_a_canary_comes_with_an_upgrade_and_goes_with_a_rollback(cluster: Any, helm: Any) -> None:
    helm.install(CHART, "dr", {}, timeout=60)
    before = set(cluster.objects)
    addresses = services_of(cluster)
    canary = {"services": {"rmbg": {"canary": {"weight": 0.1, "image": {"tag": "next"}}}}}
    helm.upgrade(CHART, "dr", canary, timeout=60)
    assert ("deployments", "dr-rmbg-canary") in cluster.objects
    assert services_of(cluster)["rmbg"] == [
        "dns+http://dr-rmbg-canary-headless:3000#track=canary&weight=0.1",
        "dns+http://dr-rmbg-headless:3000",
    ]
    stable = copy.deepcopy(cluster.objects["deployments", "dr-rmbg"]["spec"])
    helm.rollback("dr", timeout=60)
    assert set(cluster.objects) == before
    assert services_of(cluster) == addresses
    assert cluster.objects["deployments", "dr-rmbg"]["spec"] == stable, "what is stable was not touched"


def test_a_service_that_is_removed_leaves_nothing(cluster: Any, helm: Any) -> None:
    helm.install(CHART, "dr", {}, timeout=60)
    helm.upgrade(CHART, "dr", {"services": {"caption": {"enabled": False}}}, timeout=60)
    assert not [name for _, name in cluster.objects if "caption" in name]
    assert "caption" not in services_of(cluster)


def test_the_database_is_migrated_before_the_first_gateway_and_before_each_new_one(
    cluster: Any, helm: Any, values: Any
) -> None:
    def order(kinds: str, word: str) -> int:
        return next(i for i, (_, kind, name) in enumerate(cluster.changes) if kind == kinds and word in name)

    helm.install(CHART, "dr", values("external-state"), timeout=60)
    assert order("jobs", "migrate") < order("deployments", "gateway")
    cluster.changes.clear()
    helm.upgrade(CHART, "dr", values("external-state") | {"image": {"tag": "0.2.0"}}, timeout=60)
    assert order("jobs", "migrate") < order("deployments", "gateway")
    assert not [name for kinds, name in cluster.objects if kinds == "jobs"], (
        "what has succeeded is cleared away"
    )
