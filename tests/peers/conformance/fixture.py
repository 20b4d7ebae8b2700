"""An MCP server on the official Python SDK that offers what the official conformance scenarios call.

It serves 2025-11-25 and 2026-07-28 at once, over Streamable HTTP (`--port`) or stdio. Run direct it passes every
required scenario; run behind the gateway it must still do so. Names and texts are those the scenarios prescribe.
"""

import argparse
import asyncio
import contextlib
import json
import sys
import warnings
from itertools import count

import mcp_types as types
import uvicorn
from mcp.server.lowlevel import NotificationOptions, Server
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.server.stdio import stdio_server
from mcp.server.streamable_http import EventMessage, EventStore
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, PromptsListChanged, ToolsListChanged
from mcp.server.transport_security import TransportSecuritySettings
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError
from mcp.shared.message import SessionMessage

# The 2025-11-25 half of the fixture uses sampling, logging and roots on purpose.
warnings.filterwarnings("ignore", category=MCPDeprecationWarning)

NAME = "conformance-fixture"
INVALID_PARAMS = -32602
MISSING_CAPABILITY = -32021
# One pixel, and a tenth of a second of silence in the smallest form each format allows.
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
WAV = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA="

# The one era that is spoken, where there is but one: what a server has to ask, it asks in the manner of its era.
one_era = None
bus = InMemorySubscriptionBus()
tools, prompts = {}, {}


def tool(name, description, properties=None, required=(), schema=None):
    """Registers a tool; without properties it takes no arguments."""
    schema = schema or {"type": "object", "properties": properties or {}, "required": list(required)}

    def register(handler):
        tools[name] = (types.Tool(name=name, description=description, input_schema=schema), handler)
        return handler

    return register


def prompt(name, description, *arguments):
    """Registers a prompt; all arguments are required."""
    listed = [types.PromptArgument(name=argument, required=True) for argument in arguments]

    def register(handler):
        prompts[name] = (types.Prompt(name=name, description=description, arguments=listed or None), handler)
        return handler

    return register


def text(words):
    return types.TextContent(type="text", text=words)


def image():
    return types.ImageContent(type="image", data=PNG, mime_type="image/png")


def embedded(uri, mime_type, words):
    contents = types.TextResourceContents(uri=uri, mime_type=mime_type, text=words)
    return types.EmbeddedResource(type="resource", resource=contents)


def said(*content, **more):
    return types.CallToolResult(content=list(content), **more)


def user(content):
    return types.PromptMessage(role="user", content=content)


# ---- plain tools


@tool("test_simple_text", "Answers one sentence.")
async def simple_text(ctx, params):
    return said(text("This is a simple text response for testing."))


@tool("test_image_content", "Answers an image.")
async def image_content(ctx, params):
    return said(image())


@tool("test_audio_content", "Answers a sound.")
async def audio_content(ctx, params):
    return said(types.AudioContent(type="audio", data=WAV, mime_type="audio/wav"))


@tool("test_embedded_resource", "Answers an embedded resource.")
async def embedded_resource(ctx, params):
    return said(embedded("test://embedded-resource", "text/plain", "This is an embedded resource content."))


@tool("test_multiple_content_types", "Answers text, an image and a resource.")
async def multiple_content_types(ctx, params):
    data = json.dumps({"test": "data", "value": 123})
    resource = embedded("test://mixed-content-resource", "application/json", data)
    return said(text("Multiple content types test:"), image(), resource)


@tool("test_error_handling", "Always fails.")
async def error_handling(ctx, params):
    return said(text("This tool intentionally returns an error for testing"), is_error=True)


@tool("test_tool_with_logging", "Logs three times while it works.")
async def with_logging(ctx, params):
    lines = ["Tool execution started", "Tool processing data", "Tool execution completed"]
    for number, line in enumerate(lines):
        if number:
            await asyncio.sleep(0.05)
        await ctx.session.send_log_message("info", line, related_request_id=ctx.request_id)
    return said(text("Logged three times."))


@tool("test_logging_tool", "Logs once, where the caller asked for logs.")
async def logging_tool(ctx, params):
    await ctx.session.send_log_message("info", "one line", related_request_id=ctx.request_id)
    return said(text("Logged."))


@tool("test_tool_with_progress", "Reports progress three times while it works.")
async def with_progress(ctx, params):
    for number, done in enumerate([0, 50, 100]):
        if number:
            await asyncio.sleep(0.05)
        await ctx.session.report_progress(done, 100)
    return said(text("Reported progress."))


