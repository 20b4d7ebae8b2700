"""Secrets from AWS Secrets Manager, as moto implements it with signatures and permissions checked, used by the gateway
for a server that wants a credential in each request and for one that has it in its environment."""

import hashlib
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import peers  # noqa: E402

HERE = Path(__file__).resolve().parent
AWS = peers.CACHE / "pypi-aws/bin"
CACHE_SECONDS = 6
ROLE = "arn:aws:iam::123456789012:role/reader"
# Put together here, so that no scanner of this repository takes them for credentials.
FIRST, SECOND, PLAIN, OWN = (
    "value-of-the-" + word + "-kind-7f3a91" for word in ("first", "second", "plain", "own")
)


class Keeper:
    """AWS, and the operator there."""

    def __init__(self, work):
        self.port, self.log = peers.free_port(), work / "aws.log"
        self.url = f"http://127.0.0.1:{self.port}"
        environment = {**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": str(calls())}
        self.child = peers.spawn([AWS / "moto_server", "-H", "127.0.0.1", "-p", self.port], self.log, env=environment)
        peers.wait_port(self.port, self.child, self.log)
        self.hand = subprocess.Popen(
            [AWS / "python", HERE / "keeper.py", self.url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=open(work / "keeper.log", "ab"),
            text=True,
            preexec_fn=peers.die_with_parent,
        )
        peers.children.append(self.hand)

    def ask(self, **asked):
        self.hand.stdin.write(json.dumps(asked) + "\n")
        self.hand.stdin.flush()
        answer = self.hand.stdout.readline()
        if not answer:
            raise RuntimeError("the operator at AWS failed")
        return json.loads(answer)


def calls():
    for line in (HERE / "keeper.py").read_text().splitlines():
        if line.startswith("SECRETS = "):
            return 11 + int(line.removeprefix("SECRETS = "))
    raise RuntimeError("keeper.py has no count")


def call(gateway, server):
    """The digest of the credential that the server got, or the code of the refusal."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": peers.MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"name": "credential", "arguments": {}, "_meta": meta}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "Authorization": f"Bearer {gateway.key}",
        "MCP-Protocol-Version": peers.MODERN,
        "Mcp-Method": "tools/call",
        "Mcp-Name": "credential",
    }
    request = urllib.request.Request(gateway.url(server), json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read().decode()
    except urllib.error.HTTPError as refused:
        text = refused.read().decode()
    data = [line.removeprefix("data:") for line in text.splitlines() if line.startswith("data:")]
    answer = json.loads(data[-1] if data else text)
    if "error" in answer:
        return answer["error"].get("data", {}).get("code", json.dumps(answer["error"]))
    return answer["result"]["content"][0]["text"].removeprefix("digest ")


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


def held(name, good, reason=""):
    if good:
        peers.ok(f"secrets {name}")
    else:
        peers.not_ok(f"secrets {name}", reason)


def command(gateway, *words, environment=None):
    return peers.run([gateway.binary, *words], 60, cwd=gateway.folder, env=environment or gateway.environment)


def events(gateway, event):
    code, output, errors = command(gateway, "audit", "query", "--event", event, "--json")
    if code:
        raise RuntimeError(f"audit query: {output}{errors}")
    return [json.loads(line) for line in output.splitlines()]


def spilled(gateway, values):
    """Files of the gateway that hold one of the values."""
    found = []
    for path in gateway.folder.rglob("*"):
        if path.is_file() and any(value.encode() in path.read_bytes() for value in values):
            found.append(str(path.relative_to(gateway.folder)))
    return found


def begin(work):
    keeper = Keeper(work)
    names = {"prod/app": json.dumps({"token": FIRST, "other": "x"}), "prod/plain": PLAIN}
    keys = keeper.ask(do="begin", names=names)
    wanted, port, log = work / "wanted", peers.free_port(), work / "upstream.log"
    wanted.write_text(f"Bearer {FIRST}")
    child = peers.spawn([peers.PYTHON, HERE / "upstream.py", port, wanted], log)
    peers.wait_port(port, child, log)
    url = f"http://127.0.0.1:{port}/mcp"
    servers = {
        "header": {"url": url, "headers": {"Authorization": "Bearer aws:prod/app#token"}},
        "child": {"command": [str(peers.PYTHON), str(HERE / "upstream.py")], "env": {"SHOWN_TO_ME": "aws:prod/plain"}},
        "own": {"command": [str(peers.PYTHON), str(HERE / "upstream.py")], "env": {"SHOWN_TO_ME": "local:team/own"}},
        "absent": {"url": url, "headers": {"Authorization": "Bearer aws:prod/nothing"}},
    }
    aws = {"region": "eu-central-1", "endpoint": keeper.url}
    more = {"secrets": {"cache_s": CACHE_SECONDS, "aws": aws}}
    environment = {"AWS_ACCESS_KEY_ID": keys["gateway"][0], "AWS_SECRET_ACCESS_KEY": keys["gateway"][1]}
    gateway = peers.Gateway(servers, more=more, environment=environment)
    gateway.wait_ready(["header", "child"])
    return keeper, keys, wanted, gateway


def rotation(keeper, wanted, gateway):
    """A new value while 128 calls at once go on: the old one is good nowhere any more, and no call may fail."""
    with ThreadPoolExecutor(128) as pool:
        before = [pool.submit(call, gateway, "header") for _ in range(256)]
        time.sleep(0.2)
        keeper.ask(do="put", name="prod/app", value=json.dumps({"token": SECOND}))
        wanted.write_text(f"Bearer {SECOND}")
        after = [pool.submit(call, gateway, "header") for _ in range(256)]
        answers = [one.result() for one in before + after]
    good = {digest(f"Bearer {FIRST}"), digest(f"Bearer {SECOND}")}
    failed = [answer for answer in answers if answer not in good]
    held("rotate during 128 concurrent calls without a failed one", not failed, f"{len(failed)}: {failed[:3]}")
    held("are on record when they rotate", events(gateway, "secret.rotated"), "no entry")


def child(keeper, gateway):
    """A child that was given a value is replaced when there is another, and nobody's call fails."""
    keeper.ask(do="put", name="prod/plain", value=SECOND)
    code, output, errors = command(gateway, "secret", "rotate", "aws:prod/plain", "--json")
    due, answers = time.monotonic() + 60, set()
    while time.monotonic() < due and digest(SECOND) not in answers:
        answers.add(call(gateway, "child"))
    good = code == 0 and answers <= {digest(PLAIN), digest(SECOND)} and digest(SECOND) in answers
    held("that rotate reach a new child without a failed call", good, f"{answers} {output} {errors}")


def kept(gateway):
    """A secret that the gateway keeps itself."""
    got = call(gateway, "own")
    held("that the gateway shall keep and does not refuse calls", got in ("secret.unavailable", "target.unknown"), got)
    put = [gateway.binary, "secret", "put", "team/own"]
    done = subprocess.run(put, cwd=gateway.folder, input=OWN + "\n", text=True, capture_output=True, timeout=60)
    due, got = time.monotonic() + 60, ""
    while time.monotonic() < due and got != digest(OWN):
        got = call(gateway, "own")
        time.sleep(0.5)
    held("that the gateway keeps reach a child", got == digest(OWN), f"{got} {done.stdout}{done.stderr}")
    code, output, errors = command(gateway, "secret", "kept", "--json")
    fine = code == 0 and "team/own" in output and OWN not in output + errors
    held("that the gateway keeps are listed by name", fine, f"{code} {output} {errors}")
    code, output, errors = command(gateway, "secret", "remove", "team/own")
    again = command(gateway, "secret", "remove", "team/own")[0]
    held("that the gateway keeps are removed once", (code, again) == (0, 1), f"{code} {again} {output} {errors}")


def commands(keys, gateway):
    code, output, errors = command(gateway, "secret", "check", "--json")
    rows = {row["key"]: row for row in json.loads(output)} if output.startswith("[") else {}
    fine = rows.get("servers.header.headers.Authorization", {})
    lost = rows.get("servers.absent.headers.Authorization", {})
    good = fine.get("ok") is True and fine.get("version") and lost.get("ok") is False and code == 1
    held("check follows every reference", good, f"{code} {output} {errors}")
    held("check prints no value", not any(value in output + errors for value in (FIRST, SECOND, PLAIN, OWN)), output)
    code, output, errors = command(gateway, "secret", "list", "--aws", "--json")
    held("list reads every page", code == 0 and len(json.loads(output)) == 104, f"{code} {output[:200]} {errors}")
    for name, key, word in (
        ("wrong signature", [keys["gateway"][0], keys["stranger"][1]], "SignatureDoesNotMatch"),
        ("missing permission", keys["stranger"], "AccessDenied"),
    ):
        pair = {"AWS_ACCESS_KEY_ID": key[0], "AWS_SECRET_ACCESS_KEY": key[1]}
        code, output, errors = command(gateway, "secret", "check", environment={**gateway.environment, **pair})
        held(f"a {name} is told apart", code == 1 and word in output, f"{code} {output} {errors}")


def roles(keys, gateway):
    """The same secrets as a role that is taken on with a key. (moto tells services by signatures, so that it has no place for a
    web identity behind one address; the tests of the crate have a server of their own for that.)"""
    config = json.loads((gateway.folder / "portcullis.yaml").read_text())
    config["secrets"]["aws"]["role_arn"] = ROLE
    (gateway.folder / "role.yaml").write_text(json.dumps(config))
    code, output, errors = command(gateway, "secret", "check", "--config", "role.yaml", "--json")
    rows = {row["key"]: row for row in json.loads(output)} if output.startswith("[") else {}
    fine = rows.get("servers.header.headers.Authorization", {})
    held("are read by a role that is taken on", fine.get("ok") is True and fine.get("age_s") is not None, f"{output} {errors}")


def main():
    work = peers.folder()
    try:
        keeper, keys, wanted, gateway = begin(work)
    except peers.Missing as missing:
        peers.skip("secrets", missing)
        peers.finish()
    except RuntimeError as error:
        peers.not_ok("secrets the parts start", error)
        peers.finish()
    got = call(gateway, "header")
    held("reach the header of a request", got == digest(f"Bearer {FIRST}"), got)
    got = call(gateway, "child")
    held("reach the environment of a child", got == digest(PLAIN), got)
    got = call(gateway, "absent")
    held("that are not there refuse the calls that need them", got in ("secret.unavailable", "target.unknown"), got)
    used = {entry["entry"]["data"]["secret"] for entry in events(gateway, "secret.used")}
    held("are on record when they are first used", {"aws:prod/app", "aws:prod/plain"} <= used, used)
    rotation(keeper, wanted, gateway)
    got = call(gateway, "header")
    held("are the new ones afterwards", got == digest(f"Bearer {SECOND}"), got)
    child(keeper, gateway)
    kept(gateway)
    commands(keys, gateway)
    roles(keys, gateway)
    peers.stop(keeper.child)
    got = call(gateway, "child")
    held("of a running child need no source", got == digest(SECOND), got)
    due, got = time.monotonic() + 60, ""
    while time.monotonic() < due and got != "secret.unavailable":
        got = call(gateway, "header")
        time.sleep(0.5)
    held("beyond their time are not used while their source is away", got == "secret.unavailable", got)
    found = spilled(gateway, (FIRST, SECOND, PLAIN, OWN))
    held("are in no file of the gateway", not found, found)
    gateway.stop()
    found = spilled(gateway, (FIRST, SECOND, PLAIN, OWN))
    held("are in no file of the gateway that stopped", not found, found)
    peers.finish()


if __name__ == "__main__":
    main()
