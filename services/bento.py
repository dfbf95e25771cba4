"""BentoML as a service's host: in goes a Service class, out comes what `bentoml serve` runs.

BentoML gives /livez, /readyz, /metrics, the bento's packaging and typed methods for its own clients; the way
of the gateway is the ASGI app that is mounted beside them (serving.py says why).
"""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")

import bentoml

from services.serving import Service, ServiceApp

# BentoML's own limit on a request would end a long generation; the gateway sends each call's deadline instead
NO_TIMEOUT = 24 * 3600


def hosted(kind: type[Service]) -> Any:
    """A BentoML service that hosts `kind`; `.inner.app` is its ServiceApp."""
    app = ServiceApp(kind)

    class Hosted:
        __doc__ = kind.__doc__

        async def __is_ready__(self) -> bool:
            return app.ready

    Hosted.app = app  # type: ignore[attr-defined]
    Hosted.__name__ = Hosted.__qualname__ = kind.__name__
    Hosted.__module__ = kind.__module__
    decorated = bentoml.asgi_app(app.asgi, path="/")(Hosted)
    return bentoml.service(
        name=app.name,
        workers=1,
        threads=app.capacity,
        traffic={"timeout": NO_TIMEOUT},
        logging={"access": {"enabled": False}},
    )(decorated)
