"""Checkov, which has an environment of its own (`make chart-audit` makes it), finds nothing that is not answered."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import yaml

from helm.audit import ANSWERS, failed, unanswered

ROOT = Path(__file__).parents[2]
OWN = ROOT / ".venv" / "audit" / "bin" / "checkov"


def test_every_answer_has_a_reason() -> None:
    for answer in yaml.safe_load(ANSWERS.read_text()):
        assert (
            {"checks", "resources", "because"} <= set(answer) <= {"checks", "resources", "because", "cases"}
        )
        assert len(answer["because"].split()) > 5


@pytest.mark.slow
@pytest.mark.timeout(580)
def test_checkov_finds_nothing_that_is_not_answered() -> None:
    checkov = os.environ.get("CHECKOV") or (str(OWN) if OWN.exists() else shutil.which("checkov"))
    if checkov is None:
        pytest.skip("Checkov is not installed: `make chart-audit` installs it into an environment of its own")
    found = failed(checkov)
    assert found, "it fails some checks that we answer; none at all means that it has looked at nothing"
    assert unanswered(found) == ([], [])
