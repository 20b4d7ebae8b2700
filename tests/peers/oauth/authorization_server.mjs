// A certified authorization server (oidc-provider) with one user, ada, who says yes to everything. Resources whose path
// ends in `opaque` get opaque tokens, all others JWTs, which last two seconds where it ends in `brief`. `/control/rotate`
// signs with a new key from then on; `/control/exchanges` lists what was exchanged (RFC 8693),
// `/control/revoked` counts grants that were ended.
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { generateKeyPairSync } from 'node:crypto';
import { pathToFileURL } from 'node:url';

const [port, resources] = [Number(process.argv[2]), JSON.parse(process.argv[3])];
const find = createRequire(`${process.env.OAUTH_MODULES}/`);
const load = (name) => import(pathToFileURL(find.resolve(name)));
const { default: Provider, errors } = await load('oidc-provider');
const { createLocalJWKSet, jwtVerify } = await load('jose');
const EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';
const TOKEN = 'urn:ietf:params:oauth:token-type:access_token';
const exchanges = [];
let revoked = 0;
const issuer = `http://127.0.0.1:${port}`;
const keys = [];
let handler;

function signingKey(kid) {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return { ...privateKey.export({ format: 'jwk' }), kid, alg: 'ES256', use: 'sig' };
}

function resourceServer(resource) {
  if (!resources.includes(resource)) throw new errors.InvalidTarget();
  return {
    scope: 'mcp tools:drop',
    audience: resource,
    accessTokenTTL: resource.endsWith('brief') ? 2 : 300,
    accessTokenFormat: resource.endsWith('opaque') ? 'opaque' : 'jwt',
    jwt: { sign: { alg: 'ES256' } },
  };
}

// Whose token it is: a JWT that this issuer signed, and that is not over.
async function subject(token) {
  const known = keys.map(({ d, ...key }) => key);
  try {
    return (await jwtVerify(token, createLocalJWKSet({ keys: known }), { issuer })).payload;
  } catch {
    throw new errors.InvalidGrant('the token is none of ours, or over');
  }
}

// An access token in exchange for another (RFC 8693), for one resource.
async function exchange(ctx) {
  const { params, client, provider } = ctx.oidc;
  if (params.subject_token_type !== TOKEN || params.requested_token_type !== TOKEN) throw new errors.InvalidRequest();
  const of = await subject(params.subject_token);
  const actor = params.actor_token && (await provider.ClientCredentials.find(params.actor_token))?.clientId;
  if (params.actor_token && !actor) throw new errors.InvalidGrant('nobody acts');
  exchanges.push({ client: client.clientId, sub: of.sub, resource: params.resource, scope: params.scope, actor });
  if (of.sub === 'stranger') throw new errors.InvalidGrant('not for strangers');
  const info = resourceServer(params.resource);
  const token = new provider.AccessToken({ accountId: of.sub, client, gty: 'token_exchange', scope: params.scope });
  token.resourceServer = new provider.ResourceServer(params.resource, info);
  token.extra = actor && { act: { sub: actor } };
  ctx.body = {
    access_token: await token.save(),
    issued_token_type: TOKEN,
    token_type: token.tokenType,
    expires_in: token.expiration,
    scope: params.scope,
  };
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
    clients: [
      machine('gateway'),
      machine('program'),
      machine('stranger'),
      machine('prover', { dpop_bound_access_tokens: true }),
      machine('exchanger', { grant_types: ['client_credentials', EXCHANGE] }),
      machine('web', {
        grant_types: ['authorization_code', 'refresh_token'],
        redirect_uris: [process.argv[4]],
        response_types: ['code'],
        // Redirects of this test go to loopback.
        application_type: 'native',
      }),
    ],
    clientDefaults: { id_token_signed_response_alg: 'ES256', token_endpoint_auth_method: 'client_secret_basic' },
    pkce: { required: () => true },
    scopes: ['openid', 'offline_access', 'mcp', 'tools:drop'],
    findAccount: (_, accountId) => ({ accountId, claims: () => ({ sub: accountId }) }),
    extraTokenClaims: (_, token) => ({ groups: ['dev'], ...token.extra }),
    // Every refresh token counts once, and one that comes again ends the grant.
    rotateRefreshToken: () => true,
    ttl: { Grant: 3600, Interaction: 600, Session: 3600, RefreshToken: 3600 },
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
        getResourceServerInfo: (_, resource) => resourceServer(resource),
      },
    },
  };
}

function renew() {
  keys.unshift(signingKey(`key-${keys.length + 1}`));
  const provider = new Provider(issuer, configuration());
  const given = ['subject_token', 'subject_token_type', 'requested_token_type', 'resource', 'audience', 'scope'];
  provider.on('grant.revoked', () => (revoked += 1));
  provider.registerGrantType(EXCHANGE, exchange, [...given, 'actor_token', 'actor_token_type']);
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
  if (request.url === '/control/revoked') return response.end(String(revoked));
  if (request.url === '/control/exchanges') return response.end(JSON.stringify(exchanges));
  if (request.url === '/reg' && request.method === 'POST') await register(request);
  return Promise.resolve(handler(request, response)).catch((error) => {
    console.error(error);
    response.writeHead(500).end();
  });
}).listen(port, '127.0.0.1');
