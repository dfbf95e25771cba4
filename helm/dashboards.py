"""Writes Grafana's dashboards into the chart: `python helm/dashboards.py`.

In go rows of panels (a title, a unit, queries with their legends); out come `helm/darkroom/files/dashboards/*.json`.
A test holds the files equal to what this writes, and evaluates every query against a running installation.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

OUT = Path(__file__).parent / "darkroom" / "files" / "dashboards"
HERE = 'namespace=~"$namespace"'
OF = f'{HERE}, service=~"$service"'
FAULTS = "service-fault|bad-upstream|unavailable|no-endpoint|out-of-memory|schema-mismatch|deadline-exceeded|internal"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
GREEN, YELLOW, RED = "green", "#EAB839", "red"


@dataclass(frozen=True)
class Panel:
    """`queries` are pairs of an expression and its legend; `limits` are where it turns yellow and red."""

    title: str
    unit: str
    queries: list[tuple[str, str]]
    what: str
    kind: str = "timeseries"
    limits: tuple[float, float] | None = None
    width: int = 8
    height: int = 8
    stacked: bool = False
    most: float | None = None
    more: dict[str, Any] = field(default_factory=dict)


def stat(title: str, unit: str, query: str, what: str, limits: tuple[float, float] | None = None) -> Panel:
    return Panel(title, unit, [(query, "")], what, "stat", limits, width=4, height=4)


def quantiles(metric: str, by: str, where: str) -> list[tuple[str, str]]:
    legend = " ".join(f"{{{{{label}}}}}" for label in by.split(", "))
    return [
        (f"histogram_quantile({q}, sum by (le, {by}) (rate({metric}_bucket{{{where}}}[$__rate_interval])))",
         f"{legend} p{round(100 * q)}")
        for q in (0.5, 0.95)
    ]  # fmt: skip


def rate(metric: str, by: str, where: str) -> str:
    return f"sum by ({by}) (rate({metric}{{{where}}}[$__rate_interval]))"


OVERVIEW = [
    ("Now", [
        stat("Gateways", "none", f"count(darkroom_build_info{{{HERE}}})", "Gateways that are scraped."),
        stat("Services ready", "percentunit",
             f"avg(max by (namespace, service) (darkroom_upstream_ready{{{HERE}}}))",
             "Services that have an endpoint, of those that the gateways know; one that is scaled to zero has none."),
        stat("Calls", "reqps", f'sum(rate(darkroom_requests_total{{{HERE}, operation!=""}}[$__rate_interval]))',
             "Calls of operations, through every door."),
        stat("Calls that end in a 5xx", "percentunit",
             f'(sum(rate(darkroom_requests_total{{{HERE}, operation!="", status="5xx"}}[$__rate_interval]))'
             f' or vector(0)) / sum(rate(darkroom_requests_total{{{HERE}, operation!=""}}[$__rate_interval]))',
             "The objective is below one in a hundred.", (0.01, 0.05)),
        stat("Jobs that wait", "none", f"sum(max by (namespace, service) (darkroom_jobs_queued{{{HERE}}}))",
             "Of all services.", (1000, 10000)),
        stat("Pictures", "none", f"sum(increase(darkroom_pictures_total{{{HERE}}}[24h]))", "Made in the last day."),
    ]),
    ("Calls", [
        Panel("Calls by operation", "reqps",
              [(rate("darkroom_requests_total", "operation", f'{HERE}, operation!=""'), "{{operation}}")],
              "Answered requests that ask for an operation.", stacked=True),
        Panel("Answers by status", "reqps", [(rate("darkroom_requests_total", "status", HERE), "{{status}}")],
              "All requests, those for jobs, assets and lists too.", stacked=True),
        Panel("Time to answer", "s", quantiles("darkroom_request_seconds", "operation", f'{HERE}, operation!=""'),
              "From the request's head to the answer's end. The objective: 95 % within 20 s.", limits=(10, 20)),
        Panel("Error budget: how fast it burns", "none",
              [(f"darkroom:request_errors:ratio_rate1h{{{HERE}}} / 0.01", "errors, 1 h"),
               (f"darkroom:request_slow:ratio_rate1h{{{HERE}}} / 0.05", "slow, 1 h")],
              "1 is what the objective allows; 14 uses up a month's budget in two days.", limits=(1, 14)),
        Panel("Calls by door", "reqps", [(rate("darkroom_requests_total", "door", HERE), "{{door}}")],
              "Which dialect callers speak.", stacked=True),
        Panel("Refused before any work", "reqps", [(rate("darkroom_refused_total", "reason", HERE), "{{reason}}")],
              "For their key, their rate or their quota."),
    ]),
    ("The gateways themselves", [
        Panel("Requests in flight", "none",
              [(f"sum by (instance) (darkroom_requests_in_flight{{{HERE}}})", "{{instance}}")],
              "Requests that are being answered, event streams too."),
        Panel("Event loop lag, p99", "s",
              [(f"histogram_quantile(0.99, sum by (le, instance) (rate(darkroom_event_loop_lag_seconds_bucket"
                f"{{{HERE}}}[$__rate_interval])))", "{{instance}}")],
              "How late the loop wakes; above a quarter of a second every call feels it.", limits=(0.1, 0.25)),
        Panel("CPU", "none",
              [(f"rate(process_cpu_seconds_total{{{HERE}}}[$__rate_interval]) and on (namespace, instance) "
                "darkroom_build_info", "{{instance}}")],
              "Cores in use by each gateway."),
        Panel("Memory", "bytes",
              [(f"process_resident_memory_bytes{{{HERE}}} and on (namespace, instance) darkroom_build_info",
                "{{instance}}")],
              "Resident memory of each gateway."),
        Panel("Traffic", "Bps",
              [(f"sum(rate(darkroom_request_bytes_total{{{HERE}}}[$__rate_interval]))", "in"),
               (f"sum(rate(darkroom_response_bytes_total{{{HERE}}}[$__rate_interval]))", "out")],
              "Bytes of bodies."),
        Panel("Faults of what it stands on", "none",
              [(f"sum by (dependency) (increase(darkroom_dependency_errors_total{{{HERE}}}[5m]))", "{{dependency}}")],
              "Database, Redis, the store of pictures; in five minutes.", limits=(1, 10)),
        Panel("Free on the data folder's disk", "percentunit",
              [(f"darkroom_data_free_bytes{{{HERE}}} / darkroom_data_bytes{{{HERE}}}", "{{instance}}")],
              "Uploads pass through it; in the embedded profile everything is on it.", most=1),
    ]),
]  # fmt: skip

SERVICES = [
    ("Endpoints", [
        Panel("Endpoints by health", "none",
              [(f"sum by (service, health) (max by (namespace, service, track, health) "
                f"(darkroom_upstream_track_endpoints{{{OF}}})) > 0", "{{service}} {{health}}")],
              "As the gateways see them.", stacked=True),
        Panel("In use, of what they take at once", "percentunit",
              [(f"sum by (service) (darkroom_upstream_in_flight{{{OF}}}) / "
                f"max by (service) (darkroom_upstream_capacity{{{OF}}} > 0)", "{{service}}")],
              "At 1 the next call waits.", limits=(0.8, 1)),
        Panel("Waiting in line", "none", [(f"sum by (service) (darkroom_upstream_waiting{{{OF}}})", "{{service}}")],
              "Calls, and the next job of each service.", limits=(50, 500)),
        Panel("Time in line", "s", quantiles("darkroom_upstream_wait_seconds", "service", OF),
              "Until a call has an endpoint.", limits=(2, 10)),
        Panel("Breakers open", "none",
              [(f"max by (service) (darkroom_upstream_breakers_open{{{OF}}})", "{{service}}")],
              "Endpoints that are taken out because they failed several times in a row.", limits=(1, 2)),
        Panel("Refused: no slot", "reqps", [(rate("darkroom_upstream_refused_total", "service, reason", OF),
              "{{service}} {{reason}}")], "Calls that never reached an endpoint."),
    ]),
    ("Work", [
        Panel("Attempts by outcome", "reqps",
              [(rate("darkroom_upstream_attempts_total", "service, outcome", OF), "{{service}} {{outcome}}")],
              "`done` is well; a call that was repeated has several attempts.", stacked=True, width=12),
        Panel("Attempts that failed", "percentunit",
              [(f"darkroom:attempt_errors:ratio_rate15m{{{OF}}}", "{{service}} {{track}}")],
              "Faults of the service, in a quarter of an hour.", limits=(0.01, 0.05), width=12),
        Panel("Time of an attempt", "s", quantiles("darkroom_upstream_attempt_seconds", "service", OF),
              "Of those that ended well, from sending to the last byte."),
        Panel("Until an endpoint answers", "s", quantiles("darkroom_upstream_first_byte_seconds", "service", OF),
              "Until the first frame, `accepted`."),
        Panel("Repeated", "reqps",
              [(rate("darkroom_upstream_retries_total", "service, reason", OF), "{{service}} {{reason}}"),
               (rate("darkroom_upstream_retries_refused_total", "service", OF), "{{service}}: budget used up")],
              "Attempts after the first, and those that the budget forbade."),
    ]),
    ("What the services tell of themselves", [
        Panel("Stages of the work, p95", "s",
              [(f"histogram_quantile(0.95, sum by (le, service, stage) (rate(darkroom_service_seconds_bucket{{{OF}}}"
                "[$__rate_interval])))", "{{service}} {{stage}}")],
              "Decoding, running, encoding."),
        Panel("At work", "none", [(f"sum by (service) (darkroom_service_in_flight{{{OF}}})", "{{service}}"),
              (f"sum by (service) (darkroom_service_capacity{{{OF}}})", "{{service}}: capacity")],
              "Calls in the services' own count."),
        Panel("Pictures", "none", [(f"sum by (service) (rate(darkroom_service_pictures_total{{{OF}}}"
              "[$__rate_interval])) * 60", "{{service}}")], "Made in a minute."),
        Panel("Memory", "bytes",
              [(f"process_resident_memory_bytes{{{HERE}}} and on (namespace, instance) darkroom_service_capacity"
                f"{{{OF}}}", "{{instance}}")],
              "Resident memory of the services' processes, without that of a GPU."),
    ]),
]  # fmt: skip

JOBS = [
    ("Now", [
        stat("Waiting", "none", f"sum(max by (namespace, service) (darkroom_jobs_queued{{{OF}}}))", "Jobs that wait.",
             (1000, 10000)),
        stat("Running", "none", f"sum(max by (namespace, service) (darkroom_jobs_running{{{OF}}}))", "Jobs that run."),
        stat("The oldest waits", "s", f"max(darkroom_jobs_oldest_seconds{{{OF}}})", "Of all services.", (300, 900)),
        stat("Succeeded, 24 h", "none", f'sum(increase(darkroom_jobs_total{{{HERE}, outcome="succeeded"}}[24h]))',
             "In the last day."),
        stat("Failed, 24 h", "none", f'sum(increase(darkroom_jobs_total{{{HERE}, outcome="failed"}}[24h]))',
             "In the last day, for good.", (1, 100)),
        stat("Leases lost, 24 h", "none", f"sum(increase(darkroom_job_leases_lost_total{{{HERE}}}[24h]))",
             "Jobs taken from a gateway that fell silent.", (1, 10)),
    ]),
    ("The queue", [
        Panel("Waiting by service", "none",
              [(f"max by (service) (darkroom_jobs_queued{{{OF}}})", "{{service}}")],
              "Every gateway tells of the same queue."),
        Panel("Age of the oldest", "s", [(f"max by (service) (darkroom_jobs_oldest_seconds{{{OF}}})", "{{service}}")],
              "How long the job has waited that waits longest.", limits=(300, 900)),
        Panel("Running by service", "none", [(f"max by (service) (darkroom_jobs_running{{{OF}}})", "{{service}}")],
              "Jobs whose lease somebody holds."),
    ]),
    ("How they end", [
        Panel("Ended", "reqps",
              [(rate("darkroom_jobs_total", "operation, outcome", HERE), "{{operation}} {{outcome}}")],
              "`retried` is put back after a failure, for another attempt.", stacked=True),
        Panel("From accepted to ended", "s", quantiles("darkroom_job_seconds", "operation", HERE),
              "Waiting included."),
        Panel("Webhooks", "reqps", [(rate("darkroom_webhook_deliveries_total", "outcome", HERE), "{{outcome}}")],
              "`failed` is tried again, `given-up` and `refused` are not.", stacked=True),
    ]),
]  # fmt: skip

TRACK = "{{service}} {{track}}"
ROLLOUT = [
    ("The canary beside stable", [
        Panel("Share of the calls: asked and got", "percentunit",
              [(f'max by (service) (darkroom_upstream_track_share{{{OF}, track="canary"}})', "{{service}} asked"),
               (f'sum by (service) (rate(darkroom_upstream_attempts_total{{{OF}, track="canary"}}[$__rate_interval]))'
                f" / sum by (service) (rate(darkroom_upstream_attempts_total{{{OF}}}[$__rate_interval]))",
                "{{service}} got")],
              "More than asked: nothing of stable is up. Less: the canary is busy or away.", most=1),
        Panel("Attempts that failed", "percentunit",
              [(f"darkroom:attempt_errors:ratio_rate15m{{{OF}}}", TRACK)],
              "In a quarter of an hour. The alert compares these two.", limits=(0.02, 0.05)),
        Panel("95 % are done within", "s", [(f"darkroom:attempt_seconds:p95_15m{{{OF}}}", TRACK)],
              "In a quarter of an hour. The alert compares these two."),
        Panel("Attempts", "reqps", [(rate("darkroom_upstream_attempts_total", "service, track", OF), TRACK)],
              "How much has been seen; below some twenty attempts nothing can be said.", stacked=True),
        Panel("Faults by outcome", "reqps",
              [(rate("darkroom_upstream_attempts_total", "service, track, outcome", f'{OF}, outcome=~"{FAULTS}"'),
                TRACK + " {{outcome}}")],
              "What fails in the canary and not in stable is the canary's."),
        Panel("At work", "none", [(f"sum by (service, track) (darkroom_upstream_track_in_flight{{{OF}}})", TRACK)],
              "Calls in flight by track."),
    ]),
    ("The rollout", [
        Panel("Endpoints by track and health", "none",
              [(f"max by (service, track, health) (darkroom_upstream_track_endpoints{{{OF}}}) > 0",
                TRACK + " {{health}}")],
              "`draining` is on its way out, `loading` on its way in.", stacked=True, width=12),
        Panel("Models", "none",
              [(f"max by (service, track, model) (darkroom_upstream_track_model{{{OF}}})",
                TRACK + ": {{model}}")],
              "What each track has loaded.", kind="table", width=12),
        Panel("Calls that were moved", "reqps",
              [(rate("darkroom_upstream_retries_total", "service, reason",
                     f'{OF}, reason=~"draining|connect|model|schema"'), "{{service}} {{reason}}")],
              "From an endpoint that leaves, is gone, lacks the model or is of another version. They cost nothing.",
              width=12),
        Panel("Starts", "none",
              [(f"sum by (instance) (changes(process_start_time_seconds{{{HERE}}}[10m]))", "{{instance}}")],
              "Of processes, within ten minutes.", width=12),
    ]),
]  # fmt: skip


def dashboard(uid: str, title: str, rows: list[tuple[str, list[Panel]]]) -> dict[str, Any]:
    panels: list[dict[str, Any]] = []
    top = 0
    for name, members in rows:
        panels.append(_row(name, len(panels) + 1, top))
        top += 1
        left = tallest = 0
        for member in members:
            if left + member.width > 24:
                top, left, tallest = top + tallest, 0, 0
            panels.append(_panel(member, len(panels) + 1, left, top))
            left, tallest = left + member.width, max(tallest, member.height)
        top += tallest
    by_service = "$service" in json.dumps(panels)
    return {
        "uid": uid,
        "title": title,
        "tags": ["darkroom"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "",
        "links": [{"type": "dashboards", "tags": ["darkroom"], "title": "Darkroom", "asDropdown": True}],
        "annotations": {"list": []},
        "templating": {"list": _variables(by_service)},
        "panels": panels,
    }


def _variables(by_service: bool) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
        _variable("namespace", "Namespace", "label_values(darkroom_build_info, namespace)"),
    ]
    if by_service:
        query = 'label_values(darkroom_upstream_ready{namespace=~"$namespace"}, service)'
        found.append(_variable("service", "Service", query))
    return found


def _variable(name: str, label: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def _row(name: str, number: int, top: int) -> dict[str, Any]:
    place = {"h": 1, "w": 24, "x": 0, "y": top}
    return {"id": number, "type": "row", "title": name, "collapsed": False, "gridPos": place, "panels": []}


def _panel(panel: Panel, number: int, left: int, top: int) -> dict[str, Any]:
    instant = panel.kind in ("stat", "table")
    targets = [
        {"refId": chr(65 + n), "datasource": SOURCE, "expr": expr, "legendFormat": legend or "__auto"}
        | ({"instant": True, "range": False} if instant else {})
        | ({"format": "table"} if panel.kind == "table" else {})
        for n, (expr, legend) in enumerate(panel.queries)
    ]
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0, "thresholds": _thresholds(panel.limits)}
    if panel.most is not None:
        defaults["max"] = panel.most
    if panel.kind == "timeseries":
        defaults["custom"] = {
            "fillOpacity": 20 if panel.stacked else 5,
            "lineWidth": 1,
            "showPoints": "never",
            "stacking": {"mode": "normal" if panel.stacked else "none"},
            "thresholdsStyle": {"mode": "dashed" if panel.limits else "off"},
        }
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.what,
        "datasource": SOURCE,
        "gridPos": {"h": panel.height, "w": panel.width, "x": left, "y": top},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _options(panel),
        "targets": targets,
    }


def _thresholds(limits: tuple[float, float] | None) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": GREEN, "value": None}]
    if limits is not None:
        steps += [{"color": YELLOW, "value": limits[0]}, {"color": RED, "value": limits[1]}]
    return {"mode": "absolute", "steps": steps}


def _options(panel: Panel) -> dict[str, Any]:
    if panel.kind == "stat":
        return {"colorMode": "value", "graphMode": "area", "reduceOptions": {"calcs": ["lastNotNull"]}}
    if panel.kind == "table":
        return {"showHeader": True}
    return {
        "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }


DASHBOARDS = {
    "overview": dashboard("darkroom-overview", "Darkroom / overview", OVERVIEW),
    "services": dashboard("darkroom-services", "Darkroom / services", SERVICES),
    "jobs": dashboard("darkroom-jobs", "Darkroom / jobs", JOBS),
    "rollout": dashboard("darkroom-rollout", "Darkroom / canary and rollout", ROLLOUT),
}


def text(name: str) -> str:
    """A dashboard as its file has it."""
    return json.dumps(DASHBOARDS[name], indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    for each in DASHBOARDS:
        (OUT / f"{each}.json").write_text(text(each))
