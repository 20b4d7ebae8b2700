"""An MCP server that wants a credential in each request, and the same over standard input with one in its environment.
What it was given it tells as a digest."""

import hashlib
import json
import os
import sys
from pathlib import Path

from fastmcp import FastMCP
from fastmcp.server.dependencies import get_http_headers

server = FastMCP("guarded")


@server.tool
def credential() -> str:
    """The SHA-256 of the credential that came with this request."""
    shown = get_http_headers(include_all=True).get("authorization") or os.environ.get("SHOWN_TO_ME", "")
    return "digest " + hashlib.sha256(shown.encode()).hexdigest()


class Guard:
    """Lets in who shows the credential that stands in a file now."""

    def __init__(self, app, wanted):
        self.app, self.wanted = app, wanted

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http":
            shown = dict(scope["headers"]).get(b"authorization", b"").decode()
            if shown != self.wanted.read_text():
                headers = [(b"content-length", b"0")]
                await send({"type": "http.response.start", "status": 401, "headers": headers})
                return await send({"type": "http.response.body", "body": b""})
        return await self.app(scope, receive, send)


if __name__ == "__main__":
    if len(sys.argv) == 1:
        # A child that writes its settings on standard error, as many do.
        print(json.dumps(dict(os.environ)), file=sys.stderr, flush=True)
        server.run(transport="stdio", show_banner=False)
    else:
        import uvicorn

        app = server.http_app(path="/mcp")
        uvicorn.run(Guard(app, Path(sys.argv[2])), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
