"""The report: its numbers are of the model, the gap is what it says, and over-fitting is called so."""

from __future__ import annotations

import json
import re

import pytest

from tf_serving.pix2pix import report
from tf_serving.pix2pix.measures import Measures
from tf_serving.pix2pix.run import Run


@pytest.fixture(scope="module")
def numbers(trained: Run) -> dict:  # type: ignore[type-arg]
    return report.report(trained)


def test_train_and_held_out_stand_side_by_side_with_the_gap(numbers: dict, trained: Run) -> None:  # type: ignore[type-arg]
    page = (trained.folder / "report.html").read_text()
    for name in ("l1", "inside", "ssim", "features"):
        assert f"{numbers['train'][name]:.4f}" in page and f"{numbers['held_out'][name]:.4f}" in page
        assert f"{numbers['gap'][name]:+.1%}" in page
    assert numbers["verdict"] in page
    assert numbers["train"]["pictures"] == numbers["held_out"]["pictures"] == numbers["pairs"]["held_out"]


def test_the_page_is_one_file(trained: Run, numbers: dict) -> None:  # type: ignore[type-arg]
    page = (trained.folder / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    assert not re.search(r'(src|href)="(?!data:)', page)


def test_the_numbers_are_those_of_the_best_checkpoint(numbers: dict, trained: Run) -> None:  # type: ignore[type-arg]
    best = min(trained.past(), key=lambda look: look["held_out/l1"])
    assert numbers["step"] == best["step"]
    assert numbers["held_out"]["l1"] == pytest.approx(best["held_out/l1"], rel=1e-4)
    assert json.loads((trained.folder / "report.json").read_text()) == json.loads(json.dumps(numbers))


def measures(inside: float) -> Measures:
    return Measures(inside / 3, inside, 0.9, 0.1, 10)


def test_over_fitting_is_called_so() -> None:
    assert report.verdict(measures(0.05), measures(0.051), []).startswith("It does not over-fit")
    assert report.verdict(measures(0.05), measures(0.06), []).startswith("It over-fits a little")
    assert report.verdict(measures(0.05), measures(0.1), []).startswith("It over-fits:")
    past = [{"step": 1, "held_out/l1": 0.02}, {"step": 2, "held_out/l1": 0.03}]
    assert "best at step 1" in report.verdict(measures(0.05), measures(0.1), past)


def test_the_gap_of_ssim_counts_what_is_missing_to_one() -> None:
    train, held = Measures(0.1, 0.1, 0.9, 0.1, 1), Measures(0.1, 0.1, 0.8, 0.1, 1)
    assert report.gap(train, held)["ssim"] == pytest.approx(1.0)
    assert report.gap(train, held)["l1"] == 0
