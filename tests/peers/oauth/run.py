"""The gateway as a protected resource of a certified authorization server. Official clients that know nothing but the URL
of a server discover the rest, get tokens with PKCE and step up; then tokens of every kind are shown as they should be
and as they should not, and the authorization server rotates its keys and goes away."""

import base64
import hashlib
import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))

sys.path.insert(0, str(Path(__file__).resolve().parent))

import outgoing  # noqa: E402
import peers  # noqa: E402
from peers import LEGACY, MODERN  # noqa: E402

HERE = Path(__file__).resolve().parent
OAUTH = peers.CACHE / "npm-oauth/node_modules"
# What no other implementation has a hand in: proofs are signed by PyJWT, in this process.
JWT = peers.CACHE / "pypi/lib"


def fetch(url, data=None, headers=None):
    """Status, headers and text of an answer, whatever the status."""
    request = urllib.request.Request(url, data, headers or {})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()


class Issuer:
    """The authorization server."""

    def __init__(self, work, port, resources, callback):
        self.port, self.resources, self.callback, self.log = port, resources, callback, work / "issuer.log"
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self):
        environment = {**os.environ, "OAUTH_MODULES": str(OAUTH)}
        command = [peers.NODE, HERE / "authorization_server.mjs", self.port, json.dumps(self.resources), self.callback]
        self.child = peers.spawn(command, self.log, env=environment)
        peers.wait_port(self.port, self.child, self.log)

    def post(self, path, client, fields, headers=None):
        secret = f"secret of {client}, long enough for it"
        pair = ":".join(urllib.parse.quote(part, safe="") for part in (client, secret))
        basic = base64.b64encode(pair.encode()).decode()
        headers = {"Authorization": f"Basic {basic}", **(headers or {})}
        status, _, text = fetch(self.url + path, urllib.parse.urlencode(fields).encode(), headers)
        return status, json.loads(text) if text.startswith("{") else {}

    def token(self, resource, scope="mcp", client="program", proof=None):
        fields = {"grant_type": "client_credentials", "resource": resource, "scope": scope}
        status, answer = self.post("/token", client, fields, {"DPoP": proof} if proof else None)
        if status != 200:
            raise RuntimeError(f"no token for {resource}: {status} {answer}")
        return answer["access_token"]


class Prover:
    """Proofs of possession (RFC 9449) by PyJWT."""

    def __init__(self):
        found = sorted(JWT.glob("python3*/site-packages"))
        sys.path.insert(0, str(found[0]))
        import jwt
        from cryptography.hazmat.primitives.asymmetric import ec

        self.jwt, self.key = jwt, ec.generate_private_key(ec.SECP256R1())
        self.public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self.key.public_key()))

    def proof(self, method, url, token=None, **more):
        claims = {"htm": method, "htu": url, "iat": int(time.time()), "jti": str(uuid.uuid4()), **more}
        if token:
            digest = hashlib.sha256(token.encode()).digest()
            claims["ath"] = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        headers = {"typ": "dpop+jwt", "jwk": self.public}
        return self.jwt.encode(claims, self.key, algorithm="ES256", headers=headers)


def listed(url, authorization, proof=None):
    """Status, challenge and code of a list request with this credential."""
    meta = {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}}
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": MODERN,
        "Mcp-Method": "tools/list",
    }
    if authorization:
        headers["Authorization"] = authorization
    if proof:
        headers["DPoP"] = proof
    status, answered, text = fetch(url, json.dumps(body).encode(), headers)
    code = json.loads(text).get("error", {}).get("data", {}).get("code", "ok")
    return f"{status} {code}", answered.get("WWW-Authenticate") or "", answered.get("DPoP-Nonce")


def check(name, fine, reason=""):
    if fine:
        peers.ok(name)
    else:
        peers.not_ok(name, reason)


def sees(name, seen, expected):
    check(name, seen[0] == expected, f"expected {expected}, got {seen}")