HEADER = {"region": {"type": "string", "description": "Mirrored into a header.", "x-mcp-header": "Region"}}


@tool("test_x_mcp_header", "Takes an argument that is mirrored into a header.", HEADER)
async def x_mcp_header(ctx, params):
    return said(text(f"region={(params.arguments or {}).get('region')}"))


SCHEMA_2020_12 = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


@tool("json_schema_2020_12_tool", "Takes arguments that need all of JSON Schema 2020-12.", schema=SCHEMA_2020_12)
async def json_schema_2020_12(ctx, params):
    return said(text(json.dumps(params.arguments or {}, sort_keys=True)))


@tool("test_reconnection", "Closes its stream on the way; the answer waits for a reconnection.")
async def reconnection(ctx, params):
    await asyncio.sleep(0.1)
    if ctx.close_sse_stream:
        await ctx.close_sse_stream()
    await asyncio.sleep(0.2)
    return said(text("Reconnected."))


@tool("test_slow", "Answers after so many milliseconds.", {"ms": {"type": "integer"}}, ["ms"])
async def slow(ctx, params):
    await asyncio.sleep(params.arguments["ms"] / 1000)
    return said(text("At last."))


# ---- tools that change what is listed, seen by `subscriptions/listen`

changes = count(1)


@tool("test_trigger_tool_change", "Changes the list of tools and says so.")
async def trigger_tool_change(ctx, params):
    await bus.publish(ToolsListChanged())
    return said(text(f"change {next(changes)}"))


@tool("test_trigger_prompt_change", "Changes the list of prompts and says so.")
async def trigger_prompt_change(ctx, params):
    await bus.publish(PromptsListChanged())
    return said(text(f"change {next(changes)}"))


# ---- 2025-11-25: the server asks the client while it works


@tool("test_sampling", "Asks the client's model.", {"prompt": {"type": "string"}}, ["prompt"])
async def sampling(ctx, params):
    if one_era == "modern":
        answer = given(params, "answer")
        if answer is None:
            return need(answer=sample(params.arguments["prompt"], 100))
        return said(text(f"LLM response: {getattr(answer.content, 'text', answer.content)}"))
    message = types.SamplingMessage(role="user", content=text(params.arguments["prompt"]))
    answer = await ctx.session.create_message([message], max_tokens=100, related_request_id=ctx.request_id)
    return said(text(f"LLM response: {getattr(answer.content, 'text', answer.content)}"))


async def ask(ctx, params, words, message, properties, required=()):
    schema = {"type": "object", "properties": properties, "required": list(required)}
    if one_era == "modern":
        answer = given(params, "answer")
        if answer is None:
            form = types.ElicitRequestFormParams(message=message, requested_schema=schema)
            return need(answer=types.ElicitRequest(params=form))
    else:
        answer = await ctx.session.elicit_form(message, schema, related_request_id=ctx.request_id)
    return said(text(f"{words}: action={answer.action}, content={json.dumps(answer.content)}"))


@tool("test_elicitation", "Asks the user.", {"message": {"type": "string"}}, ["message"])
async def elicitation(ctx, params):
    properties = {
        "username": {"type": "string", "description": "User's response"},
        "email": {"type": "string", "description": "User's email address"},
    }
    return await ask(ctx, params, "User response", params.arguments["message"], properties, properties)


@tool("test_elicitation_sep1034_defaults", "Asks the user, with defaults for every primitive type.")
async def elicitation_defaults(ctx, params):
    properties = {
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "default": True},
    }
    return await ask(ctx, params, "Elicitation completed", "Please review.", properties)


@tool("test_elicitation_sep1330_enums", "Asks the user, with every form of enumeration.")
async def elicitation_enums(ctx, params):
    plain = ["option1", "option2", "option3"]
    values = zip(["value1", "value2", "value3"], ["First", "Second", "Third"])
    titled = [{"const": value, "title": f"{title} Option"} for value, title in values]
    properties = {
        "untitledSingle": {"type": "string", "enum": plain},
        "titledSingle": {"type": "string", "oneOf": titled},
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": plain}},
        "titledMulti": {"type": "array", "items": {"anyOf": titled}},
    }
    return await ask(ctx, params, "Elicitation completed", "Please choose.", properties)


# ---- 2026-07-28: the server answers "I need this first", and the client calls again


def elicit(message, **properties):
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return types.ElicitRequest(params=types.ElicitRequestFormParams(message=message, requested_schema=schema))


def sample(words, max_tokens):
    message = types.SamplingMessage(role="user", content=text(words))
    return types.CreateMessageRequest(
        params=types.CreateMessageRequestParams(messages=[message], max_tokens=max_tokens)
    )


