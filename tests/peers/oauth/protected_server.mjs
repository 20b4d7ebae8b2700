// An MCP server (2026-07-28) that takes access tokens of one issuer for itself alone, judged by `jose`. Its tool `whoami`
// says what the token says. `/control/seen` lists every Authorization header that came.
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const [port, issuer, ...paths] = [Number(process.argv[2]), process.argv[3], ...process.argv.slice(4)];
const find = createRequire(`${process.env.OAUTH_MODULES}/`);
const { createRemoteJWKSet, jwtVerify } = await import(pathToFileURL(find.resolve('jose')));
const keys = createRemoteJWKSet(new URL(`${issuer}/jwks`), { cooldownDuration: 0 });
const base = `http://127.0.0.1:${port}`;
const seen = [];

const answers = {
  'server/discover': () => ({
    supportedVersions: ['2026-07-28'],
    capabilities: { tools: {} },
    serverInfo: { name: 'protected', version: '1' },
    ttlMs: 60000,
    cacheScope: 'private',
  }),
  'tools/list': () => ({
    tools: [{ name: 'whoami', inputSchema: { type: 'object' } }],
    ttlMs: 60000,
    cacheScope: 'private',
  }),
  'tools/call': (claims) => ({ content: [{ type: 'text', text: JSON.stringify(claims) }] }),
};

function send(response, status, body, headers = {}) {
  response.writeHead(status, { 'content-type': 'application/json', ...headers });
  response.end(JSON.stringify(body));
}

async function answer(request, response) {
  let text = '';
  for await (const part of request) text += part;
  if (request.url === '/control/seen') return send(response, 200, seen);
  const prefix = '/.well-known/oauth-protected-resource';
  if (request.url.startsWith(prefix)) {
    const resource = base + request.url.slice(prefix.length);
    return send(response, 200, { resource, authorization_servers: [issuer], scopes_supported: ['mcp'] });
  }
  if (!paths.includes(request.url)) return send(response, 404, {});
  const bearer = request.headers.authorization ?? '';
  seen.push(bearer);
  let claims;
  try {
    const judged = await jwtVerify(bearer.replace(/^Bearer /, ''), keys, { issuer, audience: base + request.url });
    claims = judged.payload;
  } catch (error) {
    const metadata = `${base}${prefix}${request.url}`;
    const challenge = `Bearer error="invalid_token", scope="mcp", resource_metadata="${metadata}"`;
    return send(response, 401, { error: String(error) }, { 'www-authenticate': challenge });
  }
  const { id, method } = JSON.parse(text);
  if (id === undefined) return response.writeHead(202).end();
  const result = answers[method]?.(claims);
  if (!result) return send(response, 404, { jsonrpc: '2.0', id, error: { code: -32601, message: 'no such method' } });
  return send(response, 200, { jsonrpc: '2.0', id, result: { resultType: 'complete', ...result } });
}

createServer((request, response) =>
  answer(request, response).catch((error) => {
    console.error(error);
    response.writeHead(500).end();
  }),
).listen(port, '127.0.0.1');