def clients(gateway, issuer):
    """Each SDK in each revision, from the URL alone to a call that needs one scope more."""
    for sdk, command in (("python", [peers.PYTHON, HERE / "python_oauth.py"]), ("typescript", [peers.NODE, HERE / "typescript_oauth.mjs"])):
        for revision in (MODERN, LEGACY):
            for route in ("jwt", "opaque"):
                label = f"oauth {sdk} {revision} {route}"
                url = gateway.url(route)
                environment = {**os.environ, "PEER_URL": url, "PEER_MODULES": str(peers.MODULES)}
                code, output, errors = peers.run([*command, revision], 90, env=environment)
                if code != 0:
                    peers.not_ok(label, f"exit code {code}: {(output + errors)[-900:]}")
                    continue
                judge(label, json.loads(output.strip().splitlines()[-1]), url)


def judge(label, seen, url):
    asked = seen["asked"]
    check(f"{label} lists", "add" in seen["tools"] and "drop" in seen["tools"], seen["tools"])
    check(f"{label} calls", not seen["call"]["error"] and "42" in seen["call"]["text"], seen["call"])
    # The Python SDK asks for refresh tokens wherever an authorization server has them.
    first = set(asked[0].get("scope", "").split()) - {"offline_access"} if asked else set()
    check(f"{label} asks for what the challenge names", first == {"mcp"}, asked)
    pkce = all(one.get("code_challenge_method") == "S256" and len(one.get("code_challenge", "")) == 43 for one in asked)
    check(f"{label} uses PKCE and names the resource", pkce and all(one.get("resource") == url for one in asked), asked)
    done = not seen["step_up"]["error"] and "dropped users" in seen["step_up"]["text"]
    check(f"{label} steps up", done, seen["step_up"])
    once = len(asked) == 2 and {"mcp", "tools:drop"} <= set(asked[1].get("scope", "").split())
    check(f"{label} steps up once, with all the scopes", once, asked)


def documents(gateway, issuer):
    """What a client is told before it has a token."""
    for route in ("jwt", "opaque", "bound", "plain"):
        url = gateway.url(route)
        status, challenge, _ = listed(url, None)
        where = url.replace("/mcp/", "/.well-known/oauth-protected-resource/mcp/")
        check(f"oauth {route} challenge", status == "401 auth.missing" and f'resource_metadata="{where}"' in challenge, (status, challenge))
        scope = 'scope="mcp"' in challenge
        check(f"oauth {route} challenge scope", scope is (route in ("jwt", "opaque")), challenge)
        document = json.loads(fetch(where)[2])
        fine = document["resource"] == url and document["authorization_servers"] == [issuer.url]
        fine = fine and document.get("scopes_supported") == (["mcp"] if scope else None)
        check(f"oauth {route} metadata", fine, document)
    bound = json.loads(fetch(gateway.url("bound").replace("/mcp/", "/.well-known/oauth-protected-resource/mcp/"))[2])
    check("oauth bound metadata asks for DPoP", bound.get("dpop_bound_access_tokens_required") is True, bound)


