"""The door of a SuperLink: sites reach the calls of a SuperNode through it, and nothing else.

A SuperLink of flwr 1.41 serves three interfaces on one port, and asks for a registered key on one of them (Fleet, for
SuperNodes). Over the other two (Control, Runtime) whoever reaches the port registers keys, and starts apps that run on
the server and at every site. So it listens on loopback, and this listens where the sites are.

    python -m neuroloom.federated.gateway --superlink 127.0.0.1:9093 --authority authority.crt \
        --certificate server.crt --key server.key --host 0.0.0.0 --port 9092
"""

from __future__ import annotations

import argparse
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

CALLS = frozenset(
    {
        "activate-node",
        "confirm-message-received",
        "deactivate-node",
        "get-fab",
        "get-run",
        "pull-messages",
        "pull-object",
        "push-messages",
        "push-object",
        "send-node-heartbeat",
    }
)  # of the Fleet interface, without those that let a node register itself
MAX_BYTES = 32 * 2**20  # Flower sends arrays in pieces of 5 MB
PASSED = ("content-type", "accept")
PASSED_PREFIX = "flwr-"
SECONDS = 60.0


def gateway(superlink: str, authority: Path) -> Starlette:
    """Application that hands calls of SuperNodes on to a SuperLink (`host:port`), and answers 404 to others."""
    import httpx
    from starlette.applications import Starlette
    from starlette.responses import Response
    from starlette.routing import Route

    client = httpx.AsyncClient(
        verify=ssl.create_default_context(cafile=str(authority)), timeout=SECONDS, trust_env=False
    )

    async def forward(request: Request) -> Response:
        call = request.path_params["call"]
        if call not in CALLS:
            return Response(status_code=404)
        content = await _body(request)
        if content is None:
            return Response(status_code=413)
        headers = {name: value for name, value in request.headers.items() if _passed(name)}
        try:
            answer = await client.post(f"https://{superlink}/v1/fleet/{call}", content=content, headers=headers)
        except httpx.TransportError:
            return Response(status_code=503)  # a SuperNode tries again
        kept = {name: value for name, value in answer.headers.items() if _passed(name)}
        return Response(answer.content, answer.status_code, kept)

    return Starlette(routes=[Route("/v1/fleet/{call}", forward, methods=["POST"])])


def main() -> None:
    """Serve until the process is ended."""
    import uvicorn

    parser = argparse.ArgumentParser(description="Show the calls of SuperNodes of a SuperLink to sites")
    parser.add_argument("--superlink", required=True, help="host:port of the SuperLink")
    parser.add_argument("--authority", type=Path, required=True, help="certificate that the SuperLink is trusted by")
    parser.add_argument("--certificate", required=True, help="certificate shown to sites")
    parser.add_argument("--key", required=True, help="key of that certificate")
    parser.add_argument("--host", required=True, help="address to listen on")
    parser.add_argument("--port", type=int, required=True, help="port to listen on")
    words = parser.parse_args()
    uvicorn.run(
        gateway(words.superlink, words.authority),
        host=words.host,
        port=words.port,
        ssl_certfile=words.certificate,
        ssl_keyfile=words.key,
        access_log=False,
    )


async def _body(request: Request) -> bytes | None:
    """What was sent; None where it is too much."""
    pieces, size = [], 0
    async for piece in request.stream():
        size += len(piece)
        if size > MAX_BYTES:
            return None
        pieces.append(piece)
    return b"".join(pieces)


def _passed(header: str) -> bool:
    return header in PASSED or header.startswith(PASSED_PREFIX)


if __name__ == "__main__":
    main()
