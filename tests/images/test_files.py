"""What can be told of the images and of compose without an engine: their files."""

from __future__ import annotations

import configparser
import http.server
import json
import os
import re
import subprocess
import sys
import threading
import tomllib
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from gateway.upstream.resolve import read_origins
from services.installed import installed, servers
from tests.images.engine import until

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
OURS = sorted(path for path in DOCKER.glob("*/Dockerfile") if path.parent.name != "iopaint")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
BEHIND = {"sdxl": "diffusion", "controlnet": "diffusion"}
OUTSIDE = {"gateway", "prometheus", "grafana"}
# the model is another project's; its image's own user is in its base
PYTHON = [path for path in OURS if path.parent.name != "tf-serving"]


def names(paths: list[Path]) -> list[str]:
    return [path.parent.name for path in paths]


def last_stage(path: Path) -> str:
    return re.split(r"^FROM ", path.read_text(), flags=re.MULTILINE)[-1]


@pytest.mark.parametrize("path", OURS, ids=names(OURS))
def test_an_image_runs_as_nobody_special_and_tells_its_health_and_its_name(path: Path) -> None:
    text, last = path.read_text(), last_stage(path)
    assert re.findall(r"^USER (.+)$", last, re.MULTILINE) == ["10001:10001"]
    assert re.search(r"^HEALTHCHECK .*--start-period", last, re.MULTILINE)
    assert re.search(r'^ENTRYPOINT \["', last, re.MULTILINE), "an exec form, so that signals arrive"
    for label in ("title", "description", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{label}=" in last
    assert text.index("ARG BASE=") < text.index("FROM "), "the base is an argument"
    assert not re.search(r"^(ARG|ENV) .*(PASSWORD|TOKEN|SECRET|_KEY)", text, re.MULTILINE)
    assert not re.search(r"^ADD ", text, re.MULTILINE)


@pytest.mark.parametrize("path", PYTHON, ids=names(PYTHON))
def test_what_installs_stays_in_the_stage_that_is_thrown_away(path: Path) -> None:
    first, last = path.read_text().split("FROM ${BASE}")
    assert "AS build" in first
    assert "dependencies.sh" in first
    assert not re.search(r"\bpip\b|apt-get|dependencies\.sh", last)
    assert "COPY --from=build /sbom /sbom" in last


def test_every_service_has_an_image() -> None:
    wanted = {BEHIND.get(name, name) for name in [*installed(), *servers()]} | {"gateway", "tf-serving"}
    assert wanted <= set(names(OURS))


def test_bake_and_compose_name_the_version_that_the_project_has() -> None:
    bake = (DOCKER / "bake.hcl").read_text()
    assert f'"VERSION"  {{ default = "{PROJECT["version"]}" }}' in bake
    for file in ("compose.yaml", "compose.gpu.yaml"):
        versions = set(re.findall(r"\$\{VERSION:-([^}]+)\}", (DOCKER / file).read_text()))
        assert versions == {PROJECT["version"]}
    for name in names(OURS):
        assert f'\ntarget "{name}" {{' in bake


def test_the_network_of_a_build_can_be_said_for_every_target() -> None:
    told = yaml.safe_load((DOCKER / "bake.network.yaml").read_text())["services"]
    targets = re.findall(
        r'^target "([^"]+)" \{\n(?:.*\n)*?\}', (DOCKER / "bake.hcl").read_text(), re.MULTILINE
    )
    assert set(told) == {*targets} - {"common", "onnx-cuda", "published", "released", "released-cuda"}


# ── compose ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def composed() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    return found


def test_every_container_of_compose_is_hardened_and_bounded(composed: dict[str, Any]) -> None:
    for name, service in composed["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["pids_limit"], name
        assert service["mem_limit"], name
        assert service["cpus"], name
        assert "cap_add" not in service, name
        assert "privileged" not in service, name


def test_only_the_gateway_and_the_watchers_have_a_port_outside_and_on_this_machine_alone(
    composed: dict[str, Any],
) -> None:
    published = {name for name, service in composed["services"].items() if service.get("ports")}
    assert published == OUTSIDE
    for name in published:
        for port in composed["services"][name]["ports"]:
            assert port.startswith(("127.0.0.1:", "${BIND:-127.0.0.1}:")), port


def test_the_networks_of_compose_are_the_ways_of_the_design(composed: dict[str, Any]) -> None:
    inner = {name for name, network in composed["networks"].items() if network.get("internal")}
    assert inner == {"services", "state", "watch"}
    ways = {name: set(service["networks"]) for name, service in composed["services"].items()}
    for name in ("rmbg", "cleanup", "portrait", "caption", "diffusion", "pix2pix"):
        assert ways[name] == {"services"}, name
    for name in ("postgres", "redis", "minio", "bucket"):
        assert ways[name] == {"state"}, name
    assert {name for name, networks in ways.items() if "front" in networks} == OUTSIDE | {"models"}
    assert ways["gateway"] == {"front", "services", "state", "watch"}


def test_the_gateway_is_told_of_every_service_where_compose_starts_it(composed: dict[str, Any]) -> None:
    told = json.loads(composed["services"]["gateway"]["environment"]["DARKROOM_SERVICES"])
    assert set(told) == {*installed(), *servers()}
    for name, addresses in told.items():
        for origin in read_origins(name, addresses):
            assert origin.host == BEHIND.get(name, name)
            assert origin.host in composed["services"]
            assert origin.port == (8500 if name == "pix2pix" else 3000)


def test_the_secrets_of_compose_are_drawn_anew_and_are_nowhere_in_it(composed: dict[str, Any]) -> None:
    text = (DOCKER / "compose.yaml").read_text()
    needed = set(re.findall(r"\$\{([A-Z_]+):\?", text))

    def drawn() -> dict[str, str]:
        said = subprocess.run([DOCKER / "make-env.sh"], capture_output=True, text=True, check=True).stdout
        return dict(line.split("=", 1) for line in said.splitlines() if re.match(r"[A-Z]", line))

    once, again = drawn(), drawn()
    assert set(once) == needed
    assert all(len(value) >= 48 for value in once.values())
    assert len({*once.values(), *again.values()}) == 2 * len(needed)
    for service in composed["services"].values():
        for name, value in (service.get("environment") or {}).items():
            if re.search(r"PASSWORD|SECRET|_KEY", name):
                assert str(value).startswith("${"), name


# ── what builds and what looks ──────────────────────────────────────────────────────────────────────────────────────


def requirements(extra: str, **environment: str) -> list[str]:
    said = subprocess.run(
        [sys.executable, DOCKER / "build" / "requirements.py", ROOT / "pyproject.toml", extra],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    return said.stdout.splitlines()


def test_an_extra_is_resolved_to_what_pip_is_to_install() -> None:
    gateway = requirements("gateway")
    assert any(line.startswith("fastapi>") for line in gateway)
    assert not [line for line in gateway if re.match("torch|tensorflow|numpy|bentoml|darkroom", line)]
    assert set(PROJECT["dependencies"]) < set(gateway)
    portrait = requirements("portrait")
    assert any(line.startswith("bentoml>") for line in portrait)
    assert any(line.startswith("pymatting>") for line in portrait)
    assert len(portrait) == len(set(portrait))


def test_a_gpus_onnxruntime_stands_where_onnxruntime_does() -> None:
    plain = [line for line in requirements("rmbg") if line.startswith("onnxruntime")]
    gpu = [line for line in requirements("rmbg", ONNXRUNTIME="onnxruntime-gpu[cuda,cudnn]") if "onnx" in line]
    assert [line.replace("onnxruntime-gpu[cuda,cudnn]", "onnxruntime") for line in gpu] == plain


def test_a_build_reaches_the_folders_that_pips_configuration_names_and_no_others(tmp_path: Path) -> None:
    (tmp_path / "own" / "simple" / "thing").mkdir(parents=True)
    (tmp_path / "own" / "simple" / "thing" / "index.html").write_text("<a href='../../thing-1.whl'>")
    (tmp_path / "own" / "thing-1.whl").write_text("a wheel")
    (tmp_path / "secret").write_text("not to be had")
    (tmp_path / "pip.ini").write_text(
        f"[global]\nextra-index-url = file://{tmp_path}/own/simple https://else\n"
    )
    environment = {"PIP_CONFIG_FILE": str(tmp_path / "pip.ini"), "PATH": os.environ["PATH"]}
    command = [sys.executable, ROOT / "tests" / "images" / "pip_for_builds.py", tmp_path / "pip.conf"]
    with subprocess.Popen(command, env=environment) as process:
        try:
            until(
                lambda: list(tmp_path.glob("pip.conf")) and (tmp_path / "pip.conf").read_text(),
                30,
                "pip.conf is written",
            )
            told = configparser.ConfigParser()
            told.read(tmp_path / "pip.conf")
            own, other = told["global"]["extra-index-url"].split()
            assert other == "https://else"
            assert httpx.get(f"{own}thing/").status_code == 200
            assert httpx.get(f"{own.removesuffix('simple/')}thing-1.whl").text == "a wheel"
            assert httpx.get(f"{own.removesuffix('own/simple/')}secret").status_code == 404
            assert httpx.get(f"{own.split(str(tmp_path))[0]}/etc/passwd").status_code == 404
        finally:
            process.terminate()


class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/well" else 503)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def test_the_look_at_health_tells_well_from_ill_from_absent() -> None:
    server = http.server.HTTPServer(("127.0.0.1", 0), Health)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def look(path: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-IS", DOCKER / "build" / "health.py", str(server.server_port), path]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert look("/well").returncode == 0
    ill = look("/ill")
    assert (ill.returncode, ill.stderr) == (1, "/ill: HTTP/1.0 503 Service Unavailable\n")
    server.shutdown()
    server.server_close()
    absent = look("/well")
    assert absent.returncode == 1
    assert "does not answer" in absent.stderr
    assert "Traceback" not in absent.stderr
