"""The schema of the chart's whole values.yaml, made of the parts in schema.py."""

from __future__ import annotations

from gateway.settings import Settings
from helm.schema import (
    BEHAVIOR,
    CANARY,
    DRAIN,
    IMAGE,
    LABEL,
    NAME,
    PLACE,
    POD,
    QUANTITY,
    RESOURCE,
    RESOURCES,
    SERVICE,
    TAKEN,
    Schema,
    fields,
    flag,
    kubernetes,
    listing,
    mapping,
    settings,
    text,
    whole,
)

PARENTS = listing("The Gateways that it belongs to.", kubernetes("A ParentReference."))
HOSTNAMES = listing(
    "Host names that it answers to.", text("A host name.", r"^(\*\.)?[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")
)
ANNOTATIONS = mapping("Its annotations.")
PEERS = listing("NetworkPolicy peers.", kubernetes("A NetworkPolicyPeer."))
SECRET = text("The name of a Secret that exists in the namespace.", f"^$|{NAME}")
KEY = text("The key in that Secret.", r"^[A-Za-z0-9._-]+$")
STORAGE_CLASS = text("Its storage class; the cluster's own if empty.")
SIZE = text("Its size.", QUANTITY)
SERVICE_NAME: Schema = {"pattern": r"^[a-z][a-z0-9-]{0,20}[a-z0-9]$", "not": {"enum": TAKEN}}


def network(what: str) -> Schema:
    return fields(
        f"Where the NetworkPolicy finds {what}.",
        cidrs=listing("Its networks; anywhere if empty.", text("A CIDR.", r"^[0-9a-f.:]+/[0-9]+$")),
        port=whole("Its port.", 1, 65535),
    )


def route(what: str, **more: Schema) -> Schema:
    return fields(
        what,
        enabled=flag("Whether there is one."),
        annotations=ANNOTATIONS,
        parentRefs=PARENTS,
        hostnames=HOSTNAMES,
        **more,
    )


GATEWAY = fields(
    "The gateway, the only public door.",
    image=IMAGE,
    replicas=whole("Pods; more than one needs database, redis and storage.", 1),
    autoscaling=fields(
        "A HorizontalPodAutoscaler on its processor's load.",
        enabled=flag("Whether there is one."),
        min=whole("Pods at least.", 1),
        max=whole("Pods at most.", 1),
        cpu=whole("Percent of the requested processor that is aimed at.", 1, 100),
        behavior=BEHAVIOR,
    ),
    settings=settings(
        "Settings by their names in docs/settings.md without DARKROOM_, in lower case.", Settings
    ),
    otherServices=mapping(
        "Services that run elsewhere: their addresses, as DARKROOM_SERVICES has them. In a private network they need a "
        "rule in networkPolicy.gatewayEgress too.",
        listing("Addresses."),
    ),
    grpc=flag("Whether it answers gRPC, on 8081."),
    inference=flag(
        "Whether it answers other servers' gRPC (Open Inference Protocol, TensorFlow Serving), on 8082."
    ),
    startupSeconds=whole("Seconds that its start may take, migrations included.", 2),
    drain=DRAIN,
    resources=RESOURCES,
    persistence=fields(
        "Its volume, where database or storage is not given; else the size of its scratch space.",
        size=SIZE,
        storageClass=STORAGE_CLASS,
        existingClaim=text("A claim that exists.", f"^$|{NAME}"),
    ),
    service=fields(
        "Its Service: HTTP on 80, gRPC on 8081 and 8082.",
        type=text("Its type.", choices=("ClusterIP", "NodePort", "LoadBalancer")),
        annotations=ANNOTATIONS,
    ),
    tls=fields("TLS that the gateway itself speaks.", existingSecret=SECRET),
    ingress=fields(
        "An Ingress for HTTP.",
        enabled=flag("Whether there is one."),
        className=text("Its class."),
        annotations=ANNOTATIONS,
        hosts=HOSTNAMES,
        tls=listing("Its certificates, in Kubernetes' form.", kubernetes("An IngressTLS.")),
    ),
    httpRoute=route(
        "A Gateway API HTTPRoute.",
        timeout=text("The longest that a call may take, as 300s.", r"^([0-9]+(h|m|s|ms))*$"),
    ),
    grpcRoutes=fields(
        "Gateway API GRPCRoutes.",
        grpc=route("To the gateway's own gRPC."),
        inference=route("To other servers' gRPC."),
    ),
    migrate=fields("The Job that brings the database up to date.", resources=RESOURCES),
    **POD,
)