def tokens(gateway, issuer):
    """Tokens of programs, each where it counts and where it does not."""
    jwt, opaque = issuer.token(gateway.url("jwt")), issuer.token(gateway.url("opaque"))
    check("oauth tokens are of two forms", jwt.count(".") == 2 and "." not in opaque, (jwt[:20], opaque[:20]))
    sees("oauth JWT on its route", listed(gateway.url("jwt"), f"Bearer {jwt}"), "200 ok")
    sees("oauth JWT on another route", listed(gateway.url("plain"), f"Bearer {jwt}"), "401 auth.invalid")
    sees("oauth opaque token on its route", listed(gateway.url("opaque"), f"Bearer {opaque}"), "200 ok")
    sees("oauth opaque token on another route", listed(gateway.url("jwt"), f"Bearer {opaque}"), "401 auth.invalid")
    sees("oauth opaque token that was changed", listed(gateway.url("opaque"), f"Bearer {opaque[:-1]}~"), "401 auth.invalid")
    status, answer = issuer.post("/token", "program", {"grant_type": "client_credentials", "resource": "https://elsewhere.example/mcp"})
    check("oauth another resource is no target", status == 400 and answer.get("error") == "invalid_target", (status, answer))
    scopeless = listed(gateway.url("jwt"), f"Bearer {issuer.token(gateway.url('jwt'), scope='tools:drop')}")
    sees("oauth token without the scope", scopeless, "403 auth.scope")
    check("oauth challenge of a step up", 'error="insufficient_scope", scope="mcp"' in scopeless[1], scopeless)
    issuer.post("/revoke", "program", {"token": opaque})
    sees("oauth opaque token on the request after it was revoked", listed(gateway.url("opaque"), f"Bearer {opaque}"), "401 auth.invalid")
    for name in ("jwt", "opaque"):
        sees(f"oauth API key beside tokens on {name}", listed(gateway.url(name), f"Bearer {gateway.key}"), "200 ok")
    sees("oauth API key where tokens must be bound", listed(gateway.url("bound"), f"Bearer {gateway.key}"), "401 auth.invalid")


def proofs(gateway, issuer):
    """Tokens that are bound to a key."""
    prover, thief, url = Prover(), Prover(), gateway.url("bound")
    token = issuer.token(url, client="prover", proof=prover.proof("POST", f"{issuer.url}/token"))
    plain = issuer.token(url)

    def shown(by=prover, nonce=None, claimed=token, method="POST", target=url):
        more = {"nonce": nonce} if nonce else {}
        return by.proof(method, target, claimed, **more)

    first = listed(url, f"DPoP {token}", shown())
    sees("oauth DPoP without a nonce", first, "401 auth.nonce")
    nonce = first[2]
    check("oauth DPoP challenge", 'error="use_dpop_nonce"' in first[1] and first[1].startswith("DPoP ") and bool(nonce), first)
    good = shown(nonce=nonce)
    sees("oauth DPoP with proof and nonce", listed(url, f"DPoP {token}", good), "200 ok")
    sees("oauth DPoP with the same proof again", listed(url, f"DPoP {token}", good), "401 auth.proof")
    sees("oauth DPoP with a nonce again", listed(url, f"DPoP {token}", shown(nonce=nonce)), "200 ok")
    sees("oauth DPoP by another key", listed(url, f"DPoP {token}", shown(by=thief, nonce=nonce)), "401 auth.proof")
    sees("oauth DPoP for another token", listed(url, f"DPoP {token}", shown(nonce=nonce, claimed=plain)), "401 auth.proof")
    sees("oauth DPoP for another method", listed(url, f"DPoP {token}", shown(nonce=nonce, method="GET")), "401 auth.proof")
    elsewhere = shown(nonce=nonce, target=gateway.url("jwt"))
    sees("oauth DPoP for another route", listed(url, f"DPoP {token}", elsewhere), "401 auth.proof")
    sees("oauth DPoP without a proof", listed(url, f"DPoP {token}"), "401 auth.proof")
    sees("oauth DPoP token as a bearer token", listed(url, f"Bearer {token}", shown(nonce=nonce)), "401 auth.invalid")
    sees("oauth bearer token where tokens must be bound", listed(url, f"Bearer {plain}"), "401 auth.invalid")
    sees("oauth bearer token as a DPoP token", listed(url, f"DPoP {plain}", shown(nonce=nonce, claimed=plain)), "401 auth.invalid")


