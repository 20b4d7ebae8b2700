// The official TypeScript client (v2) in either revision, doing everything that it can do: what it sent and got an answer
// to, and what it was told and asked, as one JSON object. Packages are found through PEER_MODULES.
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const find = createRequire(`${process.env.PEER_MODULES}/`);
const { Client, StreamableHTTPClientTransport } = await import(
  pathToFileURL(find.resolve('@modelcontextprotocol/client'))
);
const revision = process.argv[2];
const legacy = revision === '2025-11-25';
const uri = 'test://watched-resource';
const sent = {};
const told = {};
const changes = ['tools/list_changed', 'prompts/list_changed', 'resources/list_changed', 'resources/updated'];
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

function hear(method) {
  told[method] = (told[method] ?? 0) + 1;
}

/** Notes whether what the client sent was taken. */
async function attempt(method, call) {
  try {
    const result = await call();
    sent[method] = result?.isError === true ? JSON.stringify(result) : true;
  } catch (error) {
    sent[method] = String(error);
  }
}

/** Lets the server tell of changes until all have come. */
async function change(client) {
  const due = Date.now() + 15_000;
  while (changes.some((name) => !told[`notifications/${name}`]) && Date.now() < due) {
    await client.callTool({ name: 'cell_changes', arguments: {} });
    await pause(200);
  }
}

/** Gives a call up, and asks until the server knows. */
async function cancel(client) {
  const count = async () => JSON.stringify(await client.callTool({ name: 'cell_cancelled', arguments: {} }));
  const before = await count();
  // What is given up before it arrives is heard of by nobody: a slow machine gets more time with every try.
  for (const patience of [1_500, 3_000, 6_000, 12_000]) {
    const abort = new AbortController();
    setTimeout(() => abort.abort('enough'), patience);
    await client.callTool({ name: 'cell_slow', arguments: {} }, { signal: abort.signal }).catch(() => {});
    const due = Date.now() + 15_000;
    while (Date.now() < due) {
      if ((await count()) !== before) {
        return;
      }
      await pause(100);
    }
  }
  throw new Error(`the server was not told: ${before}`);
}

const client = new Client(
  { name: 'cells', version: '1' },
  {
    capabilities: { elicitation: { form: {} }, sampling: {}, roots: { listChanged: true } },
    versionNegotiation: { mode: legacy ? 'legacy' : { pin: revision } },
  },
);
client.setRequestHandler('elicitation/create', () => {
  hear('elicitation/create');
  return { action: 'accept', content: { username: 'ada', email: 'a@example.org', name: 'ada' } };
});
client.setRequestHandler('sampling/createMessage', () => {
  hear('sampling/createMessage');
  return { role: 'assistant', model: 'm', content: { type: 'text', text: 'hi' } };
});
client.setRequestHandler('roots/list', () => {
  hear('roots/list');
  return { roots: [{ uri: 'file:///tmp/x' }] };
});
client.fallbackNotificationHandler = async ({ method }) => hear(method);
const headers = process.env.PEER_BEARER ? { Authorization: `Bearer ${process.env.PEER_BEARER}` } : {};
await client.connect(new StreamableHTTPClientTransport(new URL(process.env.PEER_URL), { requestInit: { headers } }));

const ref = { type: 'ref/prompt', name: 'test_prompt_with_arguments' };
const call = (name, args = {}, options) => client.callTool({ name, arguments: args }, options);
await attempt('tools/call', () => call('test_simple_text'));
await attempt('resources/read', () => client.readResource({ uri: 'test://static-text' }));
await attempt('prompts/get', () => client.getPrompt({ name: 'test_simple_prompt' }));
await attempt('tools/list', () => client.listTools());
await attempt('prompts/list', () => client.listPrompts());
await attempt('resources/list', () => client.listResources());
await attempt('resources/templates/list', () => client.listResourceTemplates());
await attempt('completion/complete', () => client.complete({ ref, argument: { name: 'arg1', value: 'pa' } }));
await attempt('progress', () =>
  call('test_tool_with_progress', {}, { onprogress: () => hear('notifications/progress') }),
);
await attempt('test_reconnection', () => call('test_reconnection'));
await attempt('test_sampling', () => call('test_sampling', { prompt: 'hello' }));
await attempt('test_elicitation', () => call('test_elicitation', { message: 'who?' }));
await attempt('test_input_required_result_list_roots', () => call('test_input_required_result_list_roots'));
await attempt('notifications/cancelled', () => cancel(client));
if (legacy) {
  sent.initialize = sent['notifications/initialized'] = true;
  await attempt('ping', () => client.ping());
  await attempt('logging/setLevel', () => client.setLoggingLevel('debug'));
  await attempt('logs', () => call('test_tool_with_logging'));
  await attempt('resources/subscribe', () => client.subscribeResource({ uri }));
  await change(client);
  await attempt('resources/unsubscribe', () => client.unsubscribeResource({ uri }));
  await attempt('notifications/roots/list_changed', () => client.sendRootsListChanged());
} else {
  await attempt('server/discover', () => client.discover());
  const _meta = { 'io.modelcontextprotocol/logLevel': 'debug' };
  await attempt('logs', () => client.callTool({ name: 'test_tool_with_logging', arguments: {}, _meta }));
  await attempt('subscriptions/listen', async () => {
    const all = { toolsListChanged: true, promptsListChanged: true, resourcesListChanged: true };
    const subscription = await client.listen({ ...all, resourceSubscriptions: [uri] });
    hear('notifications/subscriptions/acknowledged');
    await change(client);
    await subscription.close();
  });
}
await attempt('server ping', () => call('cell_ping'));
await client.close();
console.log(JSON.stringify({ sent, told }));
process.exit(0);
