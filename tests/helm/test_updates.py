"""Updates, canaries and scaling: how many pods there are at each moment, and what the gateway is told of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import TypeAdapter

from gateway.settings import Settings
from gateway.upstream.resolve import read_origins
from services.settings import CleanupSettings, DiffusionSettings, NetSettings, ServiceSettings


def bounds(deployment: dict[str, Any], replicas: int) -> tuple[int, int]:
    """The least pods that are there during an update, and the most: Kubernetes' arithmetic."""
    strategy = deployment["spec"]["strategy"]
    if strategy["type"] == "Recreate":
        return 0, replicas
    rolling = strategy["rollingUpdate"]
    return replicas - rolling["maxUnavailable"], replicas + rolling["maxSurge"]


def replicas_of(release: Any, deployment: dict[str, Any]) -> list[int]:
    """The numbers of pods that an update may find."""
    name = deployment["metadata"]["name"]
    for one in release.of("HorizontalPodAutoscaler"):
        if one["spec"]["scaleTargetRef"]["name"] == name:
            return list(range(one["spec"]["minReplicas"], one["spec"]["maxReplicas"] + 1))
    for one in release.of("ScaledObject"):
        if one["spec"]["scaleTargetRef"]["name"] == name:
            return list(range(one["spec"]["minReplicaCount"], one["spec"]["maxReplicaCount"] + 1))
    return [deployment["spec"]["replicas"]]


def test_an_update_leaves_no_service_of_two_pods_with_none(release: Any) -> None:
    for deployment in release.of("Deployment"):
        for replicas in replicas_of(release, deployment):
            least, most = bounds(deployment, replicas)
            assert replicas < 2 or least >= 1, deployment["metadata"]["name"]
            assert most > least or replicas == 0, "an update that may neither add nor take away never ends"


def gpus(deployment: dict[str, Any]) -> int:
    containers = deployment["spec"]["template"]["spec"]["containers"]
    return sum(
        n
        for one in containers
        for what, n in one["resources"]["limits"].items()
        if what.startswith("nvidia.com/")
    )


def test_without_a_spare_gpu_an_update_asks_for_none(case: Any) -> None:
    for name in ("gpu", "mig"):
        for deployment in case(name).of("Deployment"):
            least, most = bounds(deployment, 2)
            spare = name == "mig" and deployment["metadata"]["name"] == "dr-rmbg"
            assert (least, most) == ((1, 2) if gpus(deployment) and not spare else (2, 3)) or not gpus(
                deployment
            )


def test_with_nothing_said_one_more_pod_comes_before_one_goes(case: Any) -> None:
    for deployment in case("timeslice").of("Deployment"):
        if deployment["metadata"]["name"] != "dr-gateway":
            assert bounds(deployment, 1) == (1, 2)


def test_a_gateway_with_a_volume_is_never_two(case: Any) -> None:
    for name in ("defaults", "tls", "openshift"):
        assert case(name).get("Deployment", "dr-gateway" if name != "tls" else gateway_name(case(name)))[
            "spec"
        ]["strategy"] == {"type": "Recreate"}
    for name in ("trial", "external-state", "gateways"):
        assert bounds(case(name).get("Deployment", "dr-gateway"), 2) == (2, 3)


def gateway_name(release: Any) -> str:
    (name,) = (
        one["metadata"]["name"]
        for one in release.of("Deployment")
        if one["metadata"]["name"].endswith("-gateway")
    )
    return str(name)


def test_no_disruption_budget_blocks_a_drain_for_ever(release: Any) -> None:
    """With one pod, too, it may be evicted."""
    for budget in release.of("PodDisruptionBudget"):
        assert budget["spec"]["maxUnavailable"] == 1
        assert "minAvailable" not in budget["spec"]
        assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


# ── what the gateway is told ─────────────────────────────────────────────────────────────────────────────────────


def variables(container: dict[str, Any]) -> dict[str, str]:
    given = "x" * 48  # what a Secret holds
    return {
        one["name"]: one.get("value", given)
        for one in container["env"]
        if one["name"].startswith("DARKROOM_")
    }