def life(gateway, issuer):
    """Keys that rotate, and an authorization server that is gone."""
    old = issuer.token(gateway.url("jwt"))
    sees("oauth token before the rotation", listed(gateway.url("jwt"), f"Bearer {old}"), "200 ok")
    fetch(f"{issuer.url}/control/rotate")
    new = issuer.token(gateway.url("jwt"))
    # The gateway asks for keys no more often than once in 300 ms here, so the first may come too soon.
    due, seen = time.monotonic() + 30, None
    while time.monotonic() < due:
        seen = listed(gateway.url("jwt"), f"Bearer {new}")
        if seen[0] == "200 ok":
            break
        time.sleep(0.1)
    sees("oauth token of a new key", seen, "200 ok")
    sees("oauth token of the old key", listed(gateway.url("jwt"), f"Bearer {old}"), "200 ok")
    opaque = issuer.token(gateway.url("opaque"))
    sees("oauth opaque token before the end", listed(gateway.url("opaque"), f"Bearer {opaque}"), "200 ok")
    lasting = issuer.token(gateway.url("lasting"))
    sees("oauth token on the route that goes on", listed(gateway.url("lasting"), f"Bearer {lasting}"), "200 ok")
    issuer.child.kill()
    issuer.child.wait()
    sees("oauth opaque token without its issuer", listed(gateway.url("opaque"), f"Bearer {opaque}"), "503 auth.unavailable")
    # Keys count for three seconds here.
    time.sleep(3.5)
    sees("oauth JWT without its issuer, refused by default", listed(gateway.url("jwt"), f"Bearer {new}"), "503 auth.unavailable")
    sees("oauth JWT without its issuer, where known keys count", listed(gateway.url("lasting"), f"Bearer {lasting}"), "200 ok")
    sees("oauth API key without an issuer", listed(gateway.url("jwt"), f"Bearer {gateway.key}"), "200 ok")


def main():
    work = peers.folder()
    port, log = peers.free_port(), work / "upstream.log"
    upstream = peers.spawn([peers.PYTHON, peers.PEERS / "upstreams/fastmcp_server.py", port], log)
    peers.wait_port(port, upstream, log)
    routes = ("jwt", "opaque", "bound", "plain", "lasting")
    # The resources have to be known to the authorization server, and it to the gateway.
    own, issuing = peers.free_port(), peers.free_port()
    protected = outgoing.Protected(work, f"http://127.0.0.1:{issuing}", OAUTH, HERE)
    resources = [f"http://127.0.0.1:{own}/mcp/{route}" for route in (*routes, *outgoing.ROUTES)]
    resources += [protected.url(route) for route in outgoing.ROUTES]
    issuer = Issuer(work, issuing, resources, f"http://127.0.0.1:{own}/connect/callback")
    scopes = {"scopes": ["mcp"], "step_up": [{"tools": ["drop"], "scopes": ["tools:drop"]}]}
    identities = {
        "dpop_nonces": True,
        "jwt": [
            {
                "issuer": issuer.url,
                "algorithms": ["ES256"],
                "require_typ_at_jwt": True,
                "roles_claim": "groups",
                "role_map": {"dev": ["operator"]},
                "introspection": {"client_id": "gateway", "client_secret": "env:ISSUER_SECRET"},
            }
        ],
        "routes": {
            "jwt": scopes,
            "opaque": scopes,
            "bound": {"bound_tokens": "dpop"},
            "lasting": {"issuer_down": "known_keys"},
        },
    }
    servers = {route: {"url": f"http://127.0.0.1:{port}/mcp"} for route in routes}
    servers |= protected.servers(issuer.url)
    limits = {"jwks_min_refresh_ms": 300, "jwks_refresh_ms": 3000}
    more = {"identities": identities}
    secret = {"ISSUER_SECRET": "secret of gateway, long enough for it", **outgoing.SECRETS}
    try:
        gateway = peers.Gateway(servers, limits=limits, more=more, environment=secret, port=own)
        gateway.wait_ready([route for route in routes if route != "bound"])
    except peers.Missing as missing:
        peers.skip("oauth", missing)
        peers.finish()
    documents(gateway, issuer)
    clients(gateway, issuer)
    tokens(gateway, issuer)
    proofs(gateway, issuer)
    outgoing.exchanges(check, gateway, issuer, protected)
    outgoing.connections(check, gateway, issuer, protected)
    outgoing.renewals(check, gateway, issuer)
    outgoing.erasure(check, gateway, issuer)
    life(gateway, issuer)
    gateway.stop()
    peers.finish()


if __name__ == "__main__":
    main()
