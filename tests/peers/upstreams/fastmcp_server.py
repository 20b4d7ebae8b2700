"""A small FastMCP server: both revisions on one HTTP endpoint, as popular servers are written today; or, with the word
`modern` before the port, the newer one alone."""

import json
import sys

from fastmcp import FastMCP
from starlette.middleware import Middleware

server = FastMCP("popular")


@server.tool
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@server.tool
def drop(table: str) -> str:
    """Drops a table."""
    return f"dropped {table}"


@server.resource("popular://motto")
def motto() -> str:
    """A sentence."""
    return "Small things work."


@server.prompt
def review(subject: str) -> str:
    """Asks for a review."""
    return f"Please review {subject}."


MODERN = b"2026-07-28"


class ModernOnly:
    """Refuses requests of any other revision, as the specification asks a server that does not speak it."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        version = dict(scope.get("headers", [])).get(b"mcp-protocol-version")
        if scope["type"] != "http" or version == MODERN:
            return await self.app(scope, receive, send)
        data = {"supported": [MODERN.decode()], "requested": (version or b"").decode()}
        error = {"code": -32022, "message": "unsupported protocol version", "data": data}
        body = json.dumps({"jsonrpc": "2.0", "id": None, "error": error}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 400, "headers": headers})
        await send({"type": "http.response.body", "body": body})


if __name__ == "__main__":
    only = [Middleware(ModernOnly)] if "modern" in sys.argv[1:-1] else []
    port = int(sys.argv[-1])
    server.run("http", host="127.0.0.1", port=port, show_banner=False, log_level="WARNING", middleware=only)
