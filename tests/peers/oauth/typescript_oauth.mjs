// The official TypeScript SDK as an OAuth client: it knows the URL of the server and nothing else. Discovers, registers,
// gets a token with PKCE, lists, calls, and calls what needs another scope; then prints what came of it as one JSON object.
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const [revision] = process.argv.slice(2);
const find = createRequire(`${process.env.PEER_MODULES}/`);
const sdk = await import(pathToFileURL(find.resolve('@modelcontextprotocol/client')));
const { Client, StreamableHTTPClientTransport } = sdk;
const callback = 'http://127.0.0.1:9/callback';
const asked = [];
let kept = {};
let arrived;

// Follows redirects with cookies, as far as the client's own address.
async function browse(url) {
  const cookies = new Map();
  for (let step = 0; step < 12; step += 1) {
    const cookie = [...cookies].map(([name, value]) => `${name}=${value}`).join('; ');
    const answer = await fetch(url, { redirect: 'manual', headers: { cookie } });
    if (answer.status !== 302 && answer.status !== 303) {
      throw new Error(`${answer.status} at ${url}: ${(await answer.text()).slice(0, 300)}`);
    }
    for (const line of answer.headers.getSetCookie()) {
      const [name, value] = line.split(';')[0].split(/=(.*)/s);
      cookies.set(name, value);
    }
    url = new URL(answer.headers.get('location'), url);
    if (url.href.startsWith(callback)) return url.searchParams;
  }
  throw new Error('no way back to the client');
}

const authProvider = {
  get redirectUrl() {
    return callback;
  },
  get clientMetadata() {
    return { client_name: 'peer', redirect_uris: [callback], application_type: 'native', token_endpoint_auth_method: 'none' };
  },
  state: () => 'a state of this test',
  clientInformation: () => kept.client,
  saveClientInformation: (client) => void (kept.client = client),
  tokens: () => kept.tokens,
  saveTokens: (tokens) => void (kept.tokens = tokens),
  redirectToAuthorization: async (url) => {
    asked.push(Object.fromEntries(url.searchParams));
    arrived = await browse(url);
  },
  saveCodeVerifier: (verifier) => void (kept.verifier = verifier),
  codeVerifier: () => kept.verifier,
  saveDiscoveryState: (state) => void (kept.discovery = state),
  discoveryState: () => kept.discovery,
};

const mode = revision === '2025-11-25' ? 'legacy' : { pin: revision };
const url = new URL(process.env.PEER_URL);
let client, transport;

async function connect() {
  client = new Client({ name: 'peer', version: '1' }, { versionNegotiation: { mode } });
  transport = new StreamableHTTPClientTransport(url, { authProvider });
  await client.connect(transport);
}

// Does it again once the person has agreed, as an application would.
async function agreed(action) {
  try {
    return await action();
  } catch (error) {
    if (!arrived) throw error;
    const here = arrived;
    arrived = undefined;
    await transport.finishAuth(here);
    if (!client.transport || action === connect) await connect();
    return action === connect ? undefined : action();
  }
}

async function attempt(call) {
  try {
    const result = await agreed(call);
    return { error: result.isError === true, text: JSON.stringify(result) };
  } catch (error) {
    return { error: true, text: String(error?.stack ?? error) };
  }
}

await agreed(connect);
const seen = { version: client.getNegotiatedProtocolVersion?.() ?? transport.protocolVersion };
seen.tools = (await client.listTools()).tools.map((tool) => tool.name);
seen.call = await attempt(() => client.callTool({ name: 'add', arguments: { a: 20, b: 22 } }));
seen.before = kept.tokens.scope;
seen.step_up = await attempt(() => client.callTool({ name: 'drop', arguments: { table: 'users' } }));
seen.after = kept.tokens.scope;
seen.asked = asked;
console.log(JSON.stringify(seen));
process.exit(0);
