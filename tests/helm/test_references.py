"""What one object names of another is there, and selects what it should."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

# what a set of values says that the cluster has already
GIVEN = {
    ("Secret", "hub"): {"token"},
    ("Secret", "darkroom-keys"): {"admin-key", "secret"},
    ("Secret", "darkroom-postgres"): {"uri", "url"},
    ("Secret", "darkroom-redis"): {"url"},
    ("Secret", "darkroom-s3"): {"access-key", "secret-key"},
    ("Secret", "gateway-tls"): {"tls.crt", "tls.key"},
    ("PersistentVolumeClaim", "models"): set(),
    ("PersistentVolumeClaim", "training"): set(),
    ("PersistentVolumeClaim", "kept"): set(),
}


def matches(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return selector.items() <= labels.items()


def keys_of(release: Any, kind: str, name: str) -> set[str]:
    if (kind, name) in GIVEN:
        return GIVEN[kind, name]
    found = release.get(kind, name)
    return set(found.get("data", {}))


def references(pod: dict[str, Any]) -> Iterator[tuple[str, str, str | None]]:
    """Kind, name, and the key if there is one."""
    for volume in pod["spec"].get("volumes", []):
        if "persistentVolumeClaim" in volume:
            yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"], None
        if "configMap" in volume:
            yield "ConfigMap", volume["configMap"]["name"], None
        if "secret" in volume:
            yield "Secret", volume["secret"]["secretName"], None
    for container in (*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]):
        for variable in container.get("env", []):
            if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                yield "Secret", reference["name"], reference["key"]


def test_secrets_configmaps_and_claims_are_there_with_their_keys(release: Any) -> None:
    for _, pod in release.pods():
        for kind, name, key in references(pod):
            if kind == "PersistentVolumeClaim" and (kind, name) not in GIVEN:
                assert release.has(kind, name), name
            elif kind != "PersistentVolumeClaim":
                assert key is None or key in keys_of(release, kind, name), (name, key)


def test_every_mount_has_its_volume_and_every_volume_its_mount(release: Any) -> None:
    for one, pod in release.pods():
        claimed = [template["metadata"]["name"] for template in one["spec"].get("volumeClaimTemplates", [])]
        volumes = [volume["name"] for volume in pod["spec"].get("volumes", [])] + claimed
        mounts = {
            mount["name"]
            for field in ("initContainers", "containers")
            for container in pod["spec"].get(field, [])
            for mount in container["volumeMounts"]
        }
        assert mounts == set(volumes), one["metadata"]["name"]
        assert len(volumes) == len(set(volumes)), one["metadata"]["name"]


def test_every_service_account_is_there(release: Any) -> None:
    for one, pod in release.pods():
        if "serviceAccountName" in pod["spec"]:
            assert release.has("ServiceAccount", pod["spec"]["serviceAccountName"]), one["metadata"]["name"]


def test_a_hook_needs_nothing_that_is_only_installed_after_it(release: Any) -> None:
    for one, pod in release.pods():
        hook = one["metadata"].get("annotations", {}).get("helm.sh/hook", "")
        if not hook.startswith("pre-install"):
            continue
        account = release.get("ServiceAccount", pod["spec"]["serviceAccountName"])
        assert account["metadata"]["annotations"]["helm.sh/hook"] == hook
        for kind, name, _ in references(pod):
            assert (kind, name) in GIVEN, f"{name} comes after the hook"


def test_ports_are_named_as_their_containers_have_them(release: Any) -> None:
    for service in release.of("Service"):
        behind = [
            pod
            for _, pod in release.pods()
            if matches(service["spec"]["selector"], pod["metadata"]["labels"])
        ]
        assert behind, service["metadata"]["name"]
        for pod in behind:
            names = {
                port["name"] for container in pod["spec"]["containers"] for port in container.get("ports", [])
            }
            for port in service["spec"]["ports"]:
                assert port["targetPort"] in names, (service["metadata"]["name"], port)


def test_probes_name_ports_that_are_there(release: Any) -> None:
    for name, container in release.containers():
        ports = {port["name"] for port in container.get("ports", [])}
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            for how in ("httpGet", "tcpSocket"):
                if how in container.get(kind, {}):
                    assert container[kind][how]["port"] in ports, (name, kind)


def test_a_selector_takes_its_own_pods_and_no_others(release: Any) -> None:
    for one in release.of("Deployment", "StatefulSet"):
        selector = one["spec"]["selector"]["matchLabels"]
        taken = [
            other["metadata"]["name"]
            for other, pod in release.pods()
            if matches(selector, pod["metadata"]["labels"])
        ]
        assert taken == [one["metadata"]["name"]]


def test_tracks_do_not_overlap(case: Any) -> None:
    """No Service or disruption budget of one track takes pods of the other: two budgets on a pod stop its eviction."""
    release = case("canary")
    for kind, path in (("Service", ("selector",)), ("PodDisruptionBudget", ("selector", "matchLabels"))):
        for one in release.of(kind):
            selector = one["spec"]
            for step in path:
                selector = selector[step]
            tracks = {
                pod["metadata"]["labels"].get("darkroom/track")
                for _, pod in release.pods()
                if matches(selector, pod["metadata"]["labels"])
            }
            assert len(tracks) == 1, one["metadata"]["name"]


def test_every_pod_that_serves_has_one_disruption_budget(release: Any) -> None:
    for one in release.of("Deployment"):
        labels = one["spec"]["template"]["metadata"]["labels"]
        budgets = [
            budget["metadata"]["name"]
            for budget in release.of("PodDisruptionBudget")
            if matches(budget["spec"]["selector"]["matchLabels"], labels)
        ]
        assert budgets == [one["metadata"]["name"]]


def test_what_scales_scales_a_deployment_that_leaves_its_number_open(release: Any) -> None:
    scaled = set()
    for one in release.of("HorizontalPodAutoscaler", "ScaledObject"):
        target = one["spec"]["scaleTargetRef"]["name"]
        assert "replicas" not in release.get("Deployment", target)["spec"]
        assert target not in scaled
        scaled.add(target)
    for one in release.of("Deployment"):
        assert ("replicas" in one["spec"]) == (one["metadata"]["name"] not in scaled)


def test_ingress_and_routes_lead_to_ports_of_services_that_are_there(release: Any) -> None:
    def port(name: str, wanted: Any) -> bool:
        ports = release.get("Service", name)["spec"]["ports"]
        return any(wanted in (one["name"], one["port"]) for one in ports)

    for ingress in release.of("Ingress"):
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                backend = path["backend"]["service"]
                assert port(backend["name"], backend["port"]["name"])
    for route in release.of("HTTPRoute", "GRPCRoute"):
        for rule in route["spec"]["rules"]:
            for backend in rule["backendRefs"]:
                assert port(backend["name"], backend["port"])


def test_monitors_find_services_and_pods_by_ports_that_they_have(case: Any) -> None:
    release = case("monitoring")
    for monitor in release.of("ServiceMonitor"):
        selector = monitor["spec"]["selector"]["matchLabels"]
        (service,) = (one for one in release.of("Service") if matches(selector, one["metadata"]["labels"]))
        names = {port["name"] for port in service["spec"]["ports"]}
        assert {end["port"] for end in monitor["spec"]["endpoints"]} <= names
    scraped = set()
    for monitor in release.of("PodMonitor"):
        selector = monitor["spec"]["selector"]
        (expression,) = selector["matchExpressions"]
        for one in release.of("Deployment"):
            labels = one["spec"]["template"]["metadata"]["labels"]
            if matches(selector["matchLabels"], labels) and labels[expression["key"]] in expression["values"]:
                (container,) = one["spec"]["template"]["spec"]["containers"]
                names = {port["name"] for port in container["ports"]}
                assert {end["port"] for end in monitor["spec"]["podMetricsEndpoints"]} <= names
                scraped.add(one["metadata"]["name"])
    assert scraped | {"dr-gateway"} == {one["metadata"]["name"] for one in release.of("Deployment")}
    for monitor in release.of("ServiceMonitor", "PodMonitor"):
        spec = monitor["spec"]
        for end in (*spec.get("endpoints", []), *spec.get("podMetricsEndpoints", [])):
            assert end["honorLabels"] is True, "the metrics' own label `service` says more"
