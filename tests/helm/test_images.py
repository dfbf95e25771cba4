"""The chart and the images are made for each other: names, users, ports."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

DOCKER = Path(__file__).parents[2] / "docker"


def of_ours(release: Any) -> dict[str, set[int]]:
    """Repository of each image of Darkroom's that is not somebody's own, and the ports that are used of it."""
    found: dict[str, set[int]] = {}
    for _, container in release.containers():
        path = re.fullmatch(r"darkroom/([a-z0-9-]+)[:@].*", container["image"])
        if path is not None:
            ports = {port["containerPort"] for port in container.get("ports", [])}
            found[path[1]] = found.get(path[1], set()) | ports
    return found


@pytest.mark.parametrize("name", ["defaults", "iopaint", "gpu"])
def test_every_image_is_one_that_is_built_and_opens_the_ports_that_are_used(name: str, case: Any) -> None:
    images = of_ours(case(name))
    assert {"gateway", "rmbg", "diffusion", "pix2pix"} <= images.keys()
    for image, ports in images.items():
        text = (DOCKER / image / "Dockerfile").read_text()
        opened = {
            int(port) for line in re.findall(r"^EXPOSE (.+)$", text, re.MULTILINE) for port in line.split()
        }
        assert ports <= opened, image
        assert re.search(r"^USER 10001\b", text, re.MULTILINE), image


def test_the_image_that_has_two_services_is_told_which(case: Any) -> None:
    assert "$SERVICE" in (DOCKER / "diffusion" / "Dockerfile").read_text()
    for name in ("controlnet", "sdxl"):
        (container,) = case("gpu").get("Deployment", f"dr-{name}")["spec"]["template"]["spec"]["containers"]
        assert {"name": "SERVICE", "value": name} in container["env"]


def test_the_tag_is_the_version_of_the_project(case: Any) -> None:
    project = (DOCKER.parent / "pyproject.toml").read_text()
    version = re.search(r'^version = "(.+)"$', project, re.MULTILINE)
    assert version is not None
    for _, container in case("defaults").containers():
        assert container["image"].endswith(f":{version[1]}")


def test_the_servers_of_a_trial_are_those_of_the_compose_file(case: Any) -> None:
    """But for the registry, which Kubernetes' nodes want to be told."""
    compose = (DOCKER / "compose.yaml").read_text()
    for kind in ("postgres", "redis", "minio"):
        (container,) = case("trial").get("StatefulSet", f"dr-{kind}")["spec"]["template"]["spec"][
            "containers"
        ]
        told = re.search(rf"\$\{{{kind.upper()}_IMAGE:-(.+)\}}", compose)
        assert told is not None
        assert container["image"].endswith(f"/{told[1]}"), kind
