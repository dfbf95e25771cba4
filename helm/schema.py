"""What the chart's values may be, as JSON Schema (draft 7): each with a sentence, everything unknown refused.

The settings of gateway and services are those of their own classes, so that the chart knows each by name and type.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from services.settings import CleanupSettings, DiffusionSettings, NetSettings, ServiceSettings

Schema = dict[str, Any]

# what the chart itself sets, from its other values
_SET = """
host port grpc_port inference_port data metrics_port tls_cert tls_key database_url redis_url storage_url storage_options
replicas secret admin_key services apart migrate drain drain_lead pix2pix_rest pix2pix_config otlp_endpoint models_path
iopaint_url
"""
OF_THE_CHART = set(_SET.split())
# names that the chart's own parts have beside the services
_TAKEN = """
gateway gateway-metrics postgres redis minio models migrate test keys trial data deny dns services network
tensorflow-serving
"""
TAKEN = _TAKEN.split()
LABEL = r"^([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?$"
QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$"
NAME = r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$"
RESOURCE = r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$"


def text(what: str, pattern: str = "", choices: tuple[str, ...] = ()) -> Schema:
    made: Schema = {"type": "string", "description": what}
    return made | ({"pattern": pattern} if pattern else {}) | ({"enum": list(choices)} if choices else {})


def whole(what: str, least: int = 0, most: int | None = None) -> Schema:
    made = {"type": "integer", "minimum": least, "description": what}
    return made | ({"maximum": most} if most is not None else {})


def flag(what: str) -> Schema:
    return {"type": "boolean", "description": what}


def listing(what: str, items: Schema | None = None) -> Schema:
    return {"type": "array", "description": what, "items": items or {"type": "string", "minLength": 1}}


def fields(what: str, **properties: Schema) -> Schema:
    return {"type": "object", "description": what, "additionalProperties": False, "properties": properties}


def mapping(what: str, values: Schema | None = None, names: Schema | None = None) -> Schema:
    made: Schema = {
        "type": "object",
        "description": what,
        "additionalProperties": values or {"type": "string"},
    }
    return made | ({"propertyNames": names} if names else {})


def kubernetes(what: str) -> Schema:
    """An object of Kubernetes' own, whose fields its API checks."""
    return {"type": "object", "description": what}


def settings(what: str, *classes: type[BaseModel]) -> Schema:
    """One property a setting, by its name in docs/settings.md in lower case."""
    found: Schema = {}
    for kind in classes:
        for name, told in kind.model_json_schema()["properties"].items():
            if name not in OF_THE_CHART:
                found[name] = _property(told)
    return fields(what, **dict(sorted(found.items())))


def _property(told: Schema) -> Schema:
    if "anyOf" in told:
        (kind,) = (one for one in told["anyOf"] if one.get("type") != "null")
        told = told | kind
    kept = (
        "type",
        "description",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "pattern",
        "enum",
        "items",
        "minItems",
    )
    return {name: told[name] for name in kept if name in told}


QUANTITIES = {"anyOf": [{"type": "string", "pattern": QUANTITY}, {"type": "number", "minimum": 0}]}
RESOURCES = fields(
    "Requests and limits of the container.",
    requests=mapping("What it is sure to get.", QUANTITIES),
    limits=mapping("What it may take at most.", QUANTITIES),
)
IMAGE = fields(
    "The image; one of Darkroom's own needs no tag.",
    registry=text("Another registry than image.registry."),
    repository=text("Its name in the registry."),
    tag=text("Its tag; image.tag if empty."),
    digest=text("Its digest, in place of a tag.", r"^(sha256:[0-9a-f]{64})?$"),
    pullPolicy=text("Another policy than image.pullPolicy.", choices=("", "Always", "IfNotPresent", "Never")),
)
DRAIN = fields(
    "How a pod ends without losing anything.",
    preStop=whole(
        "Seconds between the announcement of its end, at which it leaves its Services, and SIGTERM."
    ),
    lead=whole(
        "Seconds that it takes calls after SIGTERM, saying that it is draining (DARKROOM_DRAIN_LEAD)."
    ),
    seconds=whole("Seconds that work in flight may take after that (DARKROOM_DRAIN)."),
    step=whole("Seconds of the longest step that cannot be interrupted."),
    grace=whole("Seconds until it is killed; 0: the sum of these and 5. Less than the sum is refused."),
)
PLACE: Schema = {
    "nodeSelector": mapping("Labels of the nodes that it may run on."),
    "tolerations": listing("Taints that it tolerates.", kubernetes("A toleration.")),
    "affinity": kubernetes("Kubernetes' affinity."),
    "priorityClassName": text("Its priority class."),
}
SPREAD: Schema = {
    "topologySpread": listing(
        "Topology spread constraints; the selector of its own pods is added.", kubernetes("A constraint.")
    ),
    "runtimeClassName": text("Its runtime class, as `nvidia`."),
}
POD: Schema = {
    "tmpSize": text("Size of /tmp, the only folder that it may write to.", QUANTITY),
    "serviceAccount": fields("Its ServiceAccount.", annotations=mapping("As for a cloud's identity.")),
    "podLabels": mapping("More labels of its pods."),
    "podAnnotations": mapping("Annotations of its pods."),
    "env": listing("More environment variables, in Kubernetes' form.", kubernetes("An EnvVar.")),
    "volumes": listing("More volumes, in Kubernetes' form.", kubernetes("A Volume.")),
    "volumeMounts": listing("Where those are mounted.", kubernetes("A VolumeMount.")),
    **PLACE,
    **SPREAD,
}
BEHAVIOR = kubernetes("Kubernetes' behavior of the HorizontalPodAutoscaler: how quickly up and down.")
MODELS = listing(
    "Models that `darkroom models pull` fetches.",
    {"type": "string", "pattern": r"^[A-Za-z0-9][A-Za-z0-9._/-]*$"},
)
SERVICE_SETTINGS = settings(
    "Settings of the service, by their names in docs/settings.md without DARKROOM_, in lower case.",
    ServiceSettings,
    DiffusionSettings,
    CleanupSettings,
    NetSettings,
)

