"""The client leg of the conformance suite: the suite plays a server, the official TypeScript client talks to it through
a gateway of its own, and the suite judges what reached it. First without the gateway, which shows that the client does
what each scenario asks for. What cannot apply is named, with its reason, in `not-applicable.json`."""

import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import peers

HERE = Path(__file__).resolve().parent
PACKAGE = peers.MODULES / "@modelcontextprotocol/conformance"
PASSED = re.compile(r"^Passed: (\d+)/(\d+), (\d+) failed, (\d+) warnings", re.MULTILINE)
# Scenarios that the suite runs but does not score.
UNSCORED = {
    "json-schema-2020-12-preservation": (peers.LEGACY, peers.MODERN),
    "auth/client-credentials-basic": (peers.LEGACY, peers.MODERN),
    "auth/client-credentials-jwt": (peers.LEGACY, peers.MODERN),
    "auth/enterprise-managed-authorization": (peers.LEGACY, peers.MODERN),
}


def excuse(leg, name):
    """Why a scenario cannot apply; nothing when it can."""
    rows = json.loads((HERE / "not-applicable.json").read_text())
    fits = (row["reason"] for row in rows if row["leg"] == leg and name.startswith(row["scenarios"]))
    return next(fits, None)


def scenarios(revision, required):
    """Those that apply: the required ones, then those that are not scored."""
    names = [name for name in required if not excuse("client", name)]
    return names + [name for name, revisions in UNSCORED.items() if revision in revisions]


def is_own(name):
    """Whether the gateway itself is the client that is judged."""
    return name.startswith("auth/")


def judge(where, revision, name):
    """Runs one scenario; returns what is wrong, or nothing."""
    command = [peers.NODE, PACKAGE / "dist/index.js", "client", "--scenario", name, "--spec-version", revision]
    command += ["--command", f"{peers.PYTHON} {HERE / 'client_command.py'}", "--timeout", "60000"]
    command += ["--expected-failures", HERE / "expected-failures.yml"]
    if "client-credentials" in name or "enterprise" in name:
        # An extension, which is on the timeline of no revision.
        command.append("--force")
    environment = {**os.environ, "PEER_DIRECT": "1" if where == "direct" else ""}
    code, output, errors = peers.run(command, 90, env=environment, cwd=peers.folder())
    found = PASSED.search(output + errors)
    if code == 0 and found and found[1] == found[2] and int(found[1]) > 0 and found[3] == found[4] == "0":
        return None
    return f"exit code {code}: {(output + errors)[-500:]}"


def report(required):
    """One line for each scenario, direct and through the gateway."""
    runs = []
    for revision, names in required.items():
        left = [name for name in names if excuse("client", name)]
        print(f"# {len(left)} client scenarios of {revision} cannot apply: {', '.join(left)}", flush=True)
        for reason in sorted({excuse("client", name) for name in left}):
            print(f"# they cannot apply: {reason}", flush=True)
        for where in ("client-direct", "client-gateway"):
            # Of these the gateway is the client: what stands before it has nothing to be judged.
            own = [name for name in scenarios(revision, names) if where != "client-direct" or not is_own(name)]
            runs += [(where, revision, name) for name in own]

    def one(run):
        try:
            return judge(run[0].removeprefix("client-"), *run[1:])
        except Exception as error:  # noqa: BLE001 - one that breaks is a failure of its line, not of the suite
            return str(error)

    with ThreadPoolExecutor(2) as pool:
        for (where, revision, name), wrong in zip(runs, pool.map(one, runs), strict=True):
            label = f"conformance {where} {revision} {name}"
            if wrong is None:
                peers.ok(label)
            else:
                peers.not_ok(label, wrong)
