"""Every cell of docs/reference/bridging.md: what becomes of each method between any two revisions. The official Python
SDK drives what it can, as client and as server, and so does the official TypeScript client; what they cannot is driven by messages written here, and what no SDK's
server sends by the servers of `tests/tests/bridge.rs`, which is named with the reason."""

import json
import re
import sys
import urllib.error
import urllib.request
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))

import peers  # noqa: E402
from peers import LEGACY, MODERN  # noqa: E402

HERE = Path(__file__).resolve().parent
PAGE = peers.ROOT / "docs/reference/bridging.md"
REVISIONS = {"legacy": LEGACY, "modern": MODERN}
WIRES = ("http", "stdio")
# Why a message is not the SDK's, by the word of its cell or by its method.
LACKS = "the SDK has no call for what its revision lacks"
SILENT = "the SDK does not say how a notification was taken"
TASKS = "the SDK has no tasks"
UNSENT = "no server of the SDK sends it: tests/tests/bridge.rs and tests/tests/tasks.rs do"


def rows():
    """Sender, method, kind and the words of the four ways."""
    sender, ways = None, []
    for line in PAGE.read_text().splitlines():
        if line.startswith("## "):
            sender = line.removeprefix("## From the ")
        words = [word.strip() for word in line.strip("|").split("|")]
        if line.startswith("| method"):
            ways = [tuple(word.split(" → ")) for word in words[2:]]
        elif sender and line.startswith("| `"):
            yield sender, words[0].strip("`"), words[1], dict(zip(ways, words[2:], strict=True))


class Wire:
    """A client of one revision that sends what it is told to."""

    def __init__(self, url, bearer, revision):
        self.url, self.bearer, self.revision, self.session, self.number = url, bearer, revision, None, 0
        if revision == LEGACY:
            params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "wire", "version": "1"}}
            self.send("initialize", params)
            self.send("notifications/initialized", {}, False)

    def send(self, method, params, request=True):
        """Status, and the message that came back."""
        self.number += 1
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "Authorization": f"Bearer {self.bearer}",
        }
        if method != "initialize" or self.revision == MODERN:
            headers["MCP-Protocol-Version"] = self.revision
        if self.session:
            headers["Mcp-Session-Id"] = self.session
        if self.revision == MODERN:
            meta = {"protocolVersion": MODERN, "clientCapabilities": {}}
            meta = {f"io.modelcontextprotocol/{name}": value for name, value in meta.items()}
            params = {**params, "_meta": meta}
            headers["Mcp-Method"] = method
            if "taskId" in params:
                headers["Mcp-Name"] = params["taskId"]
        message = {"jsonrpc": "2.0", "method": method, "params": params}
        message |= {"id": self.number} if request else {}
        try:
            answer = urllib.request.urlopen(
                urllib.request.Request(self.url, json.dumps(message).encode(), headers), timeout=20
            )
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            text = answer.read().decode()
            self.session = answer.headers.get("Mcp-Session-Id", self.session)
            found = re.findall(r"^data: ?(.+)$", text, re.MULTILINE) or [text]
            return answer.status, json.loads(found[-1]) if found[-1] else {}


PARAMS = {
    "notifications/progress": {"progressToken": 1, "progress": 1},
    "notifications/tasks/status": {"taskId": "t", "status": "working"},
    "tasks/get": {"taskId": "t"},
    "tasks/cancel": {"taskId": "t"},
    "tasks/update": {"taskId": "t", "inputResponses": {}},
    "tasks/result": {"taskId": "t"},
}


def by_wire(wire, method, kind, word):
    """Sends a message of a client; returns what is wrong, or nothing."""
    status, answer = wire.send(method, PARAMS.get(method, {}), kind == "request")
    error = answer.get("error", {})
    code = (error.get("data") or {}).get("code") if isinstance(error.get("data"), dict) else None
    fine = {
        "–": code == "method.unknown",
        "refused": code in ("bridge.untranslatable", "task.unknown"),
        # The fixture has no tasks, which it says itself; an id of none is not one of the caller's.
        "straight": status == 202 or code == "task.unknown" or (error.get("code") == -32601 and code is None),
    }.get(word, status == 202)
    return None if fine else f"{word}: {status} {answer}"


