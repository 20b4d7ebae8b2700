// The official TypeScript client doing what each client scenario of the conformance suite asks for. Its last argument
// is the server's URL; the scenario, its revision and its context come in the variables the suite sets. A bearer token
// comes in PEER_BEARER where a gateway stands between.
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

import { connect, link } from './person.mjs';

const find = createRequire(`${process.env.PEER_MODULES}/`);
const load = (name) => import(pathToFileURL(find.resolve(name)));
const { Client, StreamableHTTPClientTransport } = await load('@modelcontextprotocol/client');

const url = process.argv.at(-1);
const scenario = process.env.MCP_CONFORMANCE_SCENARIO;
const revision = process.env.MCP_CONFORMANCE_PROTOCOL_VERSION;
const context = JSON.parse(process.env.MCP_CONFORMANCE_CONTEXT ?? '{}');
const bearer = process.env.PEER_BEARER;

/** A client that answers forms: with what it is told, or with nothing, which leaves every field at its default. */
async function open(content) {
  const mode = revision === '2026-07-28' ? { pin: revision } : 'legacy';
  const elicitation = { form: { applyDefaults: true } };
  const client = new Client(
    { name: 'conformance-client', version: '1' },
    { capabilities: { elicitation }, versionNegotiation: { mode } },
  );
  client.setRequestHandler('elicitation/create', () => ({ action: 'accept', content }));
  const headers = bearer ? { Authorization: `Bearer ${bearer}` } : {};
  await client.connect(new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers } }));
  return client;
}

/** Arguments that a tool takes: a word for each string it requires. */
function fitting(tool) {
  return Object.fromEntries((tool.inputSchema.required ?? []).map((name) => [name, 'word']));
}

async function everyTool(client) {
  for (const tool of (await client.listTools()).tools) {
    await client.callTool({ name: tool.name, arguments: fitting(tool) });
  }
}

const plans = {
  initialize: (client) => client.listTools(),
  'request-metadata': (client) => client.listTools(),
  'json-schema-ref-no-deref': (client) => client.listTools(),
  'elicitation-sep1034-client-defaults': everyTool,
  'sse-retry': everyTool,
  'http-invalid-tool-headers': everyTool,
  tools_call: async (client) => {
    await client.listTools();
    await client.callTool({ name: 'add_numbers', arguments: { a: 5, b: 3 } });
  },
  'sep-2322-client-request-state': async (client) => {
    const names = (await client.listTools()).tools.map((tool) => tool.name);
    // At once, so that what belongs to one call could stray into another. One answer breaks a rule of the revision on
    // purpose, and this client says so; that it does not call again is what the scenario wants to see.
    await Promise.allSettled(names.map((name) => client.callTool({ name, arguments: {} })));
  },
  'http-standard-headers': async (client) => {
    await everyTool(client);
    for (const { uri } of (await client.listResources()).resources) {
      await client.readResource({ uri });
    }
    for (const { name } of (await client.listPrompts()).prompts) {
      await client.getPrompt({ name });
    }
  },
  'http-custom-headers': async (client) => {
    await client.listTools();
    for (const call of context.toolCalls) {
      const result = await client.callTool(call);
      if (result.isError) {
        throw new Error(JSON.stringify(result));
      }
    }
  },
  'json-schema-2020-12-preservation': async (client) => {
    const { tools } = await client.listTools();
    const focal = tools.find((tool) => tool.name === 'json_schema_2020_12_tool');
    await client.callTool({ name: 'json_schema_echo', arguments: { schema: focal.inputSchema } });
  },
};

/** What the client wants to do, again after its user connected, as often as the gateway asks for that. */
async function authorized(action) {
  for (let attempt = 0; ; attempt += 1) {
    let told;
    try {
      const result = await action();
      if (!result?.isError) {
        return result;
      }
      told = JSON.stringify(result);
    } catch (error) {
      told = `${error?.stack} ${JSON.stringify(error)}`;
    }
    const where = link(told);
    if (where === undefined || attempt === 5) {
      throw new Error(`not authorized: ${told}`);
    }
    await connect(where, bearer);
  }
}

// The gateway is the OAuth client of these scenarios; its own client only goes on until it is let in.
if (scenario.startsWith('auth/')) {
  const client = await authorized(() => open({}));
  const { tools } = await authorized(() => client.listTools());
  for (const tool of tools) {
    await authorized(() => client.callTool({ name: tool.name, arguments: fitting(tool) }));
  }
  await client.close();
  process.exit(0);
}

const plan = plans[scenario];
if (plan === undefined) {
  throw new Error(`no plan for \`${scenario}\``);
}
const client = await open(scenario.startsWith('sep-2322') ? { confirmed: true } : {});
await plan(client);
await client.close();
process.exit(0);
