"""Official clients of both revisions with real servers: each client opens, lists, calls a tool, is refused another,
reads a resource and asks for a prompt. First direct, which shows that the plan fits the server, then through the
gateway, where the refused tool must also be missing from the list, and over standard input and output of
`portcullis wrap`."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))

import peers  # noqa: E402
from peers import LEGACY, MODERN  # noqa: E402

HERE = Path(__file__).resolve().parent
MCP = peers.MODULES / "@modelcontextprotocol"
# What no server has: refused by the server itself when there is no gateway.
UNKNOWN = {"name": "no_such_tool", "arguments": {}}


def call(name, **arguments):
    return {"name": name, "arguments": arguments}


def servers(work):
    """The upstreams: how each is started, which revisions it speaks, and a plan for it. A plan names a call and a
    text its answer holds, a call that the gateway is to refuse, and where there are any a resource and a prompt."""
    repository = work / "repository"
    subprocess.run(["git", "init", "--quiet", repository], check=True)
    note = work / "note.txt"
    note.write_text("a note for the test")
    everything = [peers.NODE, MCP / "server-everything/dist/index.js"]
    everything_plan = {
        "call": call("echo", message="hello from the test"),
        "expect": "hello from the test",
        "refused": call("get-env"),
        "resource": {"uri": "demo://resource/static/document/architecture.md"},
        "prompt": call("args-prompt", city="Bern"),
        "prompt_expect": "Bern",
    }
    filesystem_plan = {
        "call": call("read_text_file", path=str(note)),
        "expect": "a note for the test",
        "refused": call("write_file", path=str(note), content="changed"),
    }
    time_plan = {
        "call": call("get_current_time", timezone="Europe/Zurich"),
        "expect": "Europe/Zurich",
        "refused": call("convert_time", source_timezone="UTC", time="12:00", target_timezone="Asia/Tokyo"),
    }
    git_plan = {
        "call": call("git_status", repo_path=str(repository)),
        "expect": "No commits yet",
        "refused": call("git_create_branch", repo_path=str(repository), branch_name="mischief"),
    }
    popular_plan = {
        "call": call("add", a=20, b=22),
        "expect": "42",
        "refused": call("drop", table="users"),
        "resource": {"uri": "popular://motto"},
        "prompt": call("review", subject="the gateway"),
        "prompt_expect": "the gateway",
    }
    both = (LEGACY, MODERN)
    return {
        "everything-stdio": Stdio([*everything, "stdio"], (LEGACY,), everything_plan),
        "everything-sse": Sse([*everything, "sse"], (LEGACY,), everything_plan),
        "everything-http": Http([*everything, "streamableHttp"], (LEGACY,), everything_plan),
        "filesystem": Stdio(
            [peers.NODE, MCP / "server-filesystem/dist/index.js", work], (LEGACY,), filesystem_plan, write=[work]
        ),
        "time": Stdio([peers.PYTHON, "-m", "mcp_server_time"], both, time_plan),
        "git": Stdio(
            [peers.PYTHON, "-m", "mcp_server_git", "--repository", repository],
            both,
            git_plan,
            write=[repository],
            read=[Path.home() / ".gitconfig"],
        ),
        "fastmcp": Http([peers.PYTHON, peers.PEERS / "upstreams/fastmcp_server.py"], both, popular_plan),
        "modern": Http([peers.PYTHON, peers.PEERS / "upstreams/fastmcp_server.py", "modern"], (MODERN,), popular_plan),
    }


class Stdio:
    """A server that the gateway starts, confined with the rules that hold by default; data must be given to it."""

    def __init__(self, command, revisions, plan, write=(), read=()):
        self.command, self.revisions, self.plan = [str(word) for word in command], revisions, plan
        self.write, self.read = [str(path) for path in write], [str(path) for path in read]
        self.url = None

    def section(self):
        return {"command": self.command, "sandbox": {"write": self.write, "read": self.read}}


class Http(Stdio):
    """A server that we start; its port comes last on the command line and in PORT."""

    def start(self, work):
        port, log = peers.free_port(), work / f"http-{len(peers.children)}.log"
        child = peers.spawn([*self.command, port], log, env={**os.environ, "PORT": str(port)})
        peers.wait_port(port, child, log)
        self.url = f"http://127.0.0.1:{port}/mcp"

    def section(self):
        return {"url": self.url}


class Sse(Http):
    """A server of the transport before Streamable HTTP: no client here speaks it, so that it is not asked directly."""

    def start(self, work):
        super().start(work)
        self.events, self.url = self.url.removesuffix("/mcp") + "/sse", None

    def section(self):
        return {"url": self.events, "transport": "legacy_sse"}


# ---- clients: name, the revisions it speaks, and how it is run


def script(command, legacy_only=False):
    def run(url, bearer, revision, plan):
        more = {"PEER_URL": url} if isinstance(url, str) else {"PEER_COMMAND": json.dumps(url)}
        more |= {"PEER_BEARER": bearer, "PEER_PLAN": json.dumps(plan)}
        environment = {**os.environ, **more, "PEER_MODULES": str(peers.MODULES)}
        code, output, errors = peers.run(command(revision), 60, env=environment)
        if code != 0:
            raise RuntimeError(f"exit code {code}: {(output + errors)[-800:]}")
        return json.loads(output.strip().splitlines()[-1])

    return ((LEGACY,) if legacy_only else (LEGACY, MODERN)), run


def inspector(url, bearer, revision, plan):
    """The Inspector's command line: one process for each request."""
    era = "legacy" if revision == LEGACY else "modern"
    base = [peers.NODE, peers.MODULES / ".bin/mcp-inspector", "--cli", "--protocol-era", era, "--format", "json"]
    base += ["--quiet", "--stored-auth-only"]
    home = peers.folder()
    if isinstance(url, str):
        base += ["--server-url", url, "--transport", "http"]
    else:
        config = {"mcpServers": {"wrapped": {"type": "stdio", "command": url[0], "args": url[1:]}}}
        (home / "config.json").write_text(json.dumps(config))
        base += ["--config", home / "config.json", "--server", "wrapped"]
    if bearer:
        base += ["--header", f"Authorization: Bearer {bearer}"]
    environment = {**os.environ, "PATH": f"{peers.NODE.parent}:{os.environ['PATH']}", "HOME": str(home)}

    def ask(method, *words):
        code, output, errors = peers.run([*base, "--method", method, *words], 60, env=environment)
        return {"error": code != 0, "text": output if code == 0 else output + errors}

    def pairs(option, arguments):
        return [word for name, value in arguments.items() for word in (option, f"{name}={value}")]

    listed = ask("tools/list")
    if listed["error"]:
        raise RuntimeError(listed["text"][-800:])
    answer = json.loads(listed["text"])
    seen = {"version": revision, "tools": [tool["name"] for tool in answer.get("result", answer)["tools"]]}
    for key in ("call", "refused"):
        arguments = json.dumps(plan[key]["arguments"])
        seen[key] = ask("tools/call", "--tool-name", plan[key]["name"], "--tool-args-json", arguments)
    if plan.get("resource"):
        seen["resource"] = ask("resources/read", "--uri", plan["resource"]["uri"])
    if plan.get("prompt"):
        wanted = plan["prompt"]
        seen["prompt"] = ask("prompts/get", "--prompt-name", wanted["name"], *pairs("--prompt-args", wanted["arguments"]))
    return seen


