// The official TypeScript client (v2 for either revision, v1 for the old one): opens, lists, calls, is refused, reads
// and asks, then prints what came of it as one JSON object. Packages are found through PEER_MODULES.
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const [revision, line] = process.argv.slice(2);
const find = createRequire(`${process.env.PEER_MODULES}/`);
const load = (name) => import(pathToFileURL(find.resolve(name)));
const { Client, StreamableHTTPClientTransport, StdioClientTransport } =
  line === 'v1'
    ? {
        ...(await load('@modelcontextprotocol/sdk/client/index.js')),
        ...(await load('@modelcontextprotocol/sdk/client/streamableHttp.js')),
        ...(await load('@modelcontextprotocol/sdk/client/stdio.js')),
      }
    : {
        ...(await load('@modelcontextprotocol/client')),
        ...(await load('@modelcontextprotocol/client/stdio')),
      };

async function attempt(call) {
  try {
    const result = await call();
    return { error: result.isError === true, text: JSON.stringify(result) };
  } catch (error) {
    return { error: true, text: String(error) };
  }
}

const plan = JSON.parse(process.env.PEER_PLAN);
const bearer = process.env.PEER_BEARER;
const headers = bearer ? { Authorization: `Bearer ${bearer}` } : {};
const mode = revision === '2025-11-25' ? 'legacy' : { pin: revision };
const client = new Client({ name: 'peer', version: '1' }, { versionNegotiation: { mode } });
const [command, ...args] = JSON.parse(process.env.PEER_COMMAND ?? '[]');
const transport = command
  ? new StdioClientTransport({ command, args })
  : new StreamableHTTPClientTransport(new URL(process.env.PEER_URL), { requestInit: { headers } });
if (command) {
  // The older client tells its transport alone which version was agreed.
  transport.setProtocolVersion = (agreed) => {
    transport.protocolVersion = agreed;
  };
}
await client.connect(transport);
const version = client.getNegotiatedProtocolVersion?.() ?? transport.protocolVersion;
const seen = { version, tools: (await client.listTools()).tools.map((tool) => tool.name) };
for (const key of ['call', 'refused']) {
  seen[key] = await attempt(() => client.callTool(plan[key]));
}
if (plan.resource) {
  seen.resource = await attempt(() => client.readResource(plan.resource));
}
if (plan.prompt) {
  seen.prompt = await attempt(() => client.getPrompt(plan.prompt));
}
await client.close();
console.log(JSON.stringify(seen));
process.exit(0);
