"""The ledger of a gateway that served real calls, judged by the Go project's own implementation of transparency
logs: it must be accepted as it is, and refused after any single bit was flipped."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))

import peers  # noqa: E402

HERE = Path(__file__).resolve().parent
GO = peers.CACHE / "go/bin/go"
MODULES = Path("/usr/share/gocode")
CALLS = 400
FLIPS_PER_KIND = 12
# Checkpoints follow a second behind: several take a few seconds, more on a busy machine.
GROWTH_SECONDS = 60


def build(work):
    """Builds the verifier from the two packages that Debian ships; no module is fetched."""
    path = work / "gopath"
    source = path / "src/golang.org/x/mod/sumdb"
    for package in ("note", "tlog"):
        shutil.copytree(MODULES / "src/golang.org/x/mod/sumdb" / package, source / package)
    program = path / "src/verifier"
    program.mkdir()
    shutil.copy(HERE / "main.go", program)
    environment = {**os.environ, "GOPATH": str(path), "GO111MODULE": "off", "GOFLAGS": "", "GOPROXY": "off"}
    environment |= {"GOCACHE": str(peers.CACHE / "go/cache"), "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
    built = work / "verifier"
    code, output, errors = peers.run([GO, "build", "-o", built, "."], 300, cwd=program, env=environment)
    if code:
        raise RuntimeError(f"go build: {output}{errors}")
    return built


def verify(verifier, log, key):
    code, output, errors = peers.run([verifier, log, key], 60)
    return code, (output + errors).strip()


def serve(gateway, calls):
    """Fills the ledger: real calls through the gateway, some of them refused."""

    def call(number):
        name = "echo" if number % 5 else "no_such_tool"
        body = {
            "jsonrpc": "2.0",
            "id": number,
            "method": "tools/call",
            "params": {
                "name": name,
                "arguments": {"text": f"call {number}"},
                "_meta": {
                    "io.modelcontextprotocol/protocolVersion": peers.MODERN,
                    "io.modelcontextprotocol/clientCapabilities": {},
                },
            },
        }
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "Authorization": f"Bearer {gateway.key}",
            "MCP-Protocol-Version": peers.MODERN,
            "Mcp-Method": "tools/call",
            "Mcp-Name": name,
        }
        request = urllib.request.Request(gateway.url("sample"), json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return "error" not in json.loads(answer.read())
        except urllib.error.HTTPError as refused:
            refused.read()
            return False
        except OSError:
            return False

    with ThreadPoolExecutor(4) as pool:
        return sum(pool.map(call, range(calls)))


def watch(verifier, log, key, serving):
    """Judges the log again and again while it grows: a reader must never see it half written. Returns the sizes."""
    sizes, refused = [], []
    deadline = time.monotonic() + GROWTH_SECONDS
    while not serving.done() and not (len(sizes) > 20 and len(set(sizes)) > 2) and time.monotonic() < deadline:
        code, output = verify(verifier, log, key)
        if code:
            # Partial tiles go two checkpoints later: a reader that was held up for longer starts over.
            code, output = verify(verifier, log, key)
        found = re.search(r"verified (\d+) entries", output)
        if code or not found:
            refused.append(output)
        else:
            sizes.append(int(found.group(1)))
    return sizes, refused


def grow(verifier, gateway, log, key):
    """Judges the log while calls fill it, for as long as it takes to be signed at several sizes."""
    rounds, watched = [], Event()

    def keep_serving():
        while not watched.is_set() or not rounds:
            rounds.append(serve(gateway, CALLS))

    with ThreadPoolExecutor(1) as pool:
        serving = pool.submit(keep_serving)
        try:
            sizes, refused = watch(verifier, log, key, serving)
        finally:
            watched.set()
        serving.result()
    if refused or len(set(sizes)) < 2 or sizes != sorted(sizes):
        peers.not_ok("verifier accepts the ledger while it grows", f"sizes {sizes}, refused {refused[:1]}")
    else:
        peers.ok(f"verifier accepts the ledger while it grows ({len(sizes)} times)")
    if set(rounds) == {CALLS * 4 // 5}:
        peers.ok("verifier the gateway served the calls")
    else:
        peers.not_ok("verifier the gateway served the calls", f"{rounds} of {CALLS * 4 // 5} answered in each round")


def crash(gateway):
    """Kills the gateway in the middle of calls and starts it again on what is left."""
    with ThreadPoolExecutor(1) as pool:
        serving = pool.submit(serve, gateway, CALLS)
        time.sleep(0.3)
        gateway.kill()
        serving.result()
    gateway.start()
    gateway.wait_ready(["sample"])


def flipped(log, file, work, chance):
    """A copy of the log with one bit of one file flipped."""
    copy = work / "flipped"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(log, copy)
    target = copy / file.relative_to(log)
    data = bytearray(target.read_bytes())
    bit = chance.randrange(len(data) * 8)
    data[bit // 8] ^= 1 << bit % 8
    target.chmod(0o600)
    target.write_bytes(data)
    return copy, bit


def checkpoint_size(log):
    return int((log / "checkpoint").read_text().split("\n")[1])


def judged(log):
    """The files that the checkpoint in force speaks about, by kind: older partial tiles are superseded."""
    size = checkpoint_size(log)
    kinds = {"checkpoint": [log / "checkpoint"], "entries": [], "tile": []}
    level, count = 0, size
    while count:
        for kind, name in [("tile", str(level)), *([("entries", "entries")] if level == 0 else [])]:
            for number in range((count + 255) // 256):
                width = min(256, count - number * 256)
                path = log / "tile" / name / f"{number:03d}"
                partial = path.parent / f"{path.name}.p" / str(width)
                kinds[kind].append(path if width == 256 or not partial.is_file() else partial)
        level, count = level + 1, count // 256
    return kinds


def tampering(verifier, log, key, work):
    seed = int(os.environ.get("PEERS_SEED") or time.time())
    chance = random.Random(seed)
    for kind, names in judged(log).items():
        accepted = []
        for _ in range(FLIPS_PER_KIND):
            file = chance.choice(names)
            copy, bit = flipped(log, file, work, chance)
            code, output = verify(verifier, copy, key)
            if code != 1:
                accepted.append(f"{file.relative_to(log)} bit {bit}: {output}")
        label = f"verifier refuses {FLIPS_PER_KIND} flipped bits in files of kind {kind}"
        if accepted:
            peers.not_ok(label, f"seed {seed}: {accepted}")
        else:
            peers.ok(label)


def evidence(verifier, gateway, key, work):
    """Entries that were exported, each with its proof: accepted as they are, refused after any flipped bit."""
    bundle = work / "evidence"
    command = [gateway.binary, "audit", "export", "--offline", "-o", bundle, "--event", "call.refused|key.*", "--json"]
    code, output, errors = peers.run(command, 120, cwd=gateway.folder)
    if code:
        peers.not_ok("verifier accepts exported evidence", output + errors)
        return
    count = json.loads(output)["entries"]
    code, output, errors = peers.run([verifier, "--bundle", bundle, key], 60)
    if code == 0 and f"verified {count} entries" in output and count > CALLS // 5:
        peers.ok(f"verifier accepts exported evidence ({count} entries)")
    else:
        peers.not_ok("verifier accepts exported evidence", output + errors)
    chance = random.Random(int(os.environ.get("PEERS_SEED") or time.time()))
    accepted = []
    for kind in ("entries", "proofs"):
        for file in chance.sample(sorted((bundle / kind).iterdir()), FLIPS_PER_KIND):
            whole = file.read_bytes()
            data = bytearray(whole)
            bit = chance.randrange(len(data) * 8)
            data[bit // 8] ^= 1 << bit % 8
            file.write_bytes(data)
            code, output, _ = peers.run([verifier, "--bundle", bundle, key], 60)
            file.write_bytes(whole)
            if code != 1:
                accepted.append(f"{file.name} bit {bit}: {output}")
    if accepted:
        peers.not_ok("verifier refuses flipped bits in exported evidence", accepted)
    else:
        peers.ok(f"verifier refuses {2 * FLIPS_PER_KIND} flipped bits in exported evidence")
    recipes(bundle, count)


def recipes(bundle, count):
    """Every recipe of the page on forensics, as it stands there, in DuckDB over what was exported."""
    page = HERE.parents[2] / "docs/operate/forensics.md"
    queries = re.findall(r"```sql\n(.*?)```", page.read_text(), re.DOTALL)
    python = peers.CACHE / "pypi-siem/bin/python"
    program = (
        "import duckdb, json, sys\n"
        "answers = [duckdb.sql(query).fetchall() if query.lstrip().upper().startswith('SELECT') else duckdb.sql(query)"
        " for query in json.load(sys.stdin)]\n"
        "answers.append(duckdb.sql(\"SELECT count(*) FROM 'entries.parquet'\").fetchall())\n"
        "print(json.dumps(answers, default=str))\n"
    )
    done = subprocess.run(
        [python, "-c", program], input=json.dumps(queries), capture_output=True, text=True, timeout=120, cwd=bundle
    )
    answers = json.loads(done.stdout) if done.returncode == 0 else []
    full = [answer for answer in answers if answer]
    if len(queries) > 3 and answers and answers[-1] == [[count]] and len(full) >= len(queries):
        peers.ok(f"verifier duckdb carries out {len(queries)} recipes")
    else:
        peers.not_ok("verifier duckdb carries out the recipes", done.stderr[-2000:] or answers)


def main():
    work = peers.folder()
    try:
        verifier = build(work)
    except (RuntimeError, OSError) as error:
        peers.not_ok("verifier builds", error)
        peers.finish()
    peers.ok("verifier builds")
    try:
        sample = [os.environ.get("PEERS_GATEWAY", ""), "sample-server"]
        gateway = peers.Gateway({"sample": {"command": sample}})
        gateway.wait_ready(["sample"])
    except peers.Missing as missing:
        peers.skip("verifier of the ledger", missing)
        peers.finish()
    except RuntimeError as error:
        peers.not_ok("verifier of the ledger", error)
        peers.finish()
    log = gateway.folder / "portcullis-data/ledger"
    key = log / "key.pub"
    grow(verifier, gateway, log, key)
    crash(gateway)
    gateway.stop()
    code, output = verify(verifier, log, key)
    found = re.search(r"verified (\d+) entries, (\d+) proofs", output)
    # Each call leaves its intent and its outcome.
    if code == 0 and found and int(found.group(1)) > CALLS and int(found.group(2)) > 10:
        peers.ok(f"verifier accepts the ledger ({found.group(1)} entries, {found.group(2)} proofs)")
        tampering(verifier, log, key, work)
        evidence(verifier, gateway, key, work)
    else:
        peers.not_ok("verifier accepts the ledger", output)
    peers.finish()


if __name__ == "__main__":
    main()