CLIENTS = {
    "python": script(lambda revision: [peers.PYTHON, HERE / "python_sdk.py", revision]),
    "python-v1": script(lambda revision: [peers.PYTHON_LEGACY, HERE / "python_legacy.py"], legacy_only=True),
    "typescript": script(lambda revision: [peers.NODE, HERE / "typescript.mjs", revision, "v2"]),
    "typescript-v1": script(lambda revision: [peers.NODE, HERE / "typescript.mjs", revision, "v1"], legacy_only=True),
    "inspector": ((LEGACY, MODERN), inspector),
}


def judge(label, seen, plan, revision, hidden):
    """One line for each thing the client did."""

    done = []

    def check(step, fine, reason=""):
        if fine:
            done.append(step)
            peers.ok(f"{label} {step}")
        else:
            peers.not_ok(f"{label} {step}", reason)

    check("opens", seen["version"] == revision, f"got {seen['version']}")
    listed = plan["call"]["name"] in seen["tools"] and (plan["barred"] in seen["tools"]) is not hidden
    check("lists", listed, f"saw {seen['tools']}")
    answered = not seen["call"]["error"] and plan["expect"] in seen["call"]["text"]
    check("calls", answered, seen["call"]["text"])
    check("is refused", seen["refused"]["error"], seen["refused"]["text"])
    if plan.get("resource"):
        check("reads", not seen["resource"]["error"] and len(seen["resource"]["text"]) > 50, seen["resource"]["text"])
    if plan.get("prompt"):
        fine = not seen["prompt"]["error"] and plan["prompt_expect"] in seen["prompt"]["text"]
        check("asks", fine, seen["prompt"]["text"])
    return done


