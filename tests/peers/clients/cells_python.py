"""The official Python SDK (v2) as a client of either revision, doing everything that it can do: what it sent and got an
answer to, and what it was told and asked, as one JSON object."""

import asyncio
import json
import os
import sys
import warnings

import anyio
import httpx2
import mcp_types as types
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client

warnings.filterwarnings("ignore")
LEGACY = sys.argv[1] == "2025-11-25"
URI = "test://watched-resource"
sent, told = {}, {}
CHANGES = ["notifications/tools/list_changed", "notifications/prompts/list_changed"]
CHANGES += ["notifications/resources/list_changed", "notifications/resources/updated"]


def hear(method):
    told[method] = told.get(method, 0) + 1


async def attempt(method, call):
    """Notes whether what the SDK sent was taken."""
    try:
        with anyio.fail_after(20):
            result = await call()
        sent[method] = not getattr(result, "is_error", False) or str(result)
    except Exception as error:  # noqa: BLE001 - whatever the SDK raises is the answer
        sent[method] = f"{type(error).__name__}: {error}"


async def messages(message):
    if isinstance(message, types.ServerNotification):
        hear(message.method)


async def elicitation(ctx, params):
    hear("elicitation/create")
    return types.ElicitResult(action="accept", content={"username": "ada", "email": "a@example.org", "name": "ada"})


async def sampling(ctx, params):
    hear("sampling/createMessage")
    return types.CreateMessageResult(role="assistant", model="m", content=types.TextContent(type="text", text="hi"))


async def roots(ctx):
    hear("roots/list")
    return types.ListRootsResult(roots=[types.Root(uri="file:///tmp/x")])


async def logging(params):
    hear("notifications/message")


async def progress(*_):
    hear("notifications/progress")


async def both(client):
    """What both revisions have."""
    reference = types.PromptReference(type="ref/prompt", name="test_prompt_with_arguments")
    await attempt("tools/call", lambda: client.call_tool("test_simple_text", {}))
    await attempt("resources/read", lambda: client.read_resource("test://static-text"))
    await attempt("prompts/get", lambda: client.get_prompt("test_simple_prompt"))
    for name in ("tools", "prompts", "resources"):
        await attempt(f"{name}/list", getattr(client, f"list_{name}"))
    await attempt("resources/templates/list", client.list_resource_templates)
    await attempt("completion/complete", lambda: client.complete(reference, {"name": "arg1", "value": "pa"}))
    await client.call_tool("test_tool_with_progress", {}, progress_callback=progress)
    # A server of the older revision ends the stream and keeps the answer for who comes back; others just answer.
    await attempt("test_reconnection", lambda: client.call_tool("test_reconnection", {}))
    for name, arguments in (
        ("test_sampling", {"prompt": "hello"}),
        ("test_elicitation", {"message": "who?"}),
        ("test_input_required_result_list_roots", {}),
    ):
        await attempt(name, lambda: client.call_tool(name, arguments))
    await attempt("notifications/cancelled", lambda: cancel(client))


async def cancel(client):
    """Gives a call up, and asks until the server knows."""
    before = str(await client.call_tool("cell_cancelled", {}))
    # What is given up before it arrives is heard of by nobody: a slow machine gets more time with every try.
    for patience in (1.5, 3, 6, 12):
        with anyio.move_on_after(patience):
            await client.call_tool("cell_slow", {})
        with anyio.move_on_after(15):
            while str(await client.call_tool("cell_cancelled", {})) == before:
                await anyio.sleep(0.1)
            return
    raise TimeoutError("the server was not told")


async def changes(client, missing):
    """Lets the server tell of changes until all have come."""
    with anyio.move_on_after(15):
        while missing():
            await client.call_tool("cell_changes", {})
            await anyio.sleep(0.2)


async def legacy(client):
    sent["initialize"] = sent["notifications/initialized"] = True
    await attempt("ping", client.send_ping)
    await attempt("logging/setLevel", lambda: client.set_logging_level("debug"))
    await client.call_tool("test_tool_with_logging", {})
    await attempt("resources/subscribe", lambda: client.subscribe_resource(URI))
    await changes(client, lambda: [name for name in CHANGES if name not in told])
    await attempt("resources/unsubscribe", lambda: client.unsubscribe_resource(URI))
    await attempt("notifications/roots/list_changed", client.send_roots_list_changed)
    await attempt("server ping", lambda: client.call_tool("cell_ping", {}))


async def modern(client):
    await attempt("server/discover", client.session.discover)
    meta = {"io.modelcontextprotocol/logLevel": "debug"}
    await client.call_tool("test_tool_with_logging", {}, meta=meta)
    await attempt("server ping", lambda: client.call_tool("cell_ping", {}))
    wanted = {"tools_list_changed": True, "prompts_list_changed": True, "resources_list_changed": True}
    async with client.listen(**wanted, resource_subscriptions=[URI]) as subscription:
        sent["subscriptions/listen"] = True
        hear("notifications/subscriptions/acknowledged")
        names = dict(zip(["ToolsListChanged", "PromptsListChanged", "ResourcesListChanged", "ResourceUpdated"], CHANGES))
        heard = set()

        async def listen():
            async for event in subscription:
                heard.add(names[type(event).__name__])

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen)
            await changes(client, lambda: set(CHANGES) - heard)
            tasks.cancel_scope.cancel()
        for name in heard:
            hear(name)


async def main():
    headers = {"Authorization": f"Bearer {os.environ['PEER_BEARER']}"} if os.environ.get("PEER_BEARER") else {}
    callbacks = {"elicitation_callback": elicitation, "sampling_callback": sampling, "list_roots_callback": roots}
    callbacks |= {"logging_callback": logging, "message_handler": messages}
    async with httpx2.AsyncClient(headers=headers, timeout=30) as http:
        transport = streamable_http_client(os.environ["PEER_URL"], http_client=http)
        async with Client(transport, mode="legacy" if LEGACY else sys.argv[1], **callbacks) as client:
            await both(client)
            await (legacy if LEGACY else modern)(client)
    print(json.dumps({"sent": sent, "told": told}))


asyncio.run(main())