def trial(what: str) -> Schema:
    return fields(
        f"The {what} of a trial.",
        image=text("Its image, with registry and tag."),
        size=SIZE,
        storageClass=STORAGE_CLASS,
        resources=RESOURCES,
    )


DEFINITIONS: Schema = {
    "service": fields("A service, and what all services have by default.", **SERVICE, canary=CANARY)
}
PROPERTIES: Schema = {
    "global": kubernetes("Helm's own; not used."),
    "fullnameOverride": text(
        "What names begin with; the release's name if empty.", r"^([a-z][a-z0-9-]*[a-z0-9])?$"
    ),
    "commonLabels": mapping("Labels of everything.", {"type": "string", "pattern": LABEL}),
    "image": fields(
        "Darkroom's images.",
        registry=text("The registry that they come from, as ghcr.io/you."),
        tag=text("Their tag; the chart's appVersion if empty."),
        gpuSuffix=text("What the tag ends with where a service has a GPU."),
        pullPolicy=text("When they are pulled.", choices=("Always", "IfNotPresent", "Never")),
        pullSecrets=listing("Secrets for the registry.", fields("A reference.", name=text("Its name."))),
    ),
    "gateway": GATEWAY,
    "keys": fields(
        "The Secret with the first admin key and the secret that signs links.",
        existingSecret=SECRET,
        adminKey=KEY,
        secret=KEY,
    ),
    "database": fields(
        "Postgres; SQLite on the gateway's volume if neither is given.",
        existingSecret=SECRET,
        key=KEY,
        trial=flag("A small Postgres in the release."),
        network=network("Postgres"),
    ),
    "redis": fields(
        "Redis; the gateway's memory if neither is given.",
        existingSecret=SECRET,
        key=KEY,
        trial=flag("A small Redis in the release."),
        network=network("Redis"),
    ),
    "storage": fields(
        "The store of pictures; the gateway's volume if neither is given.",
        url=text("s3://bucket/prefix.", r"^([a-z0-9]+://.+)?$"),
        options=mapping(
            "obstore's options (endpoint, region ...), none of them secret.",
            names={"not": {"pattern": "(?i)(secret|token|password|access_key)"}},
        ),
        existingSecret=SECRET,
        accessKey=KEY,
        secretKey=KEY,
        trial=flag("A small MinIO in the release."),
        network=network("the store"),
    ),
    "trial": fields(
        "The small servers of a trial.",
        postgres=trial("Postgres"),
        redis=trial("Redis"),
        minio=trial("MinIO"),
    ),
    "services": mapping("The services by name.", {"$ref": "#/definitions/service"}, SERVICE_NAME),
    "serviceDefaults": {"$ref": "#/definitions/service"},
    "gpu": fields(
        "What pods with a GPU have in common.",
        resource=text("A whole GPU, a MIG slice, or a time-sliced one, by its name.", RESOURCE),
        spare=flag(
            "Whether an update may take one more GPU for a moment; if not, a pod stops before the next starts."
        ),
        nodeSelector=PLACE["nodeSelector"],
        tolerations=PLACE["tolerations"],
        runtimeClassName=text("Their runtime class, as `nvidia`."),
    ),
    "models": fields(
        "Models that are fetched, and where they lie.",
        cache=fields(
            "The models' folder.",
            kind=text(
                "none; claim: a volume that all share, filled by a Job; emptyDir: each pod fills its own; hostPath: a "
                "folder on each node; image: an OCI image with the models (Kubernetes 1.31).",
                choices=("none", "claim", "emptyDir", "hostPath", "image"),
            ),
            claim=fields(
                "For claim: ReadWriteMany.",
                existing=text("A claim that exists.", f"^$|{NAME}"),
                storageClass=STORAGE_CLASS,
                size=SIZE,
            ),
            hostPath=text("For hostPath: the folder, which must exist and belong to user 10001.", "^/"),
            sizeLimit=text("For emptyDir: its size at most.", QUANTITY),
            image=fields(
                "For image.",
                reference=text("The image."),
                pullPolicy=text("When it is pulled.", choices=("Always", "IfNotPresent", "Never")),
            ),
        ),
        hub=fields(
            "Where `darkroom models pull` fetches from.",
            url=text("Its address, or a mirror's.", r"^(https?://.+)?$"),
            existingSecret=SECRET,
            key=KEY,
            egress=listing(
                "More NetworkPolicy egress rules for the Job, as to a mirror inside.", kubernetes("A rule.")
            ),
        ),
        resources=RESOURCES,
        **PLACE,
    ),
    "securityContext": fields(
        "Who the pods run as.",
        fixedIds=flag("User and group 10001; false lets the platform choose, as OpenShift does."),
    ),
    "networkPolicy": fields(
        "NetworkPolicies: nothing may reach anything, but for the ways that Darkroom has.",
        enabled=flag("Whether there are any."),
        clients=listing("Who may reach the gateway; everybody if empty.", kubernetes("A NetworkPolicyPeer.")),
        internet=flag(
            "Whether the gateway may reach the public internet, for webhooks and pictures by address."
        ),
        gatewayEgress=listing("More egress rules of the gateway.", kubernetes("A rule.")),
        dns=fields(
            "The cluster's DNS.", peers=PEERS, ports=listing("Its ports.", whole("A port.", 1, 65535))
        ),
        privateV4=listing("IPv4 networks that are not the internet."),
        privateV6=listing("IPv6 networks that are not the internet."),
    ),
    "monitoring": fields(
        "For the Prometheus operator.",
        enabled=flag("Whether there are monitors, alerts and dashboards."),
        labels=mapping("Labels by which your Prometheus finds them."),
        interval=text("Between two scrapes.", r"^[0-9]+(ms|s|m)$"),
        rules=flag("Whether there are alerts."),
        clusterRules=flag("Also those on the metrics of kube-state-metrics, cAdvisor and DCGM."),
        dashboards=fields(
            "Grafana's dashboards as ConfigMaps.",
            enabled=flag("Whether there are any."),
            labels=mapping("Labels by which Grafana's sidecar finds them."),
        ),
        peers=PEERS | {"description": "Who scrapes, for the NetworkPolicies."},
    ),
    "keda": fields(
        "For services that keda scales.",
        prometheus=text("Prometheus' address.", r"^(https?://.+)?$"),
        authenticationRef=text("A TriggerAuthentication for it."),
    ),
    "telemetry": fields(
        "Traces.",
        endpoint=text("An OpenTelemetry collector, OTLP over HTTP; none if empty.", r"^(https?://.+)?$"),
        port=whole("Its port, for the NetworkPolicies.", 1, 65535),
        peers=PEERS,
    ),
    "test": fields(
        "What `helm test` runs.", seconds=whole("How long it waits for the gateway.", 1), resources=RESOURCES
    ),
}


def one_gateway_or_shared_state() -> Schema:
    """More than one gateway is refused without what they share."""
    fixed = {"autoscaling": {"properties": {"enabled": {"const": False}}}, "replicas": {"maximum": 1}}
    scaled = {"autoscaling": {"properties": {"enabled": {"const": True}, "max": {"maximum": 1}}}}
    one = {"properties": {"gateway": {"anyOf": [{"properties": fixed}, {"properties": scaled}]}}}
    named = {"database": "existingSecret", "redis": "existingSecret", "storage": "url"}
    shared = {
        what: {
            "anyOf": [{"properties": {"trial": {"const": True}}}, {"properties": {field: {"minLength": 1}}}]
        }
        for what, field in named.items()
    }
    return {"anyOf": [one, {"properties": shared}]}


def whole_schema() -> Schema:
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the chart darkroom",
        "description": "Written by `make chart` from helm/schema.py and helm/values.py.",
        "type": "object",
        "additionalProperties": False,
        "definitions": DEFINITIONS,
        "properties": PROPERTIES,
        "allOf": [one_gateway_or_shared_state()],
    }