def need(state=None, **requests):
    return types.InputRequiredResult(input_requests=requests or None, request_state=state)


def given(params, key):
    """What the client answered under this key; nothing when it is absent or of no use."""
    return (params.input_responses or {}).get(key)


def field(answer, name):
    """A field of an accepted form."""
    if not isinstance(answer, types.ElicitResult) or answer.action != "accept":
        return None
    return (answer.content or {}).get(name)


STRING, BOOLEAN = {"type": "string"}, {"type": "boolean"}


def user_name():
    return elicit("What is your name?", name=STRING)


@tool("test_input_required_result_elicitation", "Greets after it learned the name.")
async def required_elicitation(ctx, params):
    name = field(given(params, "user_name"), "name")
    return said(text(f"Hello, {name}!")) if isinstance(name, str) else need(user_name=user_name())


@tool("test_streaming_elicitation", "Reports progress, then needs an answer.")
async def streaming_elicitation(ctx, params):
    await ctx.session.report_progress(1, 2)
    return await required_elicitation(ctx, params)


@tool("test_input_required_result_sampling", "Answers what the client's model said.")
async def required_sampling(ctx, params):
    answer = given(params, "capital_question")
    if answer is None:
        return need(capital_question=sample("What is the capital of France?", 100))
    return said(text(f"The model said: {getattr(answer.content, 'text', answer.content)}"))


@tool("test_input_required_result_list_roots", "Answers what roots the client has.")
async def required_roots(ctx, params):
    answer = given(params, "client_roots")
    if answer is None:
        return need(client_roots=types.ListRootsRequest())
    return said(text("Roots: " + ", ".join(str(root.uri) for root in answer.roots)))


def confirm():
    return elicit("Please confirm", ok=BOOLEAN)


@tool("test_input_required_result_request_state", "Confirms with a state of its own.")
async def required_state(ctx, params):
    if given(params, "confirm") is None or params.request_state is None:
        return need("waiting-for-confirm", confirm=confirm())
    if params.request_state != "waiting-for-confirm":
        raise MCPError(INVALID_PARAMS, "Invalid requestState")
    return said(text("state-ok"))


@tool("test_input_required_result_tampered_state", "Confirms; a state that was changed is refused.")
async def required_tampered(ctx, params):
    # The boundary in front of us seals what leaves and refuses what comes back changed.
    return await required_state(ctx, params)


@tool("test_input_required_result_multiple_inputs", "Needs three answers at once.")
async def required_multiple(ctx, params):
    keys = ["user_name", "greeting", "client_roots"]
    if any(given(params, key) is None for key in keys):
        return need(
            "waiting-for-three",
            user_name=user_name(),
            greeting=sample("Generate a greeting", 50),
            client_roots=types.ListRootsRequest(),
        )
    return said(text(f"All there, {field(given(params, 'user_name'), 'name')}."))


@tool("test_input_required_result_multi_round", "Needs two answers, one after the other.")
async def required_rounds(ctx, params):
    if params.request_state is None or given(params, "step1") is None and given(params, "step2") is None:
        return need("round 1", step1=elicit("Step 1: What is your name?", name=STRING))
    if params.request_state == "round 1":
        return need("round 2", step2=elicit("Step 2: What is your favorite color?", color=STRING))
    return said(text(f"Favorite color: {field(given(params, 'step2'), 'color')}"))


@tool("test_input_required_result_capabilities", "Asks only what the client can answer.")
async def required_capabilities(ctx, params):
    can = ctx.session.client_capabilities or types.ClientCapabilities()
    asked = {}
    if can.sampling is not None:
        asked["sampled"] = sample("Say hello", 50)
    if can.elicitation is not None:
        asked["user_name"] = user_name()
    if not asked or any(given(params, key) is not None for key in asked):
        return said(text("Nothing more to ask."))
    return need(**asked)


@tool("test_missing_capability", "Cannot work without sampling.")
async def missing_capability(ctx, params):
    can = ctx.session.client_capabilities
    if one_era == "legacy":
        # The older revision has no such error: its servers ask, and see what comes of it.
        asked = sample("Say hello", 50).params
        await ctx.session.create_message(asked.messages, max_tokens=50, related_request_id=ctx.request_id)
    elif can is None or can.sampling is None:
        data = {"requiredCapabilities": {"sampling": {}}}
        raise MCPError(MISSING_CAPABILITY, "This tool needs the capability `sampling`", data)
    return said(text("The client can sample."))


# ---- prompts


