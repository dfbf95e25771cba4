"""`python -m helm.audit CHECKOV`: Checkov looks at all that the chart renders, and each failed check needs an answer.

Answers are in helm/darkroom/checkov.yaml, each with its reason. One that answers nothing any more is a mistake too.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import helm_python
import yaml

CHART = Path(__file__).parent / "darkroom"
ANSWERS = CHART / "checkov.yaml"
NAMESPACE = "studio"
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, order=True)
class Failed:
    check: str
    resource: str  # KIND.NAMESPACE.NAME
    case: str
    says: str


def write(folder: Path) -> None:
    """Each set of values, rendered into a file of its own, in a namespace as Helm installs it."""
    chart = helm_python.Chart.load(CHART)
    for path in sorted((CHART / "ci").glob("*-values.yaml")):
        values = yaml.safe_load(path.read_text()) or {}
        files = chart.render(values, name="dr", namespace=NAMESPACE)
        texts = [text for name, text in files.items() if not name.endswith("NOTES.txt")]
        objects = [one for text in texts for one in yaml.load_all(text, Loader=LOADER) if one]
        for one in objects:
            one["metadata"]["namespace"] = NAMESPACE
        (folder / f"{path.name.removesuffix('-values.yaml')}.yaml").write_text(yaml.safe_dump_all(objects))


def failed(checkov: str) -> list[Failed]:
    """Every check that Checkov says has failed."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        command = [
            checkov,
            "--directory",
            folder,
            "--framework",
            "kubernetes",
            "--output",
            "json",
            "--compact",
            "--quiet",
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=550, check=False)
    try:
        report: Any = json.loads(done.stdout)
    except json.JSONDecodeError:
        sys.exit(f"{checkov} said nothing that can be read: {done.stderr[-2000:] or done.stdout[-2000:]}")
    if "results" not in report:
        sys.exit(f"{checkov} has looked at nothing: {done.stdout[:500]}")
    return sorted(
        Failed(one["check_id"], one["resource"], Path(one["file_path"]).stem, one["check_name"])
        for one in report["results"]["failed_checks"]
    )


def unanswered(found: list[Failed]) -> tuple[list[Failed], list[str]]:
    """What nobody answers, and the answers that nobody asks for."""
    answers = yaml.safe_load(ANSWERS.read_text())
    used, left = set(), []
    for one in found:
        fitting = [
            index
            for index, answer in enumerate(answers)
            if one.check in answer["checks"]
            and re.fullmatch(answer["resources"], one.resource)
            and re.fullmatch(answer.get("cases", ".*"), one.case)
        ]
        used |= {(index, one.check) for index in fitting}
        if not fitting:
            left.append(one)
    idle = [
        f"{check} for {answer['resources']}"
        for index, answer in enumerate(answers)
        for check in answer["checks"]
        if (index, check) not in used
    ]
    return left, idle


def main() -> None:
    found = failed(sys.argv[1] if len(sys.argv) > 1 else "checkov")
    left, idle = unanswered(found)
    for one in left:
        sys.stdout.write(f"{one.check} {one.resource} ({one.case}): {one.says}\n")
    for answer in idle:
        sys.stdout.write(f"{ANSWERS.name} answers {answer}, which does not fail.\n")
    sys.stdout.write(
        f"{len(found)} failed checks, {len(left)} without an answer, {len(idle)} idle answers.\n"
    )
    sys.exit(1 if left or idle else 0)


if __name__ == "__main__":
    main()