def gateway_of(release: Any) -> dict[str, Any]:
    (container,) = release.get("Deployment", gateway_name(release))["spec"]["template"]["spec"]["containers"]
    return dict(container)


def settings_of(release: Any, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in variables(gateway_of(release)).items():
        if name == "DARKROOM_DATABASE_URL":
            value = "postgresql://u:p@h/d"
        monkeypatch.setenv(name, value)
    return Settings(_env_file=None)


def test_the_gateway_itself_takes_its_settings(release: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(release, monkeypatch)
    assert settings.host == "0.0.0.0"
    known = {f"DARKROOM_{name.upper()}" for name in Settings.model_fields}
    assert variables(gateway_of(release)).keys() - known <= {"DARKROOM_EXTENSIONS"}


def test_settings_arrive_as_they_were_given(case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(case("gateways"), monkeypatch)
    assert (settings.replicas, settings.max_body, settings.rate, settings.deadline) == (8, 134217728, 20, 300)
    assert settings.cors_origins == ["https://studio.example.org", "https://b.example.org"]


def test_every_address_is_one_that_the_gateway_can_read_and_a_service_of_the_release_has(
    release: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(release, monkeypatch)
    ports = {
        one["metadata"]["name"]: {port["port"] for port in one["spec"]["ports"]}
        for one in release.of("Service")
        if one["spec"].get("clusterIP") == "None"
    }
    asked = set()
    for service, addresses in settings.services.items():
        for origin in read_origins(service, addresses):
            if origin.resolved:
                assert origin.port in ports[origin.host]
                asked.add(origin.host)
    behind = {name for name in ports if name.endswith("-headless") and "iopaint" not in name}
    assert asked == behind


def test_a_service_takes_its_settings(release: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = (ServiceSettings, DiffusionSettings, CleanupSettings, NetSettings)
    for deployment in release.of("Deployment"):
        for container in deployment["spec"]["template"]["spec"]["containers"]:
            if "DARKROOM_MODELS_PATH" not in variables(container):
                continue
            with monkeypatch.context() as patch:
                for name, value in variables(container).items():
                    patch.setenv(name, value)
                for kind in kinds:
                    kind.from_environment()


def test_a_canary_is_a_track_of_its_own_with_its_share(case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    release = case("canary")
    stable, canary = (release.get("Deployment", f"dr-controlnet{suffix}") for suffix in ("", "-canary"))
    (before,), (after,) = (one["spec"]["template"]["spec"]["containers"] for one in (stable, canary))
    assert (before["image"], after["image"]) == ("darkroom/diffusion:0.1.0", "darkroom/diffusion:0.2.0")
    assert variables(after)["DARKROOM_MODEL"] == "sdxl-turbo"
    assert "DARKROOM_MODEL" not in variables(before)
    init = canary["spec"]["template"]["spec"]["initContainers"][0]
    assert init["args"] == ["sdxl-turbo"]
    (job,) = release.of("Job")
    assert job["spec"]["template"]["spec"]["containers"][0]["args"] == ["sdxl-base", "sdxl-turbo"]
    services = json.loads(variables(gateway_of(release))["DARKROOM_SERVICES"])
    both = [
        "dns+http://dr-controlnet-canary-headless:3000#track=canary&weight=0.1",
        "dns+http://dr-controlnet-headless:3000",
    ]
    assert services["controlnet"] == services["sdxl"] == both
    assert "dns+grpc://dr-pix2pix-canary-headless:8500#track=canary&weight=0.05" in services["pix2pix"]
    assert (
        "@sha256:"
        in release.get("Deployment", "dr-rmbg-canary")["spec"]["template"]["spec"]["containers"][0]["image"]
    )


def test_undoing_a_canary_leaves_nothing_of_it(render: Any, values: Any) -> None:
    given = values("canary")
    with_canary = {(one["kind"], one["metadata"]["name"]) for one in render(given).objects}
    for entry in given["services"].values():
        entry["canary"] = {}
    without = {(one["kind"], one["metadata"]["name"]) for one in render(given).objects}
    gone = {name for kind, name in with_canary - without if kind != "Job"}
    assert gone
    assert all("-canary" in name for name in gone)


def test_zero_and_false_are_values_too(render: Any) -> None:
    release = render({"services": {"rmbg": {"replicas": 0}, "cleanup": {"enabled": False}}})
    assert release.get("Deployment", "dr-rmbg")["spec"]["replicas"] == 0
    assert not release.has("Deployment", "dr-cleanup")


def test_keda_asks_for_what_waits_and_runs_and_may_go_to_zero(case: Any) -> None:
    (scaled,) = case("keda").of("ScaledObject")
    assert (scaled["spec"]["minReplicaCount"], scaled["spec"]["maxReplicaCount"]) == (0, 4)
    (trigger,) = scaled["spec"]["triggers"]
    query = trigger["metadata"]["query"]
    for metric in ("darkroom_upstream_in_flight", "darkroom_upstream_waiting", "darkroom_jobs_queued"):
        assert f'{metric}{{namespace="studio",service=~"controlnet|sdxl"}}' in query
    assert trigger["metadata"]["threshold"] == "8"
    assert scaled["spec"]["fallback"] == {"failureThreshold": 4, "replicas": 1}


def test_tensorflow_serving_gets_files_that_its_protocol_can_read(case: Any) -> None:
    """With the server's own reader: versions, labels and batching as they were given."""
    from google.protobuf import text_format

    from tf_serving.stubs import ModelServerConfig

    data = case("tensorflow-serving").get("ConfigMap", "dr-pix2pix-config")["data"]
    models = text_format.Parse(data["models.config"], ModelServerConfig()).model_config_list.config
    assert [(one.name, one.base_path) for one in models] == [
        ("creatures", "/models/creatures"),
        ("facades", "/models/facades"),
    ]
    assert list(models[0].model_version_policy.specific.versions) == [1, 2]
    assert dict(models[0].version_labels) == {"stable": 1, "canary": 2}
    assert "max_batch_size { value: 16 }" in data["batching.config"]
    (container,) = case("tensorflow-serving").get("Deployment", "dr-pix2pix")["spec"]["template"]["spec"][
        "containers"
    ]
    files = [
        argument.partition("=")[2]
        for argument in container["args"]
        if argument.partition("=")[2].startswith("/config/")
    ]
    assert {file.removeprefix("/config/") for file in files} == set(data)


def test_an_extension_is_an_entry_and_nothing_else(case: Any) -> None:
    release = case("extension")
    for kind in ("Deployment", "ServiceAccount", "PodDisruptionBudget"):
        assert release.has(kind, "dr-trainer")
    assert release.has("Service", "dr-toy-headless")
    services = json.loads(variables(gateway_of(release))["DARKROOM_SERVICES"])
    assert services["toy"] == ["dns+http://dr-toy-headless:3000"]
    assert services["caption"] == ["http://10.1.2.3:3000", "http://10.1.2.4:3000#weight=0.2"]
    TypeAdapter(dict[str, list[str]]).validate_python(services)


def test_keys_and_passwords_are_drawn_once_for_each_release(render: Any, values: Any) -> None:
    first, second = (render(values("trial")) for _ in range(2))
    for name in ("dr-keys", "dr-trial"):
        one, other = (release.get("Secret", name)["data"] for release in (first, second))
        assert one.keys() == other.keys()
        assert all(one[key] != other[key] for key in one)
        assert first.get("Secret", name)["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_the_notes_tell_the_next_command(case: Any) -> None:
    assert "kubectl -n studio port-forward service/dr-gateway 8080:80" in case("defaults").notes
    assert "helm -n studio test dr" in case("defaults").notes
    assert "https://pictures.example.org" in case("ingress").notes
    assert "sdxl-base" in case("canary").notes
    assert "baseline" in case("cache-per-node").notes


def test_migrations_run_before_gateways_that_wait_for_them(
    case: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = case("external-state")
    (job,) = release.of("Job")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert job["spec"]["template"]["spec"]["containers"][0]["command"] == ["darkroom", "migrate"]
    assert settings_of(release, monkeypatch).migrate == "wait"


def test_a_database_of_the_release_is_migrated_by_its_gateway(
    case: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("trial", "defaults"):
        assert case(name).of("Job") == []
        assert settings_of(case(name), monkeypatch).migrate == "start"
