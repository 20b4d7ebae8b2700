"""The official Python SDK (v2) as a client of either revision: opens, lists, calls, is refused, reads and asks, then
prints what came of it as one JSON object."""

import asyncio
import json
import os
import sys

import httpx2
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client


async def attempt(call):
    """The text of a result, or that it is an error."""
    try:
        result = await call
    except Exception as error:  # noqa: BLE001 - whatever the SDK raises is the refusal
        return {"error": True, "text": str(error)}
    return {"error": bool(getattr(result, "is_error", False)), "text": result.model_dump_json(by_alias=True)}


async def main():
    plan = json.loads(os.environ["PEER_PLAN"])
    headers = {"Authorization": f"Bearer {os.environ['PEER_BEARER']}"} if os.environ.get("PEER_BEARER") else {}
    mode = "legacy" if sys.argv[1] == "2025-11-25" else sys.argv[1]
    async with httpx2.AsyncClient(headers=headers, timeout=30) as http:
        if os.environ.get("PEER_COMMAND"):
            command, *arguments = json.loads(os.environ["PEER_COMMAND"])
            transport = StdioServerParameters(command=command, args=arguments)
        else:
            transport = streamable_http_client(os.environ["PEER_URL"], http_client=http)
        async with Client(transport, mode=mode) as client:
            seen = {"version": client.protocol_version}
            seen["tools"] = [tool.name for tool in (await client.list_tools()).tools]
            for key in ("call", "refused"):
                seen[key] = await attempt(client.call_tool(plan[key]["name"], plan[key]["arguments"]))
            if plan.get("resource"):
                seen["resource"] = await attempt(client.read_resource(plan["resource"]["uri"]))
            if plan.get("prompt"):
                seen["prompt"] = await attempt(client.get_prompt(plan["prompt"]["name"], plan["prompt"]["arguments"]))
    print(json.dumps(seen))


asyncio.run(main())
