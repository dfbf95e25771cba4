"""What the values may be: what is not understood is refused with a sentence that names it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml

from gateway.settings import Settings
from helm.schema import OF_THE_CHART
from helm.write import PAGE, SCHEMA, page_text, schema_text
from services.settings import CleanupSettings, DiffusionSettings, NetSettings, ServiceSettings

CHART = Path(__file__).parents[2] / "helm" / "darkroom"
STATE = "database: {trial: true}\nredis: {trial: true}\n"

# values, and words of the sentence that refuses them
REFUSED = {
    "a typo at the top": ("gatway: {}", ["additional properties 'gatway' not allowed"]),
    "a typo below": ("gateway: {replcas: 2}", ["at '/gateway'", "'replcas' not allowed"]),
    "a typo in a service": ("services: {rmbg: {imag: {}}}", ["at '/services/rmbg'", "'imag' not allowed"]),
    "a typo in a canary": ("services: {rmbg: {canary: {wieght: 0.1}}}", ["/services/rmbg/canary", "'wieght'"]),
    "a typo in a default": ("serviceDefaults: {gpu: {cout: 1}}", ["/serviceDefaults/gpu", "'cout'"]),
    "a setting that is none": ("gateway: {settings: {dead_line: 3}}", ["/gateway/settings", "'dead_line'"]),
    "a setting of the wrong type": ("gateway: {settings: {rate: fast}}", ["/gateway/settings/rate", "want number"]),
    "a setting out of its bounds": ("gateway: {settings: {max_body: 1}}", ["/gateway/settings/max_body", "want 1,024"]),
    "a setting that the chart makes": ("gateway: {settings: {host: 127.0.0.1}}", ["/gateway/settings", "'host'"]),
    "a service's setting that is none": ("services: {rmbg: {settings: {colour: red}}}", ["'colour' not allowed"]),
    "a choice that is none": ("services: {rmbg: {autoscaling: {kind: vpa}}}", ["autoscaling/kind", "'hpa'", "'keda'"]),
    "a name that the chart needs": ("services: {gateway: {enabled: true}}", ["invalid propertyName 'gateway'"]),
    "a name that is no name": ("services: {My_Service: {image: {repository: x}}}", ["'My_Service' does not match"]),
    "a quantity that is none": ("gateway: {persistence: {size: big}}", ["/gateway/persistence/size"]),
    "a resource that is none": ("gpu: {resource: gpu}", ["/gpu/resource", "does not match"]),
    "a digest that is none": ("gateway: {image: {digest: latest}}", ["/gateway/image/digest"]),
    "a weight above all": ("services: {rmbg: {canary: {weight: 10}}}", ["canary/weight", "maximum"]),
    "a canary without its share": ("services: {rmbg: {canary: {replicas: 2}}}", ["'weight' required"]),
    "a secret among a store's options": ("storage: {options: {secret_access_key: x}}", ["'secret_access_key'"]),
    "two gateways with nothing": ("gateway: {replicas: 2}", ["/gateway/replicas", "/database", "/redis", "/storage"]),
    "scaled gateways with nothing": ("gateway: {autoscaling: {enabled: true}}", ["/gateway/autoscaling", "/database"]),
    "two gateways without a store": (f"{STATE}gateway: {{replicas: 2}}", ["/gateway/replicas", "/storage/url"]),
    "a database twice": ("database: {trial: true, existingSecret: x}", ["database: choose one", "Unset the other"]),
    "a Redis twice": ("redis: {trial: true, existingSecret: x}", ["redis: choose one"]),
    "a store twice": ("storage: {trial: true, url: 's3://b'}", ["storage: choose one", "storage.url"]),
    "keys of no store": ("storage: {existingSecret: x}", ["set storage.url"]),
    "too short a grace": ("services: {rmbg: {drain: {grace: 20}}}", ["services.rmbg: drain.grace is 20", "need 75"]),
    "too short a grace of the gateway": ("gateway: {drain: {grace: 30}}", ["gateway: drain.grace is 30", "need 50"]),
    "models without a place": ("services: {rmbg: {models: [birefnet]}}", ["birefnet", "models.cache.kind"]),
    "a service performed twice": ("services: {sdxl: {enabled: true}}", ["sdxl is performed by controlnet and by sdxl"]),
    "a service without an image": ("services: {toy: {}}", ["services.toy.image.repository"]),
    "TensorFlow Serving for another": ("services: {toy: {kind: tensorflow-serving, image: {repository: x}}}",
                                       ["services.toy.kind", "pix2pix alone"]),
    "keda without Prometheus": ("services: {rmbg: {autoscaling: {kind: keda}}}", ["set keda.prometheus"]),
    "hpa from nothing": ("services: {rmbg: {autoscaling: {kind: hpa, min: 0}}}", ["only keda scales to zero"]),
    "least above most": ("services: {rmbg: {autoscaling: {kind: hpa, min: 5}}}", ["min is above max"]),
    "an IOPaint that is not there": ("services: {cleanup: {iopaint: painter}}", ['"painter" of the kind iopaint']),
    "an image volume without an image": ("models: {cache: {kind: image}}", ["models.cache.image.reference"]),
    "an Ingress without a host": ("gateway: {ingress: {enabled: true}}", ["gateway.ingress.hosts"]),
    "a route without a Gateway": ("gateway: {httpRoute: {enabled: true}}", ["gateway.httpRoute.parentRefs"]),
    "a route to a closed door": ("gateway: {grpc: false, grpcRoutes: {grpc: {enabled: true, parentRefs: [{name: x}]}}}",
                                 ["gateway.grpc closes"]),
    "nothing at all": ("services: {rmbg: null, cleanup: null, portrait: null, caption: null, controlnet: null, "
                       "sdxl: null, pix2pix: null}", ["none is enabled"]),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_it_is_refused_with_a_sentence_that_names_it(what: str, render: Any) -> None:
    text, words = REFUSED[what]
    with pytest.raises((helm_python.HelmValuesError, helm_python.HelmRenderError)) as refused:
        render(yaml.safe_load(text))
    for word in words:
        assert word in str(refused.value)


def test_the_schema_is_the_one_that_its_parts_make() -> None:
    assert SCHEMA.read_text() == schema_text(), "run `make chart`"


def test_the_page_has_every_value() -> None:
    assert page_text(PAGE.read_text()) == PAGE.read_text(), "run `make chart`"


def test_every_value_has_a_description() -> None:
    def look(path: str, schema: dict[str, Any]) -> None:
        for name, one in schema.get("properties", {}).items():
            assert one.get("description") or "$ref" in one, f"{path}.{name}"
            look(f"{path}.{name}", one)
        if isinstance(schema.get("additionalProperties"), dict):
            look(f"{path}.*", schema["additionalProperties"])

    schema = json.loads(SCHEMA.read_text())
    look("", schema)
    look("service", schema["definitions"]["service"])


def test_every_object_but_kubernetes_own_is_closed() -> None:
    def look(path: str, schema: dict[str, Any]) -> None:
        if "properties" in schema:
            assert schema["additionalProperties"] is False, path
        for name, one in schema.get("properties", {}).items():
            look(f"{path}.{name}", one)

    schema = json.loads(SCHEMA.read_text())
    look("", {key: value for key, value in schema.items() if key != "anyOf"})
    look("service", schema["definitions"]["service"])


def test_what_has_a_default_is_in_the_schema_and_the_other_way_round() -> None:
    """Else a value could be set that nothing reads, or read that nothing sets."""
    schema = json.loads(SCHEMA.read_text())

    def look(path: str, one: dict[str, Any], values: Any) -> None:
        one = schema["definitions"][one["$ref"].rpartition("/")[2]] if "$ref" in one else one
        if values and "properties" in one:
            assert set(one["properties"]) ^ set(values) <= {"global", "spare"}, path
            for name, value in values.items():
                look(f"{path}.{name}", one["properties"][name], value)

    # a service may answer for itself whether there is a spare GPU; by default it does not
    look("", schema, yaml.safe_load((CHART / "values.yaml").read_text()))


def test_every_setting_of_the_gateway_and_the_services_can_be_set() -> None:
    schema = json.loads(SCHEMA.read_text())
    gateway = schema["properties"]["gateway"]["properties"]["settings"]["properties"]
    assert set(gateway) == set(Settings.model_fields) - OF_THE_CHART
    service = schema["definitions"]["service"]["properties"]["settings"]["properties"]
    kinds = (ServiceSettings, DiffusionSettings, CleanupSettings, NetSettings)
    assert set(service) == {name for kind in kinds for name in kind.model_fields} - OF_THE_CHART


def test_no_value_is_a_secret() -> None:
    text = (CHART / "values.yaml").read_text()
    for word in ("password:", "token:", "dk_", "postgresql://", "redis://"):
        assert word not in text
