"""Runs the official conformance suite, both revisions. Server leg: direct against the fixture, then through the gateway
with the fixture as an HTTP server and as a stdio server. Client leg: see `client_leg.py`. Every required scenario must
pass everywhere or be named with a reason in `not-applicable.json`, and over HTTP those that are not scored must come out
as direct, or better where the same file says why. The list of expected failures is empty and stays so."""

import json
import re
import sys
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))

import client_leg  # noqa: E402
import peers  # noqa: E402
from forward import Forwarder  # noqa: E402

HERE = Path(__file__).resolve().parent
PACKAGE = peers.MODULES / "@modelcontextprotocol/conformance"
RESULT = re.compile(r"^[✓✗] ([a-z0-9/-]+): (\d+) passed, (\d+) failed", re.MULTILINE)


def required(revision, leg="server"):
    """The scenarios that a leg must pass, from the suite's own list."""
    section, names = None, []
    for line in (PACKAGE / f"requirements/{revision}.yaml").read_text().splitlines():
        if re.match(r"^[a-z_]+:", line):
            section = line.rstrip(":")
        elif section == leg and (found := re.match(r"^  - ([a-z0-9/_-]+)", line)):
            names.append(found.group(1))
    return names


def judge(url, revision):
    """Runs the suite; returns passed and failed checks by scenario."""
    command = [peers.NODE, PACKAGE / "dist/index.js", "server", "--url", url, "--requirements", revision]
    results = peers.folder()
    command += ["--expected-failures", HERE / "expected-failures.yml", "--output-dir", results]
    code, output, errors = peers.run(command, 240, cwd=results)
    found = {name: (int(passed), int(failed)) for name, passed, failed in RESULT.findall(output)}
    if not found:
        raise RuntimeError(f"the suite ended with {code}: {(output + errors)[-1500:]}")
    return code, found, results


def report(where, revision, url, direct=None, exact=True):
    """One line for each scenario, and one for the suite's own verdict."""
    label = f"conformance {where} {revision}"
    try:
        code, found, results = judge(url, revision)
    except RuntimeError as error:
        peers.not_ok(label, error)
        return None
    must = required(revision)
    for name in must:
        passed, failed = found.get(name, (0, 0))
        # A warning is in neither count, but decides the suite's own verdict.
        wrong = complaints(results, name)
        if passed and not failed and not wrong:
            peers.ok(f"{label} {name}")
        else:
            peers.not_ok(f"{label} {name}", f"{passed} passed, {failed} failed: {wrong}")
    for name, (passed, failed) in sorted(found.items()):
        if direct is None or not exact or name in must:
            continue
        before = direct.get(name, (0, 0))
        better = passed >= before[0] and failed <= before[1]
        if (passed, failed) == before:
            peers.ok(f"{label} {name} (not scored, as direct)")
        elif better and client_leg.excuse(f"unscored-{revision}", name):
            peers.ok(f"{label} {name} (not scored, better than direct)")
        else:
            peers.not_ok(f"{label} {name} (not scored)", f"{passed}/{failed}, direct {before}")
    if code == 0 and len(must) > 25:
        peers.ok(f"{label} verdict")
    else:
        peers.not_ok(f"{label} verdict", f"exit code {code}, {len(must)} scenarios required")
    return found


def bridged(fixture, revisions, wires=("http", "stdio")):
    """The server leg before servers of one revision alone, over HTTP and as children of the gateway: where the wire's
    revision is the server's (`one-era`), and where it is not, so that the gateway translates (`bridged`). A scenario
    that cannot survive the translation is named with its reason, under the leg `bridged-REVISION`."""
    log, asks = peers.folder() / "bridged.log", ["elicitation", "roots", "sampling"]
    servers = {}
    for era in ("legacy", "modern"):
        port = peers.free_port()
        peers.wait_port(port, peers.spawn([*fixture, "--era", era, "--port", port], log), log)
        servers[f"http-{era}"] = {"url": f"http://localhost:{port}/mcp", "server_requests": asks}
        command = [str(word) for word in [*fixture, "--era", era]]
        servers[f"stdio-{era}"] = {"command": command, "server_requests": asks}
    gateway = peers.Gateway(servers)
    gateway.wait_ready(servers)
    warm(gateway, "stdio-legacy")
    forwarder = Forwarder(gateway.port, gateway.key)
    own = {peers.LEGACY: "legacy", peers.MODERN: "modern"}
    other = {peers.LEGACY: peers.MODERN, peers.MODERN: peers.LEGACY}
    for wire in wires:
        for revision in revisions:
            for leg, era in (("one-era", own[revision]), ("bridged", own[other[revision]])):
                # Over HTTP a server that speaks both is asked in one revision alone already.
                if leg == "bridged" or wire == "stdio":
                    translated(leg, wire, revision, f"http://localhost:{forwarder.port}/mcp/{wire}-{era}")
    gateway.stop()


