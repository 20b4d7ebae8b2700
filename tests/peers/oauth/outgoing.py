"""The gateway as OAuth client of the same certified authorization server: tokens in exchange for those of callers
(RFC 8693), and tokens that a user grants in a browser, renewed with rotation and revoked. The server behind the gateway
judges every token with `jose`."""

import json
import os
import re
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import peers

SECRETS = {
    "EXCHANGER_SECRET": "secret of exchanger, long enough for it",
    "WEB_SECRET": "secret of web, long enough for it",
}
ROUTES = ("exchanged", "acted", "connected", "registered", "brief")


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


class Person:
    """A browser with its user: cookies by origin, redirects one by one, forms of the gateway filled in."""

    def __init__(self):
        self.opener, self.cookies = urllib.request.build_opener(NoRedirect), {}

    def visit(self, url, form=None):
        parts = urllib.parse.urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        jar = self.cookies.setdefault(origin, {})
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in jar.items())}
        data = None
        if form is not None:
            headers["Origin"], data = origin, urllib.parse.urlencode(form).encode()
        try:
            answer = self.opener.open(urllib.request.Request(url, data, headers), timeout=20)
        except urllib.error.HTTPError as error:
            answer = error
        for line in answer.headers.get_all("Set-Cookie") or []:
            name, _, value = line.split(";")[0].partition("=")
            jar[name] = value
        return answer.status, answer.headers.get("Location"), answer.read().decode()

    def connect(self, url, credential):
        """Opens the link, proves to be the caller, and goes wherever it is sent; the last page."""
        status, _, text = self.visit(url)
        if status != 200:
            raise RuntimeError(f"{status} at {url}: {text[:500]}")
        unescape = lambda text: text.replace("&amp;", "&").replace("&quot;", '"').replace("&#39;", "'")  # noqa: E731
        form = dict(re.findall(r'<input type="hidden" name="([a-z]+)" value="([^"]*)">', text))
        form = {name: unescape(value) for name, value in form.items()}
        action = unescape(re.search(r'<form method="post" action="([^"]+)">', text)[1])
        here = urllib.parse.urljoin(url, action)
        status, where, text = self.visit(here, {**form, "credential": credential, "answer": "connect"})
        for _ in range(12):
            if status not in (302, 303):
                return status, text
            here = urllib.parse.urljoin(here, where)
            status, where, text = self.visit(here)
        raise RuntimeError("redirected without end")


def call(url, bearer):
    """The code of a refusal, or `ok`; and what the tool `whoami` says, or the whole answer."""
    meta = {"io.modelcontextprotocol/protocolVersion": peers.MODERN, "io.modelcontextprotocol/clientCapabilities": {}}
    params = {"name": "whoami", "arguments": {}, "_meta": meta}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": peers.MODERN,
        "Mcp-Method": "tools/call",
        "Mcp-Name": "whoami",
        "Authorization": f"Bearer {bearer}",
    }
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        text = urllib.request.urlopen(request, timeout=60).read().decode()
    except urllib.error.HTTPError as error:
        text = error.read().decode()
    answer = json.loads(text)
    code = answer.get("error", {}).get("data", {}).get("code")
    result = answer.get("result", {})
    code = code or result.get("_meta", {}).get("dev.portcullis/code")
    if code:
        return code, text
    if result.get("isError"):
        return "error", text
    return "ok", json.loads(result["content"][0]["text"])


def get(url):
    return json.loads(urllib.request.urlopen(url, timeout=20).read())


class Protected:
    """The MCP server behind the gateway."""

    def __init__(self, work, issuer, modules, here):
        self.port, log = peers.free_port(), work / "protected.log"
        self.base = f"http://127.0.0.1:{self.port}"
        environment = {**os.environ, "OAUTH_MODULES": str(modules)}
        paths = [f"/{route}" for route in ROUTES]
        self.child = peers.spawn([peers.NODE, here / "protected_server.mjs", self.port, issuer, *paths], log, env=environment)
        peers.wait_port(self.port, self.child, log)

    def url(self, route):
        return f"{self.base}/{route}"

    def servers(self, issuer):
        exchange = {"issuer": issuer, "client_id": "exchanger", "client_secret": "env:EXCHANGER_SECRET"}
        web = {"issuer": issuer, "client_id": "web", "client_secret": "env:WEB_SECRET"}
        sections = {
            "exchanged": {"mode": "exchange", "scopes": ["mcp"], "exchange": exchange},
            "acted": {"mode": "exchange", "scopes": ["mcp"], "exchange": {**exchange, "actor": True}},
            "connected": web,
            "registered": {"mode": "user"},
            "brief": {"mode": "user"},
        }
        return {route: {"url": self.url(route), "authorization": section} for route, section in sections.items()}


