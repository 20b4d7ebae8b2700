"""Runs the official conformance suite, both revisions. Server leg: direct against the fixture, then through the gateway
with the fixture as an HTTP server and as a stdio server. Client leg: see `client_leg.py`. Every required scenario must
pass everywhere or be named with a reason in `not-applicable.json`, and over HTTP those that are not scored must come out
no worse than direct. The list of expected failures is empty and stays so."""

import json
import os
import re
import sys
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
        # The gateway may refuse what the fixture lets through, so it may do better.
        before = direct.get(name, (0, 0))
        if passed >= before[0] and failed <= before[1]:
            peers.ok(f"{label} {name} (not scored, no worse than direct)")
        else:
            peers.not_ok(f"{label} {name} (not scored)", f"{passed}/{failed}, direct {before}")
    if code == 0 and len(must) > 25:
        peers.ok(f"{label} verdict")
    else:
        peers.not_ok(f"{label} verdict", f"exit code {code}, {len(must)} scenarios required")
    return found


def bridged(fixture, revisions):
    """The server leg where the wire's revision and the server's differ, so that the gateway translates. A scenario that
    cannot survive the translation is named with its reason, under the leg `bridged-REVISION`."""
    eras = {peers.LEGACY: "modern", peers.MODERN: "legacy"}
    servers, log = {}, peers.folder() / "bridged.log"
    for era in eras.values():
        port = peers.free_port()
        peers.wait_port(port, peers.spawn([*fixture, "--era", era, "--port", port], log), log)
        asks = ["elicitation", "roots", "sampling"]
        servers[era] = {"url": f"http://localhost:{port}/mcp", "server_requests": asks}
    gateway = peers.Gateway(servers)
    gateway.wait_ready(servers)
    forwarder = Forwarder(gateway.port, gateway.key)
    for revision in revisions:
        _, found, results = judge(f"http://localhost:{forwarder.port}/mcp/{eras[revision]}", revision)
        for name in required(revision):
            label, (passed, failed) = f"conformance bridged {revision} {name}", found.get(name, (0, 0))
            wrong = complaints(results, name)
            if client_leg.excuse(f"bridged-{revision}", name):
                print(f"# 1 scenario cannot apply: {label}", flush=True)
            elif passed and not failed and not wrong:
                peers.ok(label)
            else:
                peers.not_ok(label, f"{passed} passed, {failed} failed: {wrong}")
    gateway.stop()


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


def check_excuses(revisions):
    """A row that excuses nothing, or gives no reason, is stale."""
    rows = json.loads((HERE / "not-applicable.json").read_text())
    names = {leg: {name for one in revisions for name in required(one, leg)} for leg in ("client", "server")}
    for row in rows:
        leg = "client" if row["leg"] == "client" else "server"
        stale = not any(name.startswith(row["scenarios"]) for name in names[leg])
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
    # The newer wire to an older server still has failures that no reason excuses: only where it is asked for.
    bridged(fixture, revisions if os.environ.get("PEERS_BRIDGED") else (peers.LEGACY,))
    check_excuses(revisions)
    client_leg.report({revision: required(revision, "client") for revision in revisions})
    peers.record("conformance", passed())
    peers.finish()


if __name__ == "__main__":
    main()
