"""The official Python SDK as an OAuth client: it knows the URL of the server and nothing else. Discovers, registers, gets
a token with PKCE, lists, calls, and calls what needs another scope; then prints what came of it as one JSON object."""

import asyncio
import json
import os
import sys
from urllib.parse import parse_qs, urlparse

import httpx2
from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientMetadata
from pydantic import AnyUrl

CALLBACK = "http://127.0.0.1:9/callback"


class Storage:
    """Keeps what the SDK wants kept, for as long as this process lives."""

    tokens = client = None

    async def get_tokens(self):
        return self.tokens

    async def set_tokens(self, tokens):
        self.tokens = tokens

    async def get_client_info(self):
        return self.client

    async def set_client_info(self, client):
        self.client = client


class Browser:
    """Follows redirects with cookies, as far as the client's own address."""

    def __init__(self):
        self.asked, self.arrived = [], None

    async def open(self, url):
        self.asked.append({name: values[0] for name, values in parse_qs(urlparse(url).query).items()})
        async with httpx2.AsyncClient(timeout=20) as http:
            for _ in range(12):
                answer = await http.get(url)
                if answer.status_code not in (302, 303):
                    raise RuntimeError(f"{answer.status_code} at {url}: {answer.text[:300]}")
                url = str(httpx2.URL(url).join(answer.headers["location"]))
                if url.startswith(CALLBACK):
                    self.arrived = {name: values[0] for name, values in parse_qs(urlparse(url).query).items()}
                    return
        raise RuntimeError(f"no way back to the client, last at {url}")

    async def came_back(self):
        return AuthorizationCodeResult(**{name: self.arrived.get(name) for name in ("code", "state", "iss")})


async def attempt(call):
    """The text of a result, or that it is an error."""
    try:
        result = await call
    except Exception as error:  # noqa: BLE001 - whatever the SDK raises is the refusal
        return {"error": True, "text": repr(error)}
    return {"error": bool(getattr(result, "is_error", False)), "text": result.model_dump_json(by_alias=True)}


async def main():
    url, mode = os.environ["PEER_URL"], "legacy" if sys.argv[1] == "2025-11-25" else sys.argv[1]
    browser, storage = Browser(), Storage()
    metadata = OAuthClientMetadata(client_name="peer", redirect_uris=[AnyUrl(CALLBACK)])
    auth = OAuthClientProvider(url, metadata, storage, browser.open, browser.came_back)
    async with httpx2.AsyncClient(auth=auth, timeout=30) as http:
        async with Client(streamable_http_client(url, http_client=http), mode=mode) as client:
            seen = {"version": client.protocol_version}
            seen["tools"] = [tool.name for tool in (await client.list_tools()).tools]
            seen["call"] = await attempt(client.call_tool("add", {"a": 20, "b": 22}))
            seen["before"] = storage.tokens.scope
            seen["step_up"] = await attempt(client.call_tool("drop", {"table": "users"}))
            seen["after"] = storage.tokens.scope
    seen["asked"] = browser.asked
    print(json.dumps(seen))


asyncio.run(main())
