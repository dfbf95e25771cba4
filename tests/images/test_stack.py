"""The images in compose's topology: what a caller gets through the gateway's container, and how each is held in."""

from __future__ import annotations

import io
import json
import os
import re
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image, ImageDraw

from tests.images.engine import ROOT, Composed, answers, docker, image, inspect, until

pytestmark = [pytest.mark.images, pytest.mark.timeout(900)]
IMAGES = ["gateway", "rmbg", "cleanup", "portrait", "caption", "diffusion", "pix2pix"]
SERVICES = [name for name in IMAGES if name != "gateway"]
MOST = 250_000_000  # bytes of the gateway's image
KEPT = ("postgres", "redis", "minio")


def png(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def disc(side: int = 128) -> Image.Image:
    picture = Image.new("RGB", (side, side), "white")
    ImageDraw.Draw(picture).ellipse((side // 4, side // 4, 3 * side // 4, 3 * side // 4), "red")
    return picture


def mask(side: int = 128) -> Image.Image:
    picture = Image.new("L", (side, side))
    ImageDraw.Draw(picture).rectangle((side // 3, side // 3, side // 2, side // 2), 255)
    return picture


def photo() -> bytes:
    return (ROOT / "docs" / "samples" / "astronaut.jpg").read_bytes()


ASKED: dict[str, tuple[dict[str, Any], dict[str, bytes]]] = {
    "text-to-image": ({"prompt": "a red circle on a blue background", "steps": 4, "seed": 1}, {}),
    "image-to-image": ({"prompt": "a red circle", "steps": 4, "seed": 1}, {"image": png(disc())}),
    "inpaint": (
        {"prompt": "a red circle", "steps": 4, "seed": 1},
        {"image": png(disc()), "mask": png(mask())},
    ),
    "control": (
        {
            "prompt": "a red circle",
            "steps": 4,
            "seed": 1,
            "controls": json.dumps([{"image": "part:edges", "kind": "canny"}]),
        },
        {"edges": png(disc())},
    ),
    "preprocess": ({"kind": "canny"}, {"image": png(disc())}),
    "remove-background": ({}, {"image": photo()}),
    "cleanup": ({}, {"image": png(disc()), "mask": png(mask())}),
    "caption": ({}, {"image": png(disc())}),
    "portrait": ({}, {"image": photo()}),
    "sketch-to-image": ({}, {"image": png(disc())}),
}


def ask(http: httpx.Client, operation: str, accept: str = "*/*") -> httpx.Response:
    fields, pictures = ASKED[operation]
    parts = [(name, (None, str(value))) for name, value in fields.items()]
    files = [(name, (name, data, "image/png")) for name, data in pictures.items()]
    return http.post(f"/v1/{operation}", files=[*parts, *files], headers={"accept": accept})


def test_every_container_comes_to_be_healthy_and_the_gateway_ready(stack: Composed) -> None:
    for name in [*IMAGES, *KEPT, "prometheus"]:
        assert inspect(stack.container(name))["State"]["Health"]["Status"] == "healthy", name
        assert inspect(stack.container(name))["RestartCount"] == 0, name
    until(lambda: answers(f"{stack.url}/readyz"), 30, "the gateway is ready")
    assert answers(f"http://127.0.0.1:{stack.env['HTTP_PORT']}/healthz"), "the published port"


@pytest.mark.parametrize("operation", ASKED)
def test_each_operation_is_performed_through_the_gateways_container(stack: Composed, operation: str) -> None:
    with stack.client() as http:
        answer = ask(http, operation)
        assert answer.status_code == 200, answer.text
        if operation == "caption":
            assert "circle" in answer.json()["data"]["caption"]
        else:
            with Image.open(io.BytesIO(answer.content)) as picture:
                picture.load()
                assert min(picture.size) >= 64


def test_the_operations_asked_here_are_all_that_there_are(stack: Composed) -> None:
    with stack.client() as http:
        told = {one["name"] for one in http.get("/v1/operations").json()["operations"]}
    assert told == set(ASKED)


def test_a_job_is_done_and_its_picture_lies_in_the_object_store(stack: Composed) -> None:
    with stack.client() as http:
        kept = http.post("/v1/assets", content=photo(), headers={"content-type": "image/jpeg"}).json()["id"]
        submitted = http.post(
            "/v1/jobs", json={"operation": "remove-background", "params": {"image": f"asset:{kept}"}}
        )
        assert submitted.status_code == 202, submitted.text
        where = submitted.headers["location"]
        until(lambda: http.get(where).json()["state"] in ("succeeded", "failed"), 120, "the job ends")
        job = http.get(where).json()
        assert job["state"] == "succeeded", job
        made = job["pictures"][0]
        with Image.open(io.BytesIO(http.get(made["url"]).content)) as picture:
            assert picture.mode == "RGBA"
    store = f"http://{stack.address('minio', 'state')}:9000"
    listed = httpx.get(f"{store}/darkroom", params={"list-type": "2", "prefix": "pictures/"}, timeout=30).text
    assert made["id"] in listed
    assert kept in listed


def test_without_a_key_nothing_is_performed(stack: Composed) -> None:
    assert httpx.post(f"{stack.url}/v1/remove-background", files={"image": photo()}).status_code == 401


def test_metrics_are_on_their_own_port_and_prometheus_reads_every_process(stack: Composed) -> None:
    assert httpx.get(f"{stack.url}/metrics").status_code == 404
    told = httpx.get(f"http://{stack.address('gateway', 'watch')}:9464/metrics", timeout=30).text
    assert "darkroom_" in told
    prometheus = f"http://127.0.0.1:{stack.env['PROMETHEUS_PORT']}"

    def up() -> bool:
        found = httpx.get(f"{prometheus}/api/v1/query", params={"query": "up"}, timeout=30).json()
        by_job: dict[str, list[str]] = {}
        for one in found["data"]["result"]:
            by_job.setdefault(one["metric"]["job"], []).append(one["value"][1])
        expected = {"darkroom-gateway": 1, "darkroom-services": 5, "darkroom-tf-serving": 1}
        return by_job == {job: ["1"] * count for job, count in expected.items()}

    until(up, 120, "Prometheus reads all seven")
    service = httpx.get(f"http://{stack.address('rmbg', 'services')}:3000/metrics", timeout=30).text
    assert "darkroom_service_requests_total" in service


def test_a_service_is_scaled_and_the_gateway_finds_each_of_its_processes(stack: Composed) -> None:
    metrics = f"http://{stack.address('gateway', 'watch')}:9464/metrics"

    def known() -> str:
        told = httpx.get(metrics, timeout=30).text
        return re.findall(r'^darkroom_upstream_endpoints\{service="cleanup"\} (\S+)$', told, re.MULTILINE)[0]

    assert known() == "1.0"
    try:
        stack.compose("up", "--detach", "--wait", "--no-recreate", "--scale", "cleanup=2", "cleanup")
        until(lambda: known() == "2.0", 60, "the gateway knows of two")
        with stack.client() as http:
            assert ask(http, "cleanup").status_code == 200
    finally:
        stack.compose("up", "--detach", "--wait", "--no-recreate", "--scale", "cleanup=1", "cleanup")
    until(lambda: known() == "1.0", 60, "the gateway knows of one")
    with stack.client() as http:
        assert ask(http, "cleanup").status_code == 200


# ── how it is held in ───────────────────────────────────────────────────────────────────────────────────────────────


def inside(stack: Composed, service: str, code: str) -> str:
    return docker("exec", stack.container(service), "python3", "-c", code)


@pytest.mark.parametrize("name", IMAGES)
def test_a_process_is_nobody_special_and_can_write_nowhere_but_where_it_may(
    stack: Composed, name: str
) -> None:
    status = inside(stack, name, "print(open('/proc/1/status').read())")
    told = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert told["Uid"].split() == ["10001"] * 4
    assert told["Gid"].split() == ["10001"] * 4
    assert {told[kind] for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert told["NoNewPrivs"] == "1"
    tried = inside(
        stack,
        name,
        """
import os
from pathlib import Path
written = []
for folder, _, _ in os.walk("/"):
    if folder.startswith(("/proc", "/sys", "/dev")):
        continue
    try:
        Path(folder, "tried").write_text("x")
        Path(folder, "tried").unlink()
        written.append(folder)
    except OSError:
        pass
print(*sorted({"/" + folder.split("/")[1] for folder in written}))
""",
    )
    assert set(tried.split()) == ({"/tmp", "/var"} if name == "gateway" else {"/tmp"})


REACH = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)
    print("reached")
except OSError:
    print("not reached")
"""


def reaches(stack: Composed, service: str, host: str, port: int) -> bool:
    said = docker("exec", stack.container(service), "python3", "-c", REACH, host, str(port))
    assert said in ("reached", "not reached")
    return said == "reached"


def test_a_service_reaches_neither_what_the_gateway_keeps_nor_the_outside(stack: Composed) -> None:
    kept = [("postgres", 5432), (stack.address("postgres", "state"), 5432), ("redis", 6379)]
    # an address that the gateway reaches: this machine's nameserver, where it is another machine
    told = re.findall(r"^nameserver (\S+)", Path("/etc/resolv.conf").read_text(), re.MULTILINE)
    outside = [(host, 53) for host in told if reaches(stack, "gateway", host, 53)]
    for host, port in kept:
        assert reaches(stack, "gateway", host, port)
    for service in ("rmbg", "pix2pix"):
        for host, port in kept + outside:
            assert not reaches(stack, service, host, port), (
                f"{service} reaches {host}:{port}. An engine without iptables keeps no networks apart."
            )
    networks = {
        name: docker("network", "inspect", f"{stack.project}_{name}") for name in ("services", "state")
    }
    assert all(json.loads(network)[0]["Internal"] for network in networks.values())


# ── what is in them ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_gateways_image_is_small_and_has_no_tensors() -> None:
    assert inspect(image("gateway"))["Size"] < MOST
    listed = docker("run", "--rm", "--entrypoint", "python3", image("gateway"), "-c", LIST)
    have = {line.split("==")[0].lower() for line in listed.splitlines()}
    assert not have & {"torch", "tensorflow", "numpy", "bentoml", "onnxruntime", "opencv-python-headless"}
    assert {"fastapi", "grpcio", "darkroom"} <= have


LIST = """
from importlib.metadata import distributions
for one in distributions():
    print(one.metadata["Name"] + "==" + one.version)
"""
TOOLS = """
import os
tools = {"gcc", "cc", "g++", "ld", "make", "pip", "pip3", "uv", "git", "curl", "pip.conf"}
for at, _, names in os.walk("/"):
    if not at.startswith(("/proc", "/sys")):
        print(*[os.path.join(at, name) for name in names if name in tools], end="")
"""


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_has_nothing_that_builds_and_lists_what_it_has(name: str) -> None:
    assert docker("run", "--rm", "--entrypoint", "python3", image(name), "-c", TOOLS) == ""
    sbom = json.loads(docker("run", "--rm", "--entrypoint", "cat", image(name), "/sbom/python.cdx.json"))
    assert sbom["bomFormat"] == "CycloneDX"
    listed = {f"{one['name']}=={one['version']}".lower() for one in sbom["components"]}
    have = docker("run", "--rm", "--entrypoint", "python3", image(name), "-c", LIST).lower().splitlines()
    assert {one for one in have if not one.startswith("darkroom==")} <= listed


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_tells_no_secret_and_names_its_version(name: str) -> None:
    told = inspect(image(name))["Config"]
    assert told["User"] == "10001:10001"
    assert told["Labels"]["org.opencontainers.image.version"]
    history = docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", image(name))
    known = [
        value
        for key, value in os.environ.items()
        if key.endswith(("KEY", "TOKEN", "PASSWORD")) and len(value) > 8
    ]
    for secret in [*known, "BEGIN CERTIFICATE", "PRIVATE KEY", "find-links", "index-url"]:
        assert secret not in history
        assert secret not in json.dumps(told)
    assert Path("/run/secrets").as_posix() not in docker(
        "run", "--rm", "--entrypoint", "python3", image(name), "-c", "import os; print(*os.listdir('/run'))"
    )


def test_bake_says_what_it_would_build() -> None:
    plan = json.loads(
        docker(
            "buildx",
            "bake",
            "--file",
            str(ROOT / "docker" / "bake.hcl"),
            "--print",
            "cpu",
            "gpu",
            "tf-serving",
            "release",
        )
    )
    targets = plan["target"]
    assert {*IMAGES, "tf-serving", "diffusion-cuda", "gateway-release", "diffusion-cuda-release"} <= set(
        targets
    )
    assert targets["gateway-release"]["platforms"] == ["linux/amd64", "linux/arm64"]
    assert targets["gateway-release"]["attest"] == ["type=sbom", "type=provenance,mode=max"]
    assert targets["diffusion-cuda"]["args"].get("TORCH_INDEX", "") == ""
    assert targets["rmbg-cuda"]["args"]["ONNXRUNTIME"].startswith("onnxruntime-gpu")


def test_compose_takes_the_file_for_gpus() -> None:
    files = [str(ROOT / "docker" / name) for name in ("compose.yaml", "compose.gpu.yaml")]
    secrets = dict.fromkeys(("ADMIN_KEY", "SECRET", "GRAFANA_PASSWORD"), "drawn")
    secrets |= {f"{name}_PASSWORD": "drawn" for name in ("POSTGRES", "REDIS", "MINIO")}
    told = json.loads(Composed("darkroom-gpu", files, secrets).compose("config", "--format", "json"))[
        "services"
    ]
    for name in ("diffusion", "caption", "rmbg", "cleanup"):
        assert told[name]["image"].endswith("-cuda")
        assert told[name]["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]


def test_tf_servings_image_reads_its_configuration_and_tells_its_health() -> None:
    """On a stand-in for the official server: tests/images/stand_ins/tf_serving."""
    container = docker(
        *("run", "--detach", "--network", "none", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"),
        *("--volume", f"{ROOT}/tf_serving/models:/models:ro", "darkroom-test/tf-serving"),
    )
    try:
        until(lambda: inspect(container)["State"]["Health"]["Status"] == "healthy", 120, "it is healthy")
        said = docker("exec", container, "bash", "-c", ASK_TF_SERVING)
        assert json.loads(said[said.index("{") :])["model_version_status"][0]["state"] == "AVAILABLE"
        assert inspect(container)["Config"]["User"] == "10001:10001"
        docker("stop", container)
        assert inspect(container)["State"]["ExitCode"] == 0
    finally:
        docker("rm", "--force", container)


ASK_TF_SERVING = (
    "exec 3<>/dev/tcp/127.0.0.1/8501; "
    r"printf 'GET /v1/models/creatures/labels/stable HTTP/1.0\r\n\r\n' >&3; cat <&3"
)


# ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", IMAGES)
def test_a_container_that_is_told_to_stop_ends_with_0_in_time(stack: Composed, name: str) -> None:
    container = stack.container(name)
    began = time.monotonic()
    docker("stop", "--time", "50", container)
    state = inspect(container)["State"]
    try:
        assert (state["ExitCode"], state["OOMKilled"]) == (0, False)
        assert time.monotonic() - began < 30
    finally:
        docker("start", container)
        until(lambda: inspect(container)["State"]["Health"]["Status"] == "healthy", 240, f"{name} is back")
