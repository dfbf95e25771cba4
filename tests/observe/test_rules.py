"""The rule files by themselves: promtool takes them, they fire when they should, and each alert is a help."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.observe import queries

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
HANDBOOK = ROOT / "docs" / "operations.md"


def test_promtool_takes_every_rule_file(promtool: str) -> None:
    files = sorted(map(str, queries.ALERTS.glob("*.yaml")))
    told = subprocess.run([promtool, "check", "rules", *files], capture_output=True, text=True, timeout=60)
    assert told.returncode == 0, told.stdout + told.stderr


@pytest.mark.parametrize("case", sorted(path.name for path in HERE.glob("*.test.yaml")))
def test_alerts_fire_when_they_should_and_not_before(promtool: str, case: str, tmp_path: Path) -> None:
    text = (HERE / case).read_text().replace("ALERTS/", f"{queries.ALERTS}/")
    (tmp_path / case).write_text(text)
    told = subprocess.run(
        [promtool, "test", "rules", str(tmp_path / case)], capture_output=True, text=True, timeout=60
    )
    assert told.returncode == 0, told.stdout + told.stderr


@pytest.mark.parametrize("rule", queries.alerts(), ids=lambda rule: rule["alert"])
def test_an_alert_says_what_it_means_and_what_to_do(rule: dict[str, Any]) -> None:
    words = rule["annotations"]
    assert set(words) == {"summary", "description", "action", "runbook"}
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert len(words["summary"]) <= 120
    assert all(text.strip() for text in words.values())
    page, _, anchor = words["runbook"].partition("#")
    assert page == "docs/operations.md"
    assert anchor in anchors(), f"the handbook has no section {anchor}"


def anchors() -> set[str]:
    headings = re.findall(r"^#+ (.+)$", HANDBOOK.read_text(), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_alert_of_the_handbook_exists_and_none_has_two_rules() -> None:
    names = [rule["alert"] for rule in queries.alerts()]
    assert len(names) == len(set(names))
    told = set(re.findall(r"\bDarkroom[A-Z][A-Za-z]+\b", HANDBOOK.read_text()))
    assert told == set(names)


def test_metrics_of_other_programs_are_in_a_file_of_their_own_and_named_at_its_head() -> None:
    head = (queries.ALERTS / f"{queries.FOREIGN}.yaml").read_text().partition("groups:")[0]
    named = set(re.findall(r"\b(?:kube|kubelet|DCGM)_\w+", head))
    used = set().union(*(queries.metrics(rule["expr"]) for rule in queries.alerts(queries.FOREIGN)))
    assert used - {"darkroom_build_info"} == named
    ours = set().union(*(queries.metrics(query.text) for query in queries.of_rules()))
    assert {name for name in ours if not name.startswith("darkroom")} == {"up", "process_start_time_seconds"}


def test_rules_are_plain_files_without_helms_templates() -> None:
    for path in queries.ALERTS.glob("*.yaml"):
        assert not re.search(r"\{\{-?\s*(\.|include|if|range|end)\b", path.read_text()), path.name


# ── dashboards ────────────────────────────────────────────────────────────────────────────────────────────────


def dashboards() -> ModuleType:
    spec = importlib.util.spec_from_file_location("darkroom_dashboards", ROOT / "helm" / "dashboards.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_dashboards_are_what_their_script_writes() -> None:
    made = dashboards()
    assert {path.stem for path in queries.DASHBOARDS.glob("*.json")} == set(made.DASHBOARDS)
    for name in made.DASHBOARDS:
        found = (queries.DASHBOARDS / f"{name}.json").read_text()
        assert found == made.text(name), "run `python helm/dashboards.py`"


def test_every_panel_has_a_unit_words_and_a_place_of_its_own() -> None:
    for name, dashboard in dashboards().DASHBOARDS.items():
        places: set[tuple[int, int]] = set()
        assert [one["name"] for one in dashboard["templating"]["list"]][:2] == ["datasource", "namespace"]
        for panel in dashboard["panels"]:
            grid = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(grid["x"], grid["x"] + grid["w"])
                for y in range(grid["y"], grid["y"] + grid["h"])
            }
            assert not cells & places, f"{name}: {panel['title']} lies on another"
            assert max(x for x, _ in cells) < 24
            places |= cells
            if panel["type"] != "row":
                assert panel["description"]
                assert panel["fieldConfig"]["defaults"]["unit"]
                assert all(target["legendFormat"] for target in panel["targets"])
