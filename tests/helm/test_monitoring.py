"""Alerts, dashboards, the autoscaler's question: as their files have them, with the answers that they should give."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

FILES = Path(__file__).parents[2] / "helm" / "darkroom" / "files"


def rules() -> dict[str, list[Any]]:
    return {
        path.name: yaml.safe_load(path.read_text())["groups"]
        for path in sorted((FILES / "alerts").glob("*.yaml"))
    }


def test_every_alert_arrives_as_it_is_in_its_file(case: Any) -> None:
    (rule,) = case("canary").of("PrometheusRule")
    assert rule["spec"]["groups"] == [group for groups in rules().values() for group in groups]
    assert any("{{ $labels." in str(group) for group in rule["spec"]["groups"]), (
        "Prometheus' own templates stay"
    )


def test_alerts_on_other_programs_metrics_can_be_left_out(case: Any) -> None:
    (rule,) = case("monitoring").of("PrometheusRule")
    foreign = {group["name"] for group in rules()["cluster.yaml"]}
    assert foreign
    assert not foreign & {group["name"] for group in rule["spec"]["groups"]}


def test_every_dashboard_arrives_as_it_is_and_where_grafana_looks(case: Any) -> None:
    found = {}
    for one in case("monitoring").of("ConfigMap"):
        if one["metadata"]["labels"].get("grafana_dashboard") == "1":
            found |= one["data"]
    assert found == {path.name: path.read_text() for path in (FILES / "dashboards").glob("*.json")}
    assert found


def test_nothing_of_the_operator_is_rendered_where_it_is_not_wanted(case: Any) -> None:
    kinds = {one["kind"] for one in case("defaults").objects}
    assert not kinds & {"ServiceMonitor", "PodMonitor", "PrometheusRule", "ScaledObject"}


def series(name: str, values: dict[str, int], **labels: str) -> list[dict[str, str]]:
    """The metric of a service as each of two gateways reports it: `values` by the gateway's pod."""
    more = "".join(f',{key}="{value}"' for key, value in labels.items())
    return [{"series": f'{name}{{pod="{pod}"{more}}}', "values": f"{n}x5"} for pod, n in values.items()]


HERE = {"namespace": "studio", "service": "controlnet"}
IDLE = [
    *series("darkroom_upstream_in_flight", {"a": 0, "b": 0}, **HERE),
    *series("darkroom_upstream_waiting", {"a": 0, "b": 0}, **HERE),
]
BUSY = [
    *series("darkroom_upstream_in_flight", {"a": 2, "b": 1}, **HERE),
    *series("darkroom_upstream_waiting", {"a": 4, "b": 0}, **HERE),
    *series("darkroom_jobs_queued", {"a": 7, "b": 7}, **HERE),  # the store's, which both tell
    *series(
        "darkroom_jobs_queued", {"a": 5, "b": 5}, namespace="studio", service="sdxl"
    ),  # the same pods perform it
    *series("darkroom_upstream_in_flight", {"a": 50}, namespace="studio", service="rmbg"),
    *series("darkroom_upstream_in_flight", {"a": 50}, namespace="elsewhere", service="controlnet"),
]


@pytest.mark.parametrize(("given", "wanted"), [(IDLE, 0), (BUSY, 3 + 4 + 7 + 5), ([], None)])
def test_the_autoscaler_hears_how_much_there_is_to_do(
    given: list[dict[str, str]], wanted: int | None, case: Any, tmp_path: Path
) -> None:
    """Nothing at all where no gateway tells, which is not the same as nothing to do."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    (scaled,) = case("keda").of("ScaledObject")
    query = scaled["spec"]["triggers"][0]["metadata"]["query"]
    samples = [] if wanted is None else [{"labels": "{}", "value": wanted}]
    asked = {"expr": query, "eval_time": "3m", "exp_samples": samples}
    test = {"tests": [{"interval": "1m", "input_series": given, "promql_expr_test": [asked]}]}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(test))
    done = subprocess.run(
        [promtool, "test", "rules", tmp_path / "test.yaml"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
