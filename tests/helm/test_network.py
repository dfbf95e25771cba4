"""Who may reach whom: the NetworkPolicies, evaluated pod by pod and port by port, allow the design's ways alone.

clients ─> gateway ─> services        Prometheus ─> metrics      everybody ─> DNS
              └─> Postgres, Redis, store, the internet (pictures by address, webhooks)
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from itertools import product
from typing import Any

import pytest

PORTS = (53, 80, 443, 3000, 4318, 5432, 6379, 8080, 8081, 8082, 8500, 8501, 9000, 9464)
DOORS = (8080, 8081, 8082)
Way = tuple[str, str, int]


@dataclass(frozen=True)
class Party:
    """A pod by its labels and its namespace's, or an address."""

    name: str
    labels: tuple[tuple[str, str], ...] = ()
    namespace: str = ""
    ip: str = ""


def pod(name: str, namespace: str, **labels: str) -> Party:
    return Party(name, tuple(labels.items()), namespace)


OUTSIDE = (
    pod("stranger", "studio", app="other"),  # in the same namespace
    pod("elsewhere", "default", app="other"),
    pod("ingress", "ingress-nginx", app="ingress"),
    pod("prometheus", "monitoring", app="prometheus"),
    pod("collector", "observability", app="collector"),
    pod("dns", "kube-system", **{"k8s-app": "kube-dns"}),
    Party("internet", ip="93.184.216.34"),
    Party("internet6", ip="2606:2800:220:1::1"),
    Party("postgres-server", ip="10.20.3.4"),
    Party("store-server", ip="10.30.0.9"),
    Party("machine", ip="192.168.1.10"),
    Party("cloud-metadata", ip="169.254.169.254"),
)
ADDRESSES = {one.name for one in OUTSIDE if one.ip}
PODS_OUTSIDE = {one.name for one in OUTSIDE if not one.ip}


def parties(release: Any) -> list[Party]:
    found = []
    for one, template in release.pods():
        labels = template["metadata"]["labels"]
        name = labels["app.kubernetes.io/component"]
        track = labels.get("darkroom/track")
        found.append(Party(f"{name} canary" if track == "canary" else name, tuple(labels.items()), "studio"))
        assert one["metadata"]["name"]
    return found + list(OUTSIDE)


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    assert set(selector) <= {"matchLabels"}, "this evaluator knows no expressions"
    return selector.get("matchLabels", {}).items() <= labels.items()


def is_peer(peer: dict[str, Any], other: Party) -> bool:
    if "ipBlock" in peer:
        block = peer["ipBlock"]
        if not other.ip:
            return False
        address = ip_address(other.ip)
        excepted = any(address in ip_network(one) for one in block.get("except", []))
        return address in ip_network(block["cidr"]) and not excepted
    if other.ip:
        return False
    namespace = {"kubernetes.io/metadata.name": other.namespace}
    here = (
        selects(peer["namespaceSelector"], namespace)
        if "namespaceSelector" in peer
        else other.namespace == "studio"
    )
    return here and selects(peer.get("podSelector", {}), dict(other.labels))


def opens(rule: dict[str, Any], side: str, other: Party, port: int) -> bool:
    ports = rule.get("ports")
    if ports is not None:
        tcp = [one for one in ports if one.get("protocol", "TCP") == "TCP"]
        if not any(one["port"] <= port <= one.get("endPort", one["port"]) for one in tcp):
            return False
    peers = rule.get(side)
    return peers is None or any(is_peer(peer, other) for peer in peers)


def lets(release: Any, kind: str, of: Party, other: Party, port: int) -> bool:
    """Whether `of` may receive from (Ingress) or send to (Egress) `other`."""
    if of.ip or of.namespace != "studio":
        return True
    policies = [
        one["spec"]
        for one in release.of("NetworkPolicy")
        if kind in one["spec"]["policyTypes"] and selects(one["spec"]["podSelector"], dict(of.labels))
    ]
    field, side = ("ingress", "from") if kind == "Ingress" else ("egress", "to")
    return not policies or any(
        opens(rule, side, other, port) for policy in policies for rule in policy.get(field) or []
    )


def ways(release: Any) -> set[Way]:
    """Every way on which at least one end is of the release."""
    everybody = parties(release)
    return {
        (a.name, b.name, port)
        for a, b, port in product(everybody, everybody, PORTS)
        if a != b
        and (a not in OUTSIDE or b not in OUTSIDE)
        and lets(release, "Egress", a, b, port)
        and lets(release, "Ingress", b, a, port)
    }


# ── the ways of the design ───────────────────────────────────────────────────────────────────────────────────────

SERVICES = ("rmbg", "cleanup", "portrait", "caption", "controlnet")
PUBLIC = {(port) for port in PORTS if port in (80, 443) or port >= 1024}


