"""For HEALTHCHECK: `python3 -IS health.py PORT PATH` ends with 0 where that path of this container answers 200.

A bare socket, because importing an HTTP client would cost ten times as much processor, every few seconds.
"""

import socket
import sys

port, path = int(sys.argv[1]), sys.argv[2]
try:
    with socket.create_connection(("127.0.0.1", port), 4) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        status = connection.recv(64).split(b"\r\n")[0].decode("latin-1")
except OSError as error:
    sys.exit(f"port {port} does not answer: {error}")
sys.exit(0 if status.split(" ")[1:2] == ["200"] else f"{path}: {status or 'no answer'}")
