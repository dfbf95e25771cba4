"""What is asked of Prometheus: the rules, the dashboards' panels and the autoscaler; and what a query is made of."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import helm_python
import promql_parser as promql
import yaml

FILES = Path(__file__).parents[2] / "helm" / "darkroom" / "files"
ALERTS, DASHBOARDS = FILES / "alerts", FILES / "dashboards"
FOREIGN = "cluster"  # the file whose metrics are other programs'
VARIABLES = {"$namespace": ".*", "$service": ".*", "$__rate_interval": "1m"}


@dataclass(frozen=True)
class Query:
    """`where` is for people: a rule's or a panel's name."""

    where: str
    text: str

    def __str__(self) -> str:
        return self.where


def groups(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load((ALERTS / f"{name}.yaml").read_text())["groups"]
    return found


def rule_files() -> list[str]:
    return sorted(path.stem for path in ALERTS.glob("*.yaml"))


def alerts(*names: str) -> list[dict[str, Any]]:
    files = names or rule_files()
    return [rule for name in files for group in groups(name) for rule in group["rules"] if "alert" in rule]


def of_rules() -> list[Query]:
    """Our own rules."""
    return [
        Query(rule.get("alert") or rule["record"], rule["expr"])
        for name in rule_files()
        if name != FOREIGN
        for group in groups(name)
        for rule in group["rules"]
    ]


def of_panels() -> list[Query]:
    found = []
    for path in sorted(DASHBOARDS.glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", []):
                text = target["expr"]
                for variable, value in VARIABLES.items():
                    text = text.replace(variable, value)
                found.append(Query(f"{path.stem}: {panel['title']}", text))
    return found


def of_the_autoscaler(namespace: str, *services: str) -> dict[str, str]:
    """What the chart has KEDA ask for each service."""
    entry = {"autoscaling": {"kind": "keda"}}
    values = {"keda": {"prometheus": "http://prometheus"}, "services": dict.fromkeys(services, entry)}
    files = helm_python.Chart.load(FILES.parent).render(values, name="dr", namespace=namespace)
    objects = [
        one
        for path, text in files.items()
        if path.endswith("scaledobject.yaml")
        for one in yaml.safe_load_all(text)
        if one
    ]
    return {
        one["metadata"]["name"].removeprefix("dr-"): one["spec"]["triggers"][0]["metadata"]["query"]
        for one in objects
    }


def recorded() -> set[str]:
    return {
        rule["record"]
        for name in rule_files()
        for group in groups(name)
        for rule in group["rules"]
        if "record" in rule
    }


def selectors(node: Any) -> Iterator[Any]:
    """Every selector of series in a parsed query."""
    if isinstance(node, promql.VectorSelector):
        yield node
    elif isinstance(node, promql.MatrixSelector):
        yield node.vector_selector
    elif isinstance(node, promql.BinaryExpr):
        yield from selectors(node.lhs)
        yield from selectors(node.rhs)
    elif isinstance(node, promql.Call):
        for argument in node.args:
            yield from selectors(argument)
    else:
        yield from selectors(node.expr) if hasattr(node, "expr") else ()


def grouped_by(node: Any) -> set[str]:
    """Every label that a `by (...)` names."""
    if isinstance(node, promql.BinaryExpr):
        return grouped_by(node.lhs) | grouped_by(node.rhs)
    if isinstance(node, promql.Call):
        return set().union(*(grouped_by(argument) for argument in node.args))
    own = set()
    if isinstance(node, promql.AggregateExpr) and node.modifier is not None:
        own = set(node.modifier.labels)
    return own | (grouped_by(node.expr) if hasattr(node, "expr") else set())


def metrics(text: str) -> set[str]:
    return {selector.name for selector in selectors(promql.parse(text)) if selector.name}


def labels_in_words(rule: dict[str, Any]) -> set[str]:
    """The labels that an alert's sentences show."""
    return set(re.findall(r"\$labels\.([A-Za-z_]+)", " ".join(rule["annotations"].values())))


def unknown(text: str, labels: dict[str, set[str]]) -> list[str]:
    """What a query asks for and nobody tells: `labels` has those of each metric that there is."""
    parsed = promql.parse(text)
    found, known = [], set()
    for selector in selectors(parsed):
        if selector.name not in labels:
            found.append(f"there is no metric {selector.name}")
            continue
        known |= labels[selector.name]
        # of an absent label an empty value is true, and so is `.*`, which a dashboard asks for
        found += [
            f"{selector.name} has no label {matcher.name}"
            for matcher in selector.matchers.matchers
            if matcher.name not in labels[selector.name]
        ]
    found += [f"nothing here has a label {label}" for label in sorted(grouped_by(parsed) - known)]
    return found