def usual(release: Any, clients: set[str] = PODS_OUTSIDE | ADDRESSES) -> set[Way]:
    mine = {one.name for one in parties(release)} - PODS_OUTSIDE - ADDRESSES
    found = {(name, "dns", 53) for name in mine}
    found |= {(client, "gateway", port) for client in clients for port in DOORS} | {("test", "gateway", 8080)}
    found |= {("gateway", name, 3000) for name in SERVICES if name in mine}
    found |= {("gateway", "pix2pix", port) for port in (8500, 8501)}
    return found | {("gateway", name, port) for name in ("internet", "internet6") for port in PUBLIC}


def to_anybody(who: str, port: int) -> set[Way]:
    """A server outside of which no network is known; pods of the release do not take it."""
    return {(who, name, port) for name in PODS_OUTSIDE | ADDRESSES}


MORE: dict[str, set[Way]] = {
    "defaults": set(),
    "trial": {("gateway", "postgres", 5432), ("gateway", "redis", 6379), ("gateway", "minio", 9000)},
    "external-state": {
        ("gateway", "postgres-server", 5432),
        ("migrate", "postgres-server", 5432),
        ("gateway", "store-server", 443),
        *to_anybody("gateway", 6379),
    },
    "monitoring": {
        ("prometheus", "gateway", 9464),
        *(("prometheus", name, 3000) for name in SERVICES),
        ("prometheus", "pix2pix", 8501),
        *((name, "collector", 4318) for name in ("gateway", *SERVICES)),
    },
    "iopaint": {("cleanup", "iopaint", 8080), ("iopaint", "internet", 443), ("iopaint", "internet6", 443)},
    "cache-per-pod": {(name, net, 443) for name in ("rmbg", "cleanup") for net in ("internet", "internet6")},
    "canary": {
        *(("gateway", f"{name} canary", 3000) for name in ("rmbg", "controlnet")),
        *(("gateway", "pix2pix canary", port) for port in (8500, 8501)),
        *(("models", net, 443) for net in ("internet", "internet6")),
        ("prometheus", "gateway", 9464),
        *(("prometheus", name, 3000) for name in (*SERVICES, "rmbg canary", "controlnet canary")),
        *(("prometheus", name, 8501) for name in ("pix2pix", "pix2pix canary")),
    },
}


@pytest.mark.parametrize("name", MORE)
def test_the_policies_allow_exactly_the_ways_of_the_design(name: str, case: Any) -> None:
    release = case(name)
    assert ways(release) ^ (usual(release) | MORE[name]) == set()


def test_only_those_who_are_named_reach_the_gateway(case: Any) -> None:
    release = case("ingress")
    assert ways(release) ^ usual(release, clients={"ingress"}) == set()


def test_the_gateway_reaches_services_that_run_elsewhere_where_a_rule_says_so(case: Any) -> None:
    gateway = next(one for one in parties(case("extension")) if one.name == "gateway")
    assert lets(case("extension"), "Egress", gateway, Party("caption", ip="10.1.2.3"), 3000)
    assert not lets(case("extension"), "Egress", gateway, Party("another", ip="10.1.3.3"), 3000)


def test_every_pod_of_every_release_is_closed_but_for_what_is_opened(case_name: str, case: Any) -> None:
    release = case(case_name)
    if case_name == "no-network-policy":
        assert release.of("NetworkPolicy") == []
        return
    for party in parties(release):
        if party not in OUTSIDE:
            stranger, elsewhere = OUTSIDE[0], OUTSIDE[1]
            assert not lets(release, "Egress", party, elsewhere, 22), party.name
            assert not lets(release, "Ingress", party, stranger, 22), party.name


def test_another_release_in_the_namespace_is_a_stranger(render: Any) -> None:
    """But for the gateway's doors, which are everybody's."""
    one, other = render({}), render({}, name="second")
    policies = type(one)("both", (*one.of("NetworkPolicy"), *other.of("NetworkPolicy")), "")
    of_one, of_other = (
        [party for party in parties(release) if party not in OUTSIDE] for release in (one, other)
    )
    for a, b, port in product(of_other, of_one, PORTS):
        assert not (lets(policies, "Egress", a, b, port) and lets(policies, "Ingress", b, a, port)), (
            a.name,
            b.name,
            port,
        )


def test_the_mutation_of_a_policy_is_noticed(case: Any) -> None:
    """The evaluator itself: one policy less, one way less; none at all, all ways."""
    release = case("trial")
    without = [
        one
        for one in release.objects
        if one["metadata"]["name"] != "dr-postgres" or one["kind"] != "NetworkPolicy"
    ]
    assert ways(release) - ways(type(release)("less", tuple(without), "")) == {("gateway", "postgres", 5432)}
    open_to_all = [one for one in release.objects if one["kind"] != "NetworkPolicy"]
    assert ("stranger", "postgres", 5432) in ways(type(release)("open", tuple(open_to_all), ""))
