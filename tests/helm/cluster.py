"""A stand-in for Kubernetes' API server: it keeps what Helm gives it, and says yes to everything. Jobs end at once.

A cluster cannot run here. What this can show is Helm's own doing: what is there after an install, an upgrade, a
rollback, and in which order it came.
"""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml

NAMESPACE = "studio"
KINDS = {
    "v1": ["Secret", "ConfigMap", "Service", "ServiceAccount", "PersistentVolumeClaim", "Pod"],
    "apps/v1": ["Deployment", "StatefulSet"],
    "batch/v1": ["Job"],
    "policy/v1": ["PodDisruptionBudget"],
    "networking.k8s.io/v1": ["NetworkPolicy", "Ingress"],
    "autoscaling/v2": ["HorizontalPodAutoscaler"],
}
ENDED = {"succeeded": 1, "conditions": [{"type": "Complete", "status": "True"}]}


def plural(kind: str) -> str:
    word = kind.lower()
    return word[:-1] + "ies" if word.endswith("y") else word + ("es" if word.endswith("s") else "s")


def folder(version: str) -> str:
    return f"api/{version}" if version == "v1" else f"apis/{version}"


class Cluster:
    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}  # by plural and name
        self.changes: list[tuple[str, str, str]] = []  # verb, plural, name
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    @property
    def kubeconfig(self) -> str:
        address = f"http://127.0.0.1:{self._server.server_address[1]}"
        return yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "it", "cluster": {"server": address}}],
                "users": [{"name": "me", "user": {}}],
                "contexts": [
                    {"name": "it", "context": {"cluster": "it", "user": "me", "namespace": NAMESPACE}}
                ],
                "current-context": "it",
            }
        )

    # ── what it says of itself ───────────────────────────────────────────────────────────────────────────────

    def about(self, path: str) -> dict[str, Any] | None:
        if path == "/version":
            return {"major": "1", "minor": "33", "gitVersion": "v1.33.0"}
        if path == "/api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            groups = []
            for version in KINDS:
                if "/" in version:
                    told = {"groupVersion": version, "version": version.split("/")[1]}
                    groups.append(
                        {"name": version.split("/")[0], "versions": [told], "preferredVersion": told}
                    )
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        if path == "/openapi/v3":
            return {
                "paths": {folder(one): {"serverRelativeURL": f"/openapi/v3/{folder(one)}"} for one in KINDS}
            }
        for version, kinds in KINDS.items():
            if path == f"/{folder(version)}":
                verbs = ["get", "list", "create", "patch", "update", "delete", "watch"]
                resources = [
                    {"name": plural(kind), "kind": kind, "namespaced": True, "verbs": verbs} for kind in kinds
                ]
                return {
                    "kind": "APIResourceList",
                    "apiVersion": "v1",
                    "groupVersion": version,
                    "resources": resources,
                }
            if path == f"/openapi/v3/{folder(version)}":
                return {
                    "openapi": "3.0.0",
                    "info": {},
                    "paths": dict(self._checked(version, kind) for kind in kinds),
                }
        return None

    def _checked(self, version: str, kind: str) -> tuple[str, dict[str, Any]]:
        """That it checks fields itself, so that Helm need not."""
        group, _, number = version.rpartition("/")
        field = {"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}
        of = {"group": group, "version": number, "kind": kind}
        patch = {"parameters": [field], "x-kubernetes-group-version-kind": of, "responses": {}}
        return f"/{folder(version)}/namespaces/{{namespace}}/{plural(kind)}/{{name}}", {"patch": patch}

    # ── what it keeps ────────────────────────────────────────────────────────────────────────────────────────

    def keep(self, verb: str, kinds: str, name: str, given: dict[str, Any]) -> dict[str, Any]:
        metadata = given.setdefault("metadata", {})
        metadata |= {
            "namespace": NAMESPACE,
            "uid": f"{kinds}-{name}",
            "resourceVersion": str(len(self.changes) + 1),
        }
        if kinds == "jobs":
            given["status"] = ENDED
        if kinds == "pods":
            given["status"] = {"phase": "Succeeded"}
        self.changes.append((verb, kinds, name))
        self.objects[kinds, name] = given
        return given

    def answer(self, verb: str, path: str, query: str, body: bytes) -> tuple[int, Any]:
        if verb == "GET" and (told := self.about(path)) is not None:
            return 200, told
        way = re.fullmatch(r"/(?:api/v1|apis/[^/]+/[^/]+)/namespaces/[^/]+/([a-z]+)(?:/([^/]+))?", path)
        if way is not None:
            kinds, name = way[1], way[2] or ""
            if verb in ("POST", "PATCH", "PUT"):
                given = yaml.safe_load(body)
                return 201 if verb == "POST" else 200, self.keep(
                    verb, kinds, name or given["metadata"]["name"], given
                )
            if verb == "GET" and not name:
                return 200, self._list(kinds, query)
            if (kinds, name) in self.objects:
                found = self.objects[kinds, name]
                if verb == "DELETE":
                    self.changes.append((verb, kinds, name))
                    del self.objects[kinds, name]
                return 200, found
        return 404, {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "reason": "NotFound",
            "code": 404,
        }

    def _list(self, kinds: str, query: str) -> Any:
        named = re.search(r"fieldSelector=metadata\.name%3D([^&]+)", query)
        found = [
            one
            for (kind, name), one in self.objects.items()
            if kind == kinds and (not named or name == named[1])
        ]
        version, kind = next((v, one) for v, of in KINDS.items() for one in of if plural(one) == kinds)
        metadata: dict[str, Any] = {"resourceVersion": str(len(self.changes) + 1)}
        if "watch=true" in query:
            # after what is there comes what says that this was all
            metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
            end = {"kind": kind, "apiVersion": version, "metadata": metadata}
            return [{"type": "ADDED", "object": one} for one in found] + [{"type": "BOOKMARK", "object": end}]
        return {"kind": f"{kind}List", "apiVersion": version, "metadata": metadata, "items": found}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        cluster = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = -1  # an answer in one piece: half of one would wait for an acknowledgement

            def log_message(self, *_: object) -> None:
                pass

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                path, _, query = self.path.partition("?")
                status, said = cluster.answer(self.command, path, query, body)
                text = "\n".join(map(json.dumps, said)) if isinstance(said, list) else json.dumps(said)
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())
                self.wfile.flush()

            do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = answer

        return Handler
