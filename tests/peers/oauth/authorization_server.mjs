// A certified authorization server (oidc-provider) with one user, ada, who says yes to everything. Resources whose path
// ends in `opaque` get opaque tokens, all others JWTs. `/control/rotate` signs with a new key from then on.
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { generateKeyPairSync } from 'node:crypto';
import { pathToFileURL } from 'node:url';

const [port, resources] = [Number(process.argv[2]), JSON.parse(process.argv[3])];
const find = createRequire(`${process.env.OAUTH_MODULES}/`);
const { default: Provider, errors } = await import(pathToFileURL(find.resolve('oidc-provider')));
const issuer = `http://127.0.0.1:${port}`;
const keys = [];
let handler;

function signingKey(kid) {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return { ...privateKey.export({ format: 'jwk' }), kid, alg: 'ES256', use: 'sig' };
}

const machine = (client_id, more = {}) => ({
  client_id,
  client_secret: `secret of ${client_id}, long enough for it`,
  grant_types: ['client_credentials'],
  redirect_uris: [],
  response_types: [],
  ...more,
});

function configuration() {
  return {
    jwks: { keys },
    cookies: { keys: ['a key for the cookies of a test'] },
    clients: [machine('gateway'), machine('program'), machine('prover', { dpop_bound_access_tokens: true })],
    clientDefaults: { id_token_signed_response_alg: 'ES256', token_endpoint_auth_method: 'client_secret_basic' },
    pkce: { required: () => true },
    scopes: ['openid', 'offline_access', 'mcp', 'tools:drop'],
    findAccount: (_, accountId) => ({ accountId, claims: () => ({ sub: accountId }) }),
    extraTokenClaims: () => ({ groups: ['dev'] }),
    interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
    routes: { introspection: '/introspect', revocation: '/revoke' },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      dPoP: { enabled: true },
      registration: { enabled: true },
      revocation: { enabled: true, allowedPolicy: () => true },
      // Without a rule any client may ask about any token.
      introspection: { enabled: true, allowedPolicy: (_, client) => client.clientId === 'gateway' },
      resourceIndicators: {
        enabled: true,
        useGrantedResource: () => true,
        getResourceServerInfo: (_, resource) => {
          if (!resources.includes(resource)) throw new errors.InvalidTarget();
          return {
            scope: 'mcp tools:drop',
            audience: resource,
            accessTokenTTL: 300,
            accessTokenFormat: resource.endsWith('opaque') ? 'opaque' : 'jwt',
            jwt: { sign: { alg: 'ES256' } },
          };
        },
      },
    },
  };
}

function renew() {
  keys.unshift(signingKey(`key-${keys.length + 1}`));
  const provider = new Provider(issuer, configuration());
  const serve = provider.callback();
  handler = (request, response) =>
    request.url.startsWith('/interaction/') ? interact(provider, request, response) : serve(request, response);
}

// What a person would do in a browser: log in, and agree to what is asked.
async function interact(provider, request, response) {
  const { prompt, params, session, grantId } = await provider.interactionDetails(request, response);
  if (prompt.name === 'login') {
    return provider.interactionFinished(request, response, { login: { accountId: 'ada' } });
  }
  const grant = grantId
    ? await provider.Grant.find(grantId)
    : new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  const { missingOIDCScope, missingOIDCClaims, missingResourceScopes } = prompt.details;
  if (missingOIDCScope) grant.addOIDCScope(missingOIDCScope.join(' '));
  if (missingOIDCClaims) grant.addOIDCClaims(missingOIDCClaims);
  for (const [resource, scopes] of Object.entries(missingResourceScopes ?? {})) {
    grant.addResourceScope(resource, scopes.join(' '));
  }
  const result = { consent: { grantId: await grant.save() } };
  return provider.interactionFinished(request, response, result, { mergeWithLastSubmission: true });
}

// Clients register with the first scope that they were asked for. Taken at their word they could never ask for more.
async function register(request) {
  let text = '';
  for await (const part of request) text += part;
  const { scope, ...rest } = JSON.parse(text);
  request.body = rest;
}

renew();
createServer(async (request, response) => {
  if (request.url === '/control/rotate') {
    renew();
    return response.end('rotated');
  }
  if (request.url === '/reg' && request.method === 'POST') await register(request);
  return Promise.resolve(handler(request, response)).catch((error) => {
    console.error(error);
    response.writeHead(500).end();
  });
}).listen(port, '127.0.0.1');
