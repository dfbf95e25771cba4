"""The process: it starts soon and without TensorFlow, batches give what one picture alone gives, and it ends
when it should."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.tf_serving.running import Running, asked, environment, in_threads, png, put_version
from tf_serving.server import Flags, serving
from tf_serving.stubs.services import PREDICTION, Stub

RED = png((255, 0, 0))
Start = Callable[..., Running]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    put_version(tmp_path / "toy" / "1")
    return tmp_path / "toy"


def test_without_a_saved_model_tensorflow_is_not_imported(start: Start, model: Path) -> None:
    server = start("--model_name=toy", f"--model_base_path={model}")
    server.predict(asked(RED))
    maps = Path(f"/proc/{server.process.pid}/maps")
    if not maps.exists():
        pytest.skip("This system shows no /proc")
    assert "tensorflow" not in maps.read_text().lower().replace("tensorflow-lite", "")


def test_batched_pictures_are_what_each_is_alone(start: Start, model: Path, tmp_path: Path) -> None:
    (tmp_path / "batching.config").write_text(
        "max_batch_size { value: 8 } batch_timeout_micros { value: 50000 } num_batch_threads { value: 1 }"
    )
    (tmp_path / "monitoring.config").write_text("prometheus_config { enable: true path: '/metrics' }")
    server = start(
        "--model_name=toy",
        f"--model_base_path={model}",
        "--enable_batching",
        f"--batching_parameters_file={tmp_path / 'batching.config'}",
        f"--monitoring_config_file={tmp_path / 'monitoring.config'}",
    )
    sketches = [png((40 * n, 255 - 30 * n, 9 * n), (20 + 7 * n, 30)) for n in range(6)]
    alone = [server.predict(asked(sketch)).outputs["image_bytes"].string_val[0] for sketch in sketches]
    runs = _runs(server)
    with in_threads(*[lambda sketch=sketch: server.predict(asked(sketch)) for sketch in sketches]) as answers:
        pass
    assert [answer.outputs["image_bytes"].string_val[0] for answer in answers] == alone
    assert _runs(server) - runs < len(sketches)
    request = asked(RED, signature="picture")
    request.inputs["image_bytes"].tensor_shape.Clear()
    assert server.refused(request) == (
        "INVALID_ARGUMENT",
        "Batching Run() input tensors must have at least one dimension",
    )


def _runs(server: Running) -> int:
    page = server.rest.get("/metrics").text
    name = ":tensorflow:serving:batching_session:wrapped_run_count{} "
    return int(page.split(name)[1].split("\n")[0])


def test_one_bad_picture_in_a_batch_harms_no_other(start: Start, model: Path) -> None:
    server = start("--model_name=toy", f"--model_base_path={model}", "--enable_batching")
    requests = [asked(RED), asked(b"Not a picture."), asked(RED)] * 4
    with in_threads(*[lambda request=request: server.predict(request) for request in requests]) as answers:
        pass
    good = [answer for answer in answers if not isinstance(answer, Exception)]
    assert len(good) == 8


def test_sigterm_lets_what_is_under_way_finish(start: Start, model: Path) -> None:
    server = start("--model_name=toy", f"--model_base_path={model}")
    many = asked(*[png(size=(400, 400))] * 20)
    with in_threads(lambda: server.predict(many, timeout=60)) as answers:
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
    assert len(answers[0].outputs["image_bytes"].string_val) == 20
    assert server.process.wait(15) == 0


def test_it_ends_with_the_process_that_started_it(model: Path) -> None:
    """A parent that is killed tells nobody; its server finds out."""
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent(f"""
                import subprocess, sys, time
                child = subprocess.Popen([sys.executable, "-m", "tf_serving.server", "--port=0", "--end_with_parent",
                    "--model_name=toy", "--model_base_path={model}"], stderr=subprocess.PIPE, text=True)
                for line in child.stderr:
                    if "Serving: " in line:
                        print(child.pid, flush=True)
                        break
                time.sleep(60)
            """),
        ],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert parent.stdout is not None
    server = psutil.Process(int(parent.stdout.readline()))
    assert server.is_running()
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait(10)
    parent.stdout.close()
    gone, _ = psutil.wait_procs([server], timeout=15)
    assert gone


def test_a_port_that_is_taken_is_said(start: Start, model: Path, tmp_path: Path) -> None:
    server = start("--model_name=toy", f"--model_base_path={model}")
    port = server.address.rpartition(":")[2]
    done = subprocess.run(
        [sys.executable, "-m", "tf_serving.server", f"--port={port}", f"--model_base_path={model}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment(),
    )
    assert done.returncode == 1 and f"Cannot listen on 127.0.0.1:{port}" in done.stderr


def test_a_configuration_that_cannot_be_read_ends_the_start(tmp_path: Path) -> None:
    (tmp_path / "models.config").write_text("model_config_list {")
    with pytest.raises(AssertionError, match="Invalid protobuf file"):
        Running(f"--model_config_file={tmp_path / 'models.config'}", tmp=tmp_path)


@pytest.mark.anyio
async def test_a_program_starts_one_on_free_ports(model: Path) -> None:
    import grpc

    async with serving(
        Flags(port=0, rest_api_port=0, model_name="toy", model_base_path=str(model))
    ) as server:
        assert server.port and server.rest_port
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            answer = await Stub(channel, PREDICTION).Predict(asked(RED), timeout=10)
        assert answer.outputs["image_bytes"].string_val
        assert any("toy: version 1" in line for line in server.words())
