"""Every query of the rules and the dashboards, evaluated by Prometheus against what a running installation tells."""

from __future__ import annotations

from typing import Any

import pytest

from tests.observe import queries
from tests.observe.conftest import NAMESPACE

pytestmark = pytest.mark.timeout(300)  # the first test waits for all that is started
# panels that are empty while all is well, and what would fill them
EMPTY_WHILE_WELL = {
    "services: Repeated": "an attempt that is repeated",
    "rollout: Faults by outcome": "a service that fails",
    "rollout: Calls that were moved": "an endpoint that leaves",
}


@pytest.fixture(scope="module")
def labels(prometheus: Any) -> dict[str, set[str]]:
    found: dict[str, set[str]] = prometheus.labels()
    return found


@pytest.mark.parametrize("query", queries.of_rules(), ids=str)
def test_a_rules_expression_asks_for_what_there_is(
    prometheus: Any, labels: dict[str, set[str]], query: queries.Query
) -> None:
    assert queries.unknown(query.text, labels) == []
    prometheus.value(query.text)


@pytest.mark.parametrize("query", queries.of_panels(), ids=str)
def test_a_panel_shows_something(prometheus: Any, labels: dict[str, set[str]], query: queries.Query) -> None:
    assert queries.unknown(query.text, labels | _if_it_happened(labels)) == []
    assert prometheus.value(query.text) or query.where in EMPTY_WHILE_WELL


def _if_it_happened(labels: dict[str, set[str]]) -> dict[str, set[str]]:
    """A retry is told when there was one; its labels are in gateway/metrics.py, and tests/gateway holds them."""
    return {"darkroom_upstream_retries_total": {*labels["darkroom_upstream_calls_total"], "reason"}}


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("sum(darkroom_upstream_waitng)", "there is no metric darkroom_upstream_waitng"),
        ('rate(darkroom_upstream_attempts_total{trak="canary"}[5m])', "has no label trak"),
        ("sum by (sevice) (darkroom_upstream_ready)", "nothing here has a label sevice"),
        ("histogram_quantile(0.9, rate(darkroom_job_second_bucket[5m]))", "darkroom_job_second_bucket"),
        ("1 - max_over_time(darkroom:attempts:rate5m[1h:1m])", "darkroom:attempts:rate5m"),
    ],
)
def test_a_name_that_is_misspelled_is_found(labels: dict[str, set[str]], wrong: str, told: str) -> None:
    assert told in "; ".join(queries.unknown(wrong, labels))


def test_what_an_alert_shows_is_there_to_be_shown(labels: dict[str, set[str]]) -> None:
    """A label in a sentence is one that the expression keeps."""
    for rule in queries.alerts(*(name for name in queries.rule_files() if name != queries.FOREIGN)):
        parsed = queries.promql.parse(rule["expr"])
        kept = queries.grouped_by(parsed) or set().union(
            *(labels[name] for name in queries.metrics(rule["expr"]))
        )
        if queries.recorded() & queries.metrics(rule["expr"]):
            kept |= labels[next(iter(queries.recorded() & queries.metrics(rule["expr"])))]
        if "up" in queries.metrics(rule["expr"]):
            kept |= labels["up"]
        assert queries.labels_in_words(rule) <= kept, rule["alert"]


def test_the_autoscaler_always_has_a_number(prometheus: Any, labels: dict[str, set[str]]) -> None:
    asked = queries.of_the_autoscaler(NAMESPACE, "cleanup", "rmbg")
    assert set(asked) == {"cleanup", "rmbg"}
    found = {}
    for service, query in asked.items():
        assert queries.unknown(query, labels) == []
        (result,) = prometheus.value(query)
        found[service] = float(result["value"][1])
    # nobody works on rmbg: three jobs wait, and one turn that is taken for them
    assert found["rmbg"] >= 3
    assert found["cleanup"] >= 0


def test_a_canary_is_seen_with_its_share(prometheus: Any) -> None:
    def total(track: str) -> float:
        query = f'sum(darkroom_upstream_attempts_total{{service="cleanup", track="{track}", outcome="done"}})'
        (found,) = prometheus.value(query)
        return float(found["value"][1])

    # on a busy machine stable is not always seen as ready; that the share is kept, tests/gateway/upstream holds
    assert 0.1 < total("canary") / (total("canary") + total("stable")) < 0.6
    (asked,) = prometheus.value('darkroom_upstream_track_share{service="cleanup", track="canary"}')
    assert asked["value"][1] == "0.3"


def test_our_label_service_is_not_displaced_by_the_scrapers(
    prometheus: Any, labels: dict[str, set[str]]
) -> None:
    assert not any("exported_service" in names for names in labels.values())
    found = {series["metric"]["service"] for series in prometheus.value("darkroom_upstream_ready")}
    assert found == {"cleanup", "rmbg"}


def test_labels_stay_few(prometheus: Any) -> None:
    """No metric of ours has a series for each caller, picture or address."""
    for found in prometheus.value('count by (__name__) ({__name__=~"darkroom_.*", __name__!~".*_bucket"})'):
        assert float(found["value"][1]) < 200, found["metric"]