def cell(sender, method, kind, word, seen, wire):
    """How one cell was driven and what is wrong with it, if anything."""
    passes = word in ("straight", "translated", "gateway")
    if sender == "client":
        if passes and method in seen["sent"]:
            return "sdk", None if seen["sent"][method] is True else seen["sent"][method]
        reason = TASKS if "tasks" in method else LACKS if kind == "request" or word == "–" else SILENT
        return f"wire: {reason}", by_wire(wire, method, kind, word)
    if method == "notifications/subscriptions/acknowledged" and word == "–" and method in seen["told"]:
        return "sdk", None
    if method in seen["told"]:
        return "sdk", None if passes else f"{word}, but it came"
    if method == "ping" and passes:
        return "sdk", None if seen["sent"].get("server ping") is True else seen["sent"].get("server ping")
    if word == "–":
        return "nobody sends it", None
    unsent = "tasks" in method or method in ("notifications/cancelled", "notifications/elicitation/complete")
    # An acknowledgement ends at the gateway, which gives its own where the server has none.
    unsent = unsent or word == "gateway"
    return (f"wire: {UNSENT}", None) if unsent else ("sdk", f"{word}, but it never came: {seen['told']}")


def main():
    servers, log = {}, peers.folder() / "cells.log"
    asks = ["elicitation", "roots", "sampling"]
    for era in REVISIONS:
        port, command = peers.free_port(), [peers.PYTHON, HERE / "cells_server.py", "--era", era]
        peers.wait_port(port, peers.spawn([*command, "--port", port], log), log)
        servers[f"{era}-http"] = {"url": f"http://localhost:{port}/mcp", "server_requests": asks}
        servers[f"{era}-stdio"] = {"command": [str(word) for word in command], "server_requests": asks}
    gateway = peers.Gateway(servers)
    gateway.wait_ready(servers)
    table, driven = list(rows()), {}
    sdks = {
        "python": [peers.PYTHON, HERE / "cells_python.py"],
        "typescript": [peers.NODE, HERE / "cells_typescript.mjs"],
    }
    for client, era, wire, sdk in product(REVISIONS.values(), REVISIONS, WIRES, sdks):
        server, url = REVISIONS[era], gateway.url(f"{era}-{wire}")
        label = f"cells {sdk} {client} to {server} over {wire}"
        environment = {"PEER_URL": url, "PEER_BEARER": gateway.key, "PATH": "/usr/bin:/bin"}
        environment["PEER_MODULES"] = str(peers.MODULES)
        code, output, errors = peers.run([*sdks[sdk], client], 120, env=environment)
        if code != 0:
            peers.not_ok(label, f"exit code {code}: {(output + errors)[-1500:]}")
            continue
        seen, own = json.loads(output.strip().splitlines()[-1]), Wire(url, gateway.key, client)
        for name in sorted(set(seen["sent"]) - {method for _, method, _, _ in table}):
            wrong = seen["sent"][name]
            peers.ok(f"{label} {name}") if wrong is True else peers.not_ok(f"{label} {name}", wrong)
        for sender, method, kind, words in table:
            how, wrong = cell(sender, method, kind, words[(client, server)], seen, own)
            driven[sdk, how] = driven.get((sdk, how), 0) + 1
            name = f"{label} {method} from the {sender}"
            peers.not_ok(name, wrong) if wrong else peers.ok(name)
    for (sdk, how), count in sorted(driven.items()):
        print(f"# {count} cells of {sdk}: {how}", flush=True)
    if len(table) < 40:
        peers.not_ok("cells", f"only {len(table)} rows were read from {PAGE}")
    gateway.stop()
    peers.finish()


if __name__ == "__main__":
    main()
