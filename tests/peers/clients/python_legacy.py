"""The last Python SDK that knows only the old revision (v1), as a client: opens, lists, calls, is refused, reads and
asks, then prints what came of it as one JSON object."""

import asyncio
import json
import os

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamablehttp_client


async def attempt(call):
    """The text of a result, or that it is an error."""
    try:
        result = await call
    except Exception as error:  # noqa: BLE001 - whatever the SDK raises is the refusal
        return {"error": True, "text": str(error)}
    return {"error": bool(getattr(result, "isError", False)), "text": result.model_dump_json(by_alias=True)}


def transport():
    """Over standard input and output of a command where there is one, otherwise over HTTP."""
    if os.environ.get("PEER_COMMAND"):
        command, *arguments = json.loads(os.environ["PEER_COMMAND"])
        return stdio_client(StdioServerParameters(command=command, args=arguments))
    headers = {"Authorization": f"Bearer {os.environ['PEER_BEARER']}"} if os.environ.get("PEER_BEARER") else {}
    return streamablehttp_client(os.environ["PEER_URL"], headers)


async def main():
    plan = json.loads(os.environ["PEER_PLAN"])
    async with (
        transport() as (reader, writer, *_),
        ClientSession(reader, writer) as session,
    ):
        seen = {"version": (await session.initialize()).protocolVersion}
        seen["tools"] = [tool.name for tool in (await session.list_tools()).tools]
        for key in ("call", "refused"):
            seen[key] = await attempt(session.call_tool(plan[key]["name"], plan[key]["arguments"]))
        if plan.get("resource"):
            seen["resource"] = await attempt(session.read_resource(plan["resource"]["uri"]))
        if plan.get("prompt"):
            seen["prompt"] = await attempt(session.get_prompt(plan["prompt"]["name"], plan["prompt"]["arguments"]))
    print(json.dumps(seen))


asyncio.run(main())