def warm(gateway, server):
    """Lets the child of each set of capabilities start for which the suite gives a server less time than Python takes
    to start: a server of the older revision is told them once, so that each set has a child of its own."""
    for capabilities in ({}, {"elicitation": {}}):
        meta = {"protocolVersion": peers.MODERN, "clientCapabilities": capabilities}
        params = {"_meta": {f"io.modelcontextprotocol/{name}": value for name, value in meta.items()}}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "server/discover", "params": params})
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "Authorization": f"Bearer {gateway.key}",
            "MCP-Protocol-Version": peers.MODERN,
            "Mcp-Method": "server/discover",
        }
        urllib.request.urlopen(urllib.request.Request(gateway.url(server), body.encode(), headers), timeout=30).close()


def translated(leg, wire, revision, url):
    """One line for each required scenario of one leg."""
    label = f"conformance {leg}-{wire} {revision}"
    try:
        _, found, results = judge(url, revision)
    except RuntimeError as error:
        peers.not_ok(label, error)
        return
    for name in required(revision):
        passed, failed = found.get(name, (0, 0))
        wrong = complaints(results, name)
        excuse = leg == "bridged" and client_leg.excuse(f"bridged-{revision}", name)
        if excuse:
            print(f"# {leg}-{wire} {revision} {name} cannot apply: {excuse}", flush=True)
        elif passed and not failed and not wrong:
            peers.ok(f"{label} {name}")
        else:
            peers.not_ok(f"{label} {name}", f"{passed} passed, {failed} failed: {wrong}")


def complaints(results, name):
    """What the suite found wrong in one scenario, warnings too."""
    words = []
    for file in sorted(results.glob("**/checks.json")):
        if f"server-{name}-20" not in str(file):
            continue
        for check in json.loads(file.read_text()):
            if check["status"] in ("FAILURE", "WARNING"):
                words.append(f"{check['id']}: {check.get('errorMessage')}")
    return "; ".join(words)


def passed():
    """How many lines passed, by leg and revision."""
    legs = {}
    for words in (name.split() for name in peers.passed):
        if words[0] == "conformance" and words[2][:2] == "20":
            leg = legs.setdefault(words[1], {})
            leg[words[2]] = leg.get(words[2], 0) + 1
    return legs


def check_excuses(revisions, direct):
    """A row that excuses nothing, or gives no reason, is stale."""
    rows = json.loads((HERE / "not-applicable.json").read_text())
    names = {leg: {name for one in revisions for name in required(one, leg)} for leg in ("client", "server")}
    for row in rows:
        if row["leg"].startswith("unscored-"):
            known = direct.get(row["leg"].removeprefix("unscored-")) or {}
        else:
            known = names["client" if row["leg"] == "client" else "server"]
        stale = not any(name.startswith(row["scenarios"]) for name in known)
        if stale or len(row["reason"]) < 40:
            peers.not_ok(f"conformance excuse {row['leg']} {row['scenarios']}", "stale, or without a reason")
        else:
            peers.ok(f"conformance excuse {row['leg']} {row['scenarios']}")


def main():
    log = peers.folder() / "fixture.log"
    port = peers.free_port()
    fixture = [peers.PYTHON, HERE / "fixture.py"]
    child = peers.spawn([*fixture, "--port", port], log)
    peers.wait_port(port, child, log)
    revisions = (peers.LEGACY, peers.MODERN)
    direct = {revision: report("direct", revision, f"http://localhost:{port}/mcp") for revision in revisions}
    asks = ["elicitation", "roots", "sampling"]
    servers = {
        "http": {"url": f"http://localhost:{port}/mcp", "server_requests": asks},
        "stdio": {"command": [str(word) for word in fixture], "server_requests": asks},
    }
    try:
        gateway = peers.Gateway(servers)
        gateway.wait_ready(servers)
    except peers.Missing as missing:
        for server in servers:
            peers.skip(f"conformance through the gateway over {server}", missing)
        peers.finish()
    except RuntimeError as error:
        peers.not_ok("conformance through the gateway", error)
        peers.finish()
    forwarder = Forwarder(gateway.port, gateway.key)
    for server in servers:
        for revision in revisions:
            url = f"http://localhost:{forwarder.port}/mcp/{server}"
            report(f"gateway-{server}", revision, url, direct[revision], exact=server == "http")
    gateway.stop()
    bridged(fixture, revisions)
    check_excuses(revisions, direct)
    client_leg.report({revision: required(revision, "client") for revision in revisions})
    peers.record("conformance", passed())
    peers.finish()


if __name__ == "__main__":
    main()
