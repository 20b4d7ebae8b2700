"""The fixture of the conformance suite, with what it takes to send every message that a server can send: it tells of
changes, pings, and counts the calls that were cancelled. One revision alone (`--era`)."""

import contextlib
import sys
from pathlib import Path

import anyio

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "conformance"))

import fixture  # noqa: E402
from fixture import said, text, tool  # noqa: E402
from mcp.server.lowlevel import NotificationOptions  # noqa: E402
from mcp.server.subscriptions import (  # noqa: E402
    PromptsListChanged,
    ResourcesListChanged,
    ResourceUpdated,
    ToolsListChanged,
)

URI = "test://watched-resource"
sessions, cancelled = {}, []


async def remember(ctx, call_next):
    """A server of the older revision tells each session by itself."""
    sessions[id(ctx.session._connection)] = ctx.session
    return await call_next(ctx)


@tool("cell_changes", "Tells everybody that everything changed.")
async def changes(ctx, params):
    if fixture.one_era == "modern":
        for event in (ToolsListChanged(), PromptsListChanged(), ResourcesListChanged(), ResourceUpdated(uri=URI)):
            await fixture.bus.publish(event)
        return said(text("told"))
    for session in list(sessions.values()):
        # One that has ended hears nothing.
        with contextlib.suppress(Exception):
            await session.send_tool_list_changed()
            await session.send_prompt_list_changed()
            await session.send_resource_list_changed()
            await session.send_resource_updated(URI)
    return said(text("told"))


@tool("cell_ping", "Pings the client.")
async def ping(ctx, params):
    if fixture.one_era == "legacy":
        await ctx.session.send_ping()
    return said(text("pong"))


@tool("cell_slow", "Works until it is cancelled.")
async def slow(ctx, params):
    try:
        await anyio.sleep(60)
    except anyio.get_cancelled_exc_class():
        cancelled.append(True)
        raise
    return said(text("nobody cancelled"))


@tool("cell_cancelled", "Answers how many calls were cancelled.")
async def count(ctx, params):
    return said(text(f"cancelled: {len(cancelled)}"))


plain = fixture.build


def build():
    server = plain()
    offer = server.create_initialization_options
    server.create_initialization_options = lambda *_, **__: offer(NotificationOptions(True, True, True))
    server.middleware.append(remember)
    return server


fixture.build = build
fixture.main()
