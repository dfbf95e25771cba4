"""What `darkroom up` starts: in go settings and names, out come the specifications of the processes.

A service whose address DARKROOM_SERVICES names runs elsewhere and is not started here.
"""

from __future__ import annotations

import json
import os
import ssl
import sys
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from importlib.resources import files
from pathlib import Path
from typing import Any

from gateway.cli.console import USAGE, Stop
from gateway.cli.processes import Spec, free_port, port_taken
from gateway.local import address_of
from gateway.settings import Settings
from services.installed import installed, processes, servers

GATEWAY = "gateway"
PROBE_TIMEOUT = 2.0
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def plan(settings: Settings, only: list[str]) -> list[Spec]:
    """The gateway and its services, or just the services that were named."""
    modules = servers()
    found = [*installed(), *modules]
    unknown = [name for name in only if name not in found and name != GATEWAY]
    if unknown:
        raise Stop(
            f"There is no service {unknown[0]!r}; these exist: {', '.join(sorted(found)) or 'none'}.", USAGE
        )
    with_gateway = not only or GATEWAY in only
    names = [name for name in found if (name in only if only else name not in settings.services)]
    if with_gateway and port_taken(settings.host, settings.port):
        raise Stop(
            f"Port {settings.port} on {settings.host} is taken by another program: stop it, or choose "
            "another with DARKROOM_PORT."
        )
    here: dict[str, list[str]] = {}
    specs, rest = [], settings.pix2pix_rest
    for name, performs in processes(names, apart=settings.apart).items():
        if name in modules:
            port = free_port()
            spec = _tensorflow_serving(name, modules[name], settings, port)
            rest = rest or f"http://127.0.0.1:{port}"
        else:
            spec = _service(name, "+".join(sorted(performs)), f"http://127.0.0.1:{free_port()}", settings)
        here |= {service: [spec.address] for service in performs}
        specs.append(spec)
    if with_gateway:
        specs.insert(0, _gateway(settings, settings.services | here, rest))
    return specs


def _service(name: str, shown: str, address: str, settings: Settings) -> Spec:
    """`shown` names all services that the process performs."""
    host, _, port = address.removeprefix("http://").rpartition(":")

    def ready() -> str | None:
        status, document = get(address, "/darkroom/v1/describe")
        if status != 200:
            return "no answer yet"
        return None if document.get("ready") else str(document.get("reason") or "loading")

    command = (sys.executable, "-m", "services.serve", name, "--host", host, "--port", port)
    return Spec(shown, command, _environment(settings) | _threads(), address, ready, grace=_grace(settings))


def _tensorflow_serving(name: str, module: str, settings: Settings, rest: int) -> Spec:
    """The embedded TensorFlow Serving: gRPC for the gateway, and REST beside it, which is asked whether it is ready."""
    port, model = free_port(), settings.pix2pix_models[0]
    folder = Path(str(files("tf_serving")))
    flags: dict[str, object] = {
        "host": "127.0.0.1",
        "port": port,
        "rest_api_port": rest,
        "model_config_file": _model_config(settings, folder),
        "model_config_file_poll_wait_seconds": 2,
        "enable_batching": True,
        "batching_parameters_file": folder / "config" / "batching.config",
        "allow_version_labels_for_unavailable_models": True,  # none is available when the labels are first read
        "max_pixels": settings.max_pixels,
        "max_message_bytes": settings.max_picture_bytes + 2**20,
        "drain_seconds": int(settings.drain),
        "end_with_parent": True,
    }

    def ready() -> str | None:
        status, document = get(f"http://127.0.0.1:{rest}", f"/v1/models/{model}")
        if status == 0:
            return "no answer yet"
        versions = document.get("model_version_status", [])
        states = {str(version.get("state")) for version in versions}
        if "AVAILABLE" in states:
            return None
        faults = [version.get("status", {}).get("error_message") for version in versions]
        return next((str(fault) for fault in faults if fault), f"{model} is loading")

    command = (sys.executable, "-m", module, *(f"--{flag}={value}" for flag, value in flags.items()))
    environment = _environment(settings) | _threads()
    return Spec(name, command, environment, f"grpc://127.0.0.1:{port}", ready, grace=_grace(settings))


def _model_config(settings: Settings, folder: Path) -> Path:
    config, model = settings.pix2pix_config, settings.pix2pix_models[0]
    if config is None and not (folder / "models" / model).is_dir():
        raise Stop(
            f"The model {model!r} of DARKROOM_PIX2PIX_MODELS is no part of Darkroom: name the model_config_file that "
            "says where it is with DARKROOM_PIX2PIX_CONFIG."
        )
    if config is not None and not config.is_file():
        raise Stop(f"DARKROOM_PIX2PIX_CONFIG names {config}, which is no file.")
    return folder / "config" / "embedded.config" if config is None else config.absolute()


def _gateway(settings: Settings, services: dict[str, list[str]], rest: str) -> Spec:
    address = address_of(settings)

    def ready() -> str | None:
        status, document = get(address, f"{settings.root_path}/readyz")
        if status == 200:
            return None
        return "; ".join(document.get("reasons", [])) or "no answer yet"

    # the settings were checked here, so the child gets exactly these and reads no other
    env = _environment(settings) | {"DARKROOM_SERVICES": json.dumps(services), "DARKROOM_PIX2PIX_REST": rest}
    command = (sys.executable, "-m", "gateway")
    return Spec(GATEWAY, command, env, address, ready, grace=_grace(settings))


def _environment(settings: Settings) -> dict[str, str]:
    return os.environ | {
        "DARKROOM_HOST": settings.host,
        "DARKROOM_PORT": str(settings.port),
        "DARKROOM_DATA": str(settings.data.absolute()),
        "DARKROOM_DRAIN_LEAD": str(_lead(settings)),
        "PYTHONUNBUFFERED": "1",
    }


def _lead(settings: Settings) -> float:
    """There is one gateway and nobody else to go to, so that nobody waits for the end unless it is asked for."""
    return settings.drain_lead if "drain_lead" in settings.model_fields_set else 0.0


def _grace(settings: Settings) -> float:
    return _lead(settings) + settings.drain + 5


def _threads() -> dict[str, str]:
    """On a small machine one thread a service: two that spin for one busy core cost forty times the work."""
    share = max(1, (os.cpu_count() or 1) // 4)
    return {name: os.environ.get(name, str(share)) for name in THREADS} | {
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE")
    }


def get(address: str, path: str) -> tuple[int, dict[str, Any]]:
    """Status and JSON of a GET, 0 where nobody answers."""
    scheme, _, place = address.partition("://")
    connection: HTTPConnection
    if scheme == "https":
        # a probe of our own child on this machine, whose certificate names the public host
        connection = HTTPSConnection(place, timeout=PROBE_TIMEOUT, context=ssl._create_unverified_context())
    else:
        connection = HTTPConnection(place, timeout=PROBE_TIMEOUT)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        document = json.loads(answer.read() or b"{}")
    except ValueError:
        return answer.status, {}
    except (OSError, HTTPException):
        return 0, {}
    finally:
        connection.close()
    return answer.status, document if isinstance(document, dict) else {}