@prompt("test_simple_prompt", "One sentence.")
async def simple_prompt(params):
    return [user(text("This is a simple prompt for testing."))]


@prompt("test_prompt_with_arguments", "Two arguments.", "arg1", "arg2")
async def prompt_with_arguments(params):
    given_ = params.arguments or {}
    return [user(text(f"Prompt with arguments: arg1='{given_.get('arg1')}', arg2='{given_.get('arg2')}'"))]


@prompt("test_prompt_with_embedded_resource", "A resource inside.", "resourceUri")
async def prompt_with_resource(params):
    uri = (params.arguments or {}).get("resourceUri", "test://example-resource")
    resource = embedded(uri, "text/plain", "Embedded resource content for testing.")
    return [user(resource), user(text("Please process the embedded resource above."))]


@prompt("test_prompt_with_image", "An image inside.")
async def prompt_with_image(params):
    return [user(image()), user(text("Please analyze the image above."))]


@prompt("test_input_required_result_prompt", "Needs an answer first.")
async def required_prompt(params):
    context = field(given(params, "user_context"), "context")
    if context is None:
        return need(user_context=elicit("What context should the prompt use?", context=STRING))
    return [user(text(f"Use this context: {context}"))]


# ---- resources

RESOURCES = {
    "test://static-text": ("text/plain", "This is the content of the static text resource.", None),
    "test://static-binary": ("image/png", None, PNG),
    "test://watched-resource": ("text/plain", "Watch me.", None),
}
TEMPLATE = "test://template/{id}/data"


def read(uri):
    if uri in RESOURCES:
        mime_type, words, blob = RESOURCES[uri]
        if blob is not None:
            return types.BlobResourceContents(uri=uri, mime_type=mime_type, blob=blob)
        return types.TextResourceContents(uri=uri, mime_type=mime_type, text=words)
    head, tail = TEMPLATE.split("{id}")
    if uri.startswith(head) and uri.endswith(tail) and len(uri) > len(head) + len(tail):
        name = uri[len(head) : -len(tail)]
        data = json.dumps({"id": name, "templateTest": True, "data": f"Data for ID: {name}"})
        return types.TextResourceContents(uri=uri, mime_type="application/json", text=data)
    raise MCPError(INVALID_PARAMS, "Resource not found", {"uri": uri})


# ---- the server


async def list_tools(ctx, params):
    return types.ListToolsResult(tools=[listed for listed, _ in tools.values()])


async def call_tool(ctx, params):
    if params.name not in tools:
        raise MCPError(INVALID_PARAMS, f"Unknown tool: {params.name}")
    return await answered(ctx, params, lambda params: tools[params.name][1](ctx, params))


async def answered(ctx, params, handler):
    """What the handler answers. A server of the old era alone asks in its middle what the new era asks in an answer."""
    while True:
        result = await handler(params)
        if one_era != "legacy" or not isinstance(result, types.InputRequiredResult):
            return result
        responses = {key: await put(ctx, request) for key, request in (result.input_requests or {}).items()}
        more = {"input_responses": responses, "request_state": result.request_state}
        params = params.model_copy(update=more)


async def put(ctx, request):
    """One request to the client, in the old era."""
    if isinstance(request, types.ElicitRequest):
        form = request.params
        return await ctx.session.elicit_form(form.message, form.requested_schema, related_request_id=ctx.request_id)
    if isinstance(request, types.CreateMessageRequest):
        asked = request.params
        return await ctx.session.create_message(
            asked.messages, max_tokens=asked.max_tokens, related_request_id=ctx.request_id
        )
    return await ctx.session.list_roots()


async def list_prompts(ctx, params):
    return types.ListPromptsResult(prompts=[listed for listed, _ in prompts.values()])


async def get_prompt(ctx, params):
    if params.name not in prompts:
        raise MCPError(INVALID_PARAMS, f"Unknown prompt: {params.name}")
    answer = await answered(ctx, params, prompts[params.name][1])
    return answer if isinstance(answer, types.InputRequiredResult) else types.GetPromptResult(messages=answer)


async def list_resources(ctx, params):
    listed = [types.Resource(uri=uri, name=uri.split("//")[1], mime_type=entry[0]) for uri, entry in RESOURCES.items()]
    return types.ListResourcesResult(resources=listed)


async def list_templates(ctx, params):
    template = types.ResourceTemplate(uri_template=TEMPLATE, name="template", mime_type="application/json")
    return types.ListResourceTemplatesResult(resource_templates=[template])


