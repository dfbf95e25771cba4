"""The two gRPC services: `Stub(channel, PREDICTION).Predict(request, timeout=5)` calls, `handlers(MODEL,
implementation)` answers.

A stub is for one channel, of `grpc.aio` or of plain `grpc`; an implementation is any object with coroutines
of the methods' names.
"""

from __future__ import annotations

from typing import Any

import grpc

from tf_serving.stubs import service

PREDICTION = "tensorflow.serving.PredictionService"
MODEL = "tensorflow.serving.ModelService"


class Stub:
    """A service's methods over a channel. Each takes its request and `timeout`, and gives its response."""

    def __init__(self, channel: Any, name: str) -> None:
        for method, (takes, gives) in service(name).items():
            call = channel.unary_unary(
                f"/{name}/{method}",
                request_serializer=takes.SerializeToString,
                response_deserializer=gives.FromString,
            )
            setattr(self, method, call)

    def __getattr__(self, method: str) -> Any:
        raise AttributeError(f"The service has no method {method!r}.")


def handlers(name: str, implementation: Any) -> grpc.GenericRpcHandler:
    """What `grpc.aio.Server.add_generic_rpc_handlers` takes."""
    found = {
        method: grpc.unary_unary_rpc_method_handler(
            getattr(implementation, method),
            request_deserializer=takes.FromString,
            response_serializer=gives.SerializeToString,
        )
        for method, (takes, gives) in service(name).items()
    }
    return grpc.method_handlers_generic_handler(name, found)