def exchanges(check, gateway, issuer, protected):
    token = issuer.token(gateway.url("exchanged"))
    code, said = call(gateway.url("exchanged"), token)
    fine = code == "ok" and said["sub"] == "program" and said["aud"] == protected.url("exchanged")
    check("oauth exchange", fine and said["client_id"] == "exchanger" and said["scope"] == "mcp", (code, said))
    made = get(f"{issuer.url}/control/exchanges")
    asked = made and made[0]["resource"] == protected.url("exchanged") and made[0]["client"] == "exchanger"
    check("oauth exchange names the resource", asked, made)
    with ThreadPoolExecutor(8) as pool:
        again = list(pool.map(lambda _: call(gateway.url("exchanged"), token)[0], range(24)))
    check("oauth exchange once for one token", again == ["ok"] * 24 and len(get(f"{issuer.url}/control/exchanges")) == len(made), again)
    other = issuer.token(gateway.url("exchanged"))
    code, said = call(gateway.url("exchanged"), other)
    check("oauth exchange anew for another token", code == "ok" and len(get(f"{issuer.url}/control/exchanges")) == len(made) + 1, said)
    code, said = call(gateway.url("acted"), issuer.token(gateway.url("acted")))
    check("oauth exchange with an actor", code == "ok" and said.get("act") == {"sub": "exchanger"}, (code, said))
    code, said = call(gateway.url("exchanged"), gateway.key)
    check("oauth exchange of an API key is refused", code == "exchange.token" and issuer.url in said, (code, said))
    stranger = issuer.token(gateway.url("exchanged"), client="stranger")
    code, said = call(gateway.url("exchanged"), stranger)
    check("oauth exchange that is refused", code == "exchange.refused" and "invalid_grant" in said, (code, said))
    seen = "\n".join(get(f"{protected.base}/control/seen"))
    leaked = [name for name, secret in {"token": token, "other": other, "key": gateway.key}.items() if secret in seen]
    check("oauth exchange shows the server no token of a caller", not leaked and seen, leaked)


def connections(check, gateway, issuer, protected):
    for route, how in (("connected", "registered by hand"), ("registered", "registering itself")):
        url = gateway.url(route)
        code, said = call(url, gateway.key)
        found = re.search(r"http://[^\s\"\\]+/connect/[^\s\"\\]+", str(said))
        if code != "connection.required" or not found:
            check(f"oauth connection {how}", False, (code, said))
            continue
        status, page = Person().connect(found[0], gateway.key)
        code, said = call(url, gateway.key)
        fine = status == 200 and code == "ok" and said["sub"] == "ada" and said["aud"] == protected.url(route)
        check(f"oauth connection {how}", fine, (status, page[-300:], code, said))


def renewals(check, gateway, issuer):
    """Tokens that last two seconds, at an issuer that ends the grant when a refresh token comes twice."""
    url = gateway.url("brief")
    found = re.search(r"http://[^\s\"\\]+/connect/[^\s\"\\]+", str(call(url, gateway.key)[1]))
    status, page = Person().connect(found[0], gateway.key)
    check("oauth connection with a refresh token", status == 200, page[-300:])
    seen = []
    for _ in range(3):
        # The life of a token.
        time.sleep(2.2)
        with ThreadPoolExecutor(8) as pool:
            seen += list(pool.map(lambda _: call(url, gateway.key), range(8)))
    wrong = [one for one in seen if one[0] != "ok"]
    tokens = {one[1]["jti"] for one in seen if one[0] == "ok"}
    check("oauth connection renewed with rotation", not wrong and len(tokens) >= 3, (wrong[:1], len(tokens)))
    before = int(get(f"{issuer.url}/control/revoked"))
    caller = f"key:{gateway.key.split('_')[1]}"
    command = [gateway.binary, "connection", "revoke", caller, "brief"]
    ended = subprocess.run(command, cwd=gateway.folder, env=gateway.environment, capture_output=True, text=True, timeout=60)
    after = int(get(f"{issuer.url}/control/revoked"))
    code, _ = call(url, gateway.key)
    fine = ended.returncode == 0 and after > before and code == "connection.required"
    check("oauth connection revoked here and there", fine, (ended.returncode, ended.stderr[-300:], before, after, code))


def erasure(check, gateway, issuer):
    """Who is erased is connected no more: here, and at the issuer, which ends the grant."""
    url = gateway.url("brief")
    found = re.search(r"http://[^\s\"\\]+/connect/[^\s\"\\]+", str(call(url, gateway.key)[1]))
    status, page = Person().connect(found[0], gateway.key)
    check("oauth connection of somebody who is erased later", status == 200, page[-300:])
    before = int(get(f"{issuer.url}/control/revoked"))
    caller = f"key:{gateway.key.split('_')[1]}"
    command = [gateway.binary, "privacy", "erase", "--subject", caller, "--reason", "request 117", "--json"]
    ended = subprocess.run(command, cwd=gateway.folder, env=gateway.environment, capture_output=True, text=True, timeout=60)
    after = int(get(f"{issuer.url}/control/revoked"))
    code, _ = call(url, gateway.key)
    erased = json.loads(ended.stdout) if ended.returncode == 0 else {}
    fine = erased.get("connections", 0) >= 1 and after > before and code == "connection.required"
    kept = [text for text in erased.get("kept", []) if "at the issuer of" in text]
    check("oauth connection erased here and there", fine and not kept, (ended.stderr[-300:], erased, before, after, code))