TENSORFLOW_SERVING = fields(
    "For the kind tensorflow-serving: its configuration; without models the image's own is served.",
    models=mapping(
        "Models by name.",
        fields(
            "One model.",
            basePath=text("The folder with its version folders, as /models/creatures.", "^/"),
            versions=listing("The versions that are served; the newest if empty.", whole("A version.", 1)),
            labels=mapping(
                "Version labels, as stable: 1.",
                whole("A version.", 1),
                {"pattern": "^[A-Za-z][A-Za-z0-9_.-]{0,63}$"},
            ),
        )
        | {"required": ["basePath"]},
    ),
    batching=fields(
        "How requests are put together.",
        maxBatchSize=whole("Rows of a batch.", 1),
        timeoutMicros=whole("How long the first row waits for others."),
        maxEnqueued=whole("Batches that may wait.", 1),
        threads=whole("Batches at the same time; 0: one a core."),
    ),
)

SERVICE: Schema = {
    "enabled": flag("Whether it is part of the release."),
    "kind": text(
        "Which server it is: one of Darkroom's services, TensorFlow Serving (pix2pix), or an IOPaint server.",
        choices=("darkroom", "tensorflow-serving", "iopaint"),
    ),
    "image": IMAGE,
    "replicas": whole("Pods, where nothing scales them."),
    "also": listing(
        "Other services that the same pods perform.", {"type": "string", "pattern": r"^[a-z][a-z0-9-]*$"}
    ),
    "models": MODELS,
    "settings": SERVICE_SETTINGS,
    "args": listing("Arguments of the image's entry point."),
    "gpu": fields(
        "Its GPUs.",
        count=whole("How many; 0: it runs on processors."),
        resource=text("Another resource than gpu.resource, as nvidia.com/mig-1g.10gb.", f"^$|{RESOURCE}"),
        spare=flag("Another answer than gpu.spare."),
    ),
    "resources": RESOURCES,
    "startupSeconds": whole("Seconds that loading its models may take before it is started anew.", 5),
    "drain": DRAIN,
    "autoscaling": fields(
        "What decides how many pods there are.",
        kind=text(
            "none: replicas; hpa: the processor's load; keda: what waits and runs at the gateway.",
            choices=("none", "hpa", "keda"),
        ),
        min=whole("Pods at least; keda may go to 0."),
        max=whole("Pods at most.", 1),
        cpu=whole("hpa: percent of the requested processor that is aimed at.", 1, 100),
        perReplica=whole("keda: calls and jobs, waiting and running, that one pod is to have.", 1),
        pollingSeconds=whole("keda: seconds between two looks.", 1),
        cooldownSeconds=whole("keda: seconds of idleness before it goes to zero."),
        fallbackReplicas=whole("keda: pods while Prometheus does not answer; 0: as many as there are."),
        behavior=BEHAVIOR,
    ),
    "tensorflowServing": TENSORFLOW_SERVING,
    "iopaint": text("The entry of the kind iopaint that it asks; for cleanup.", r"^[a-z0-9-]*$"),
    "internet": flag("Whether it may reach the public internet by HTTPS."),
    **POD,
}
CANARY = fields(
    "A second track beside it: what is not said here is the service's own. Empty: none.",
    weight={
        "type": "number",
        "exclusiveMinimum": 0,
        "maximum": 1,
        "description": "Its share of the service's calls, as 0.1.",
    },
    **{
        name: SERVICE[name]
        for name in (
            "image",
            "replicas",
            "models",
            "settings",
            "args",
            "env",
            "resources",
            "gpu",
            "tensorflowServing",
            "startupSeconds",
        )
    },
) | {
    "dependencies": {
        name: ["weight"] for name in ("image", "replicas", "models", "settings", "args", "env", "resources")
    }
}
