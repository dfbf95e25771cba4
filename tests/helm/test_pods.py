"""What every pod has: bounds, probes, no privilege, and time enough to end."""

from __future__ import annotations

from typing import Any

LONG_RUNNING = ("Deployment", "StatefulSet")


def test_every_container_has_requests_and_limits(release: Any) -> None:
    for name, container in release.containers():
        resources = container["resources"]
        for what in ("requests", "limits"):
            assert {"cpu", "memory"} <= resources[what].keys(), name


def test_what_serves_is_probed_at_its_start_for_work_and_for_life(release: Any) -> None:
    for one in release.of(*LONG_RUNNING):
        for container in one["spec"]["template"]["spec"]["containers"]:
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                assert probe in container, (one["metadata"]["name"], probe)


def test_a_start_that_loads_models_may_take_its_minutes(case: Any) -> None:
    for one in case("gpu").of("Deployment"):
        if one["metadata"]["name"] in ("dr-sdxl", "dr-controlnet"):
            (container,) = one["spec"]["template"]["spec"]["containers"]
            probe = container["startupProbe"]
            assert probe["periodSeconds"] * probe["failureThreshold"] >= 1200
            assert one["spec"]["progressDeadlineSeconds"] > 1200


def test_pods_are_what_pod_security_calls_restricted(release: Any) -> None:
    for one, pod in release.pods():
        spec = pod["spec"]
        assert not spec.keys() & {"hostNetwork", "hostPID", "hostIPC"}
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["securityContext"].get("runAsUser") != 0
        assert one["metadata"]["name"]
    for name, container in release.containers():
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False, name
        assert context["readOnlyRootFilesystem"] is True, name
        assert context["runAsNonRoot"] is True, name
        assert context["capabilities"] == {"drop": ["ALL"]}, name
        assert "privileged" not in context, name
        assert all("hostPort" not in port for port in container.get("ports", [])), name


def test_only_a_folder_on_the_node_is_a_volume_that_restricted_forbids(case_name: str, case: Any) -> None:
    allowed = {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "secret",
    }
    found = set()
    for _, pod in case(case_name).pods():
        for volume in pod["spec"].get("volumes", []):
            found |= volume.keys() - {"name"} - allowed
    assert found == ({"hostPath"} if case_name == "cache-per-node" else set())


def test_no_pod_holds_a_token_or_variables_of_other_services(release: Any) -> None:
    """Kubernetes' service links would set DARKROOM_PORT in a release named darkroom, which is a setting of ours."""
    for _, pod in release.pods():
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert pod["spec"]["enableServiceLinks"] is False
    for account in release.of("ServiceAccount"):
        assert account["automountServiceAccountToken"] is False


def test_each_may_write_where_it_must_and_nowhere_else(release: Any) -> None:
    for name, container in release.containers():
        writable = {one["mountPath"] for one in container["volumeMounts"] if not one.get("readOnly")}
        assert "/tmp" in writable, name
        extra = writable - {
            "/tmp",
            "/var/lib/darkroom",
            "/var/lib/postgresql/data",
            "/var/run/postgresql",
            "/data",
        }
        fills = container.get("command", [])[:3] == ["darkroom", "models", "pull"] or name.endswith(
            "/iopaint"
        )
        assert extra == ({"/models"} if fills else set()), name


def test_the_platform_may_choose_the_ids(case: Any) -> None:
    for _, pod in case("openshift").pods():
        assert not pod["spec"]["securityContext"].keys() & {"runAsUser", "runAsGroup", "fsGroup"}


def environment(container: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one.get("value", "") for one in container.get("env", [])}


def test_a_pod_is_not_killed_before_it_has_drained(release: Any) -> None:
    for one in release.of("Deployment"):
        spec = one["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        pause = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
        drain = float(environment(container).get("DARKROOM_DRAIN", 10))
        lead = float(environment(container).get("DARKROOM_DRAIN_LEAD", 0))
        assert spec["terminationGracePeriodSeconds"] >= pause + lead + drain + 5 + 5, one["metadata"]["name"]
        assert pause + lead >= 10, (
            "gateways resolve a name anew every five seconds, and DNS remembers for five"
        )


def test_the_longest_step_is_counted_in(case: Any) -> None:
    spec = case("extension").get("Deployment", "dr-trainer")["spec"]["template"]["spec"]
    assert spec["terminationGracePeriodSeconds"] >= 600 + 120


def test_no_variable_is_set_twice(release: Any) -> None:
    for name, container in release.containers():
        names = [one["name"] for one in container.get("env", [])]
        assert len(names) == len(set(names)), name


def test_no_secret_is_written_out(release: Any) -> None:
    secret = ("PASSWORD", "ADMIN_KEY", "_TOKEN", "DATABASE_URL", "REDIS_URL", "SECRET", "ACCESS_KEY")
    for name, container in release.containers():
        for one in container.get("env", []):
            if any(word in one["name"] for word in secret) or one["name"] == "DARKROOM_KEY":
                assert "secretKeyRef" in one["valueFrom"], (name, one["name"])


def test_gpus_are_asked_for_by_their_names(case: Any) -> None:
    def gpus(release: Any, name: str) -> dict[str, Any]:
        (container,) = release.get("Deployment", name)["spec"]["template"]["spec"]["containers"]
        found = {what: count for what, count in container["resources"]["limits"].items() if "/" in what}
        assert found.items() <= container["resources"]["requests"].items()
        return found

    assert gpus(case("gpu"), "dr-sdxl") == {"nvidia.com/gpu": 1}
    assert gpus(case("gpu"), "dr-rmbg") == {}
    assert gpus(case("mig"), "dr-rmbg") == {"nvidia.com/mig-1g.10gb": 1}
    assert gpus(case("mig"), "dr-controlnet") == {"nvidia.com/mig-3g.40gb": 1}
    assert gpus(case("timeslice"), "dr-cleanup") == {"nvidia.com/gpu.shared": 1}


def test_pods_with_a_gpu_go_where_gpus_are_and_take_the_image_for_them(case: Any) -> None:
    release = case("gpu")
    on, off = (release.get("Deployment", name)["spec"]["template"]["spec"] for name in ("dr-sdxl", "dr-rmbg"))
    assert (on["runtimeClassName"], on["nodeSelector"]) == ("nvidia", {"nvidia.com/gpu.present": "true"})
    assert on["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert on["priorityClassName"] == "interactive"
    assert on["containers"][0]["image"].endswith("-cuda")
    assert not off.keys() & {"runtimeClassName", "nodeSelector", "tolerations", "priorityClassName"}
    assert not off["containers"][0]["image"].endswith("-cuda")


def test_placement_is_handed_on_as_it_is_given(case: Any, values: Any) -> None:
    spec = case("extension").get("Deployment", "dr-trainer")["spec"]["template"]["spec"]
    given = values("extension")["services"]["trainer"]
    assert spec["affinity"] == given["affinity"]
    assert spec["tolerations"] == given["tolerations"]
    (spread,) = spec["topologySpreadConstraints"]
    selector = case("extension").get("Deployment", "dr-trainer")["spec"]["selector"]
    assert spread["labelSelector"] == selector