async def read_resource(ctx, params):
    return types.ReadResourceResult(contents=[read(str(params.uri))])


async def complete(ctx, params):
    values = [word for word in ["paris", "park", "party", "test"] if word.startswith(params.argument.value)]
    return types.CompleteResult(completion=types.Completion(values=values, total=len(values), has_more=False))


async def nothing(ctx, params):
    return types.EmptyResult()


class Memory(EventStore):
    """Keeps the events of this process, so that a client may come back for them."""

    def __init__(self):
        self.events = []

    async def store_event(self, stream_id, message):
        self.events.append((stream_id, message))
        return str(len(self.events))

    async def replay_events_after(self, last_event_id, send_callback):
        after = int(last_event_id)
        if not 0 < after <= len(self.events):
            return None
        stream = self.events[after - 1][0]
        for number, (stream_id, message) in enumerate(self.events[after:], after + 1):
            if stream_id == stream and message is not None:
                await send_callback(EventMessage(message, str(number)))
        return stream


def build():
    server = Server(
        NAME,
        version="1",
        get_tool_input_schema=lambda name: tools[name][0].input_schema if name in tools else None,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_prompts=list_prompts,
        on_get_prompt=get_prompt,
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_read_resource=read_resource,
        on_subscribe_resource=nothing,
        on_unsubscribe_resource=nothing,
        on_subscriptions_listen=ListenHandler(bus),
        on_completion=complete,
        on_set_logging_level=nothing,
    )
    server.middleware.append(RequestStateBoundary(RequestStateSecurity.ephemeral(), default_audience=NAME))
    return server


class OneEra:
    """Lets through one revision alone and answers the other as a server does that never heard of it."""

    def __init__(self, app, era):
        self.app, self.modern = app, era == "modern"

    async def __call__(self, scope, receive, send):
        version = dict(scope.get("headers", ())).get(b"mcp-protocol-version", b"")
        if scope["type"] != "http" or (version == b"2026-07-28") is self.modern:
            await self.app(scope, receive, send)
            return
        if self.modern:
            status, error = 400, {"code": -32022, "message": "Unsupported protocol version"}
            error["data"] = {"supported": ["2026-07-28"], "requested": version.decode() or "2025-11-25"}
        else:
            status, error = 400, {"code": -32600, "message": "Bad Request: Unsupported protocol version"}
        if self.modern and scope["method"] != "POST":
            status = 405
        body = json.dumps({"jsonrpc": "2.0", "id": None, "error": error}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class OneEraLines:
    """The same for a server that is spoken to on its standard input."""

    def __init__(self, reader, writer, era):
        self.reader, self.writer, self.modern = reader, writer, era == "modern"

    def __getattr__(self, name):
        return getattr(self.reader, name)

    def __aiter__(self):
        return self

    async def __aenter__(self):
        await self.reader.__aenter__()
        return self

    async def __aexit__(self, *error):
        return await self.reader.__aexit__(*error)

    async def __anext__(self):
        while True:
            item = await self.reader.__anext__()
            message = getattr(item, "message", None)
            if not isinstance(message, types.JSONRPCRequest):
                return item
            meta = (message.params or {}).get("_meta") or {}
            if ("io.modelcontextprotocol/protocolVersion" in meta) is self.modern:
                return item
            error = types.ErrorData(code=-32601, message="Method not found")
            await self.writer.send(SessionMessage(types.JSONRPCError(jsonrpc="2.0", id=message.id, error=error)))


async def serve_stdio(server):
    options = server.create_initialization_options(NotificationOptions())
    async with stdio_server() as (reader, writer):
        await server.run(OneEraLines(reader, writer, one_era) if one_era else reader, writer, options)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--port", type=int, help="serve Streamable HTTP on this port of loopback; else stdio")
    arguments.add_argument("--era", choices=["legacy", "modern"], help="speak one revision alone")
    given_arguments = arguments.parse_args()
    port = given_arguments.port
    global one_era
    one_era = given_arguments.era
    if port is None:
        asyncio.run(serve_stdio(build()))
        return
    hosts = [f"{name}:*" for name in ("127.0.0.1", "localhost", "[::1]")]
    security = TransportSecuritySettings(
        enable_dns_rebinding_protection=True,
        allowed_hosts=hosts,
        allowed_origins=[f"http://{host}" for host in hosts],
    )
    # A short retry keeps the polling scenario quick.
    app = build().streamable_http_app(event_store=Memory(), retry_interval=500, transport_security=security)
    if one_era:
        app = OneEra(app, one_era)
    print(f"serving on {port}", file=sys.stderr)
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main()