def matrix(where, targets, hidden):
    """Every client with every server: of its revision, and through the gateway of any. Returns what each did, by server, client and revision."""
    runs, cells = [], {}
    for name, (url, bearer, server) in targets.items():
        # The tool that the gateway is to refuse must be there without it, or the test would prove nothing.
        barred = server.plan["refused"]["name"]
        plan = {**server.plan, "barred": barred} if hidden else {**server.plan, "barred": barred, "refused": UNKNOWN}
        for client, (revisions, run) in CLIENTS.items():
            for revision in revisions:
                # The gateway bridges what a server does not speak.
                if hidden or revision in server.revisions:
                    runs.append(((where, client, revision, name), run, url, bearer, plan))

    def one(entry):
        (_, _, revision, _), run, url, bearer, plan = entry
        try:
            return run(url, bearer, revision, plan), None
        except Exception as error:  # noqa: BLE001 - a client that breaks is a failure of this line, not of the suite
            return None, error

    with ThreadPoolExecutor(2) as pool:
        for (names, _, _, _, plan), (seen, error) in zip(runs, pool.map(one, runs), strict=True):
            label, (_, client, revision, server) = " ".join(names), names
            if error is not None:
                peers.not_ok(label, error)
            else:
                done = judge(label, seen, plan, revision, hidden)
                cells.setdefault(server, {}).setdefault(client, {})[revision] = done
    return cells


def wrapped(binary, upstreams, refused, work):
    """Commands and remote servers, each behind `portcullis wrap`."""
    role = {"description": "What the test allows.", "allow": [{"servers": ["*"]}], "deny": [{"tools": refused}]}
    policy = work / "wrap.yaml"
    # JSON is YAML.
    policy.write_text(json.dumps({"roles": {"local": role}}))
    targets = {}
    for name in WRAPPED:
        server = upstreams[name]
        options = ["--config", str(policy), "--data", str(work / "wrapped"), "--name", name]
        target = ["--url", server.url] if server.url else ["--", *server.command]
        targets[name] = ([binary, "wrap", *options, *target], "", server)
    return targets


# One command of each make, and one remote server of each revision: wrapping more of them shows nothing new.
WRAPPED = ("everything-stdio", "filesystem", "time", "everything-http", "modern")


def main():
    work = peers.folder()
    upstreams = servers(work)
    for server in upstreams.values():
        if isinstance(server, Http):
            server.start(work)
    direct = {name: (server.url, "", server) for name, server in upstreams.items() if server.url}
    matrix("direct", direct, hidden=False)
    refused = [server.plan["refused"]["name"] for server in upstreams.values()]
    try:
        sections = {name: server.section() for name, server in upstreams.items()}
        gateway = peers.Gateway(sections, refused=sorted(set(refused)))
        gateway.wait_ready(upstreams)
    except peers.Missing as missing:
        peers.skip("clients through the gateway", missing)
        peers.finish()
    except RuntimeError as error:
        peers.not_ok("clients through the gateway", error)
        peers.finish()
    through = {name: (gateway.url(name), gateway.key, server) for name, server in upstreams.items()}
    cells = matrix("gateway", through, hidden=True)
    matrix("wrap", wrapped(gateway.binary, upstreams, sorted(set(refused)), work), hidden=True)
    if (work / "note.txt").read_text() == "a note for the test":
        peers.ok("gateway refused calls changed nothing")
    else:
        peers.not_ok("gateway refused calls changed nothing", "the note was written")
    gateway.stop()
    peers.record("clients", cells)
    peers.finish()


if __name__ == "__main__":
    main()
