"""What every peer suite shares: where the counterparts are, child processes that never outlive us, the gateway
itself, and the lines that `cargo xtask test` counts (`ok NAME`, `not ok NAME reason`, `skip NAME reason`)."""

import atexit
import ctypes
import fcntl
import itertools
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PEERS = ROOT / "tests/peers"
CACHE = Path(os.environ.get("PEERS_CACHE") or Path.home() / ".cache/portcullis")
NODE = CACHE / "npm/bin/node"
MODULES = CACHE / "npm/node_modules"
PYTHON = CACHE / "pypi/bin/python"
PYTHON_LEGACY = CACHE / "pypi-legacy/bin/python"
LEGACY, MODERN = "2025-11-25", "2026-07-28"

children = []
counts = {"ok": 0, "not ok": 0, "skip": 0}
passed = []


def line(kind, name, reason=""):
    """Prints one line that is counted."""
    counts[kind] += 1
    print(f"{kind} {name} {' '.join(str(reason).split())[:600]}".rstrip(), flush=True)


def ok(name):
    passed.append(name)
    line("ok", name)


def not_ok(name, reason):
    line("not ok", name, reason)


def skip(name, reason):
    line("skip", name, reason)


def record(name, value):
    """Holds an outcome to the recorded one, from which the compatibility page is made. An outcome with failures in it is
    no record, and they are reported already."""
    if counts["not ok"] or counts["skip"]:
        return
    text = json.dumps(value, indent=1, sort_keys=True) + "\n"
    fresh, kept = ROOT / f"target/xtask/record/{name}.json", PEERS / f"record/{name}.json"
    fresh.parent.mkdir(parents=True, exist_ok=True)
    fresh.write_text(text)
    if kept.is_file() and kept.read_text() == text:
        ok(f"record of {name}")
    else:
        not_ok(f"record of {name}", "differs from tests/peers/record; hint: `cargo xtask matrix` takes the new one over")


def finish():
    """Ends the suite with the exit code that its lines call for."""
    print("# " + ", ".join(f"{count} {kind}" for kind, count in counts.items()), flush=True)
    sys.exit(1 if counts["not ok"] or not counts["ok"] else 0)


def die_with_parent():
    # PR_SET_PDEATHSIG: even a killed suite leaves nothing behind.
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def spawn(command, log, **more):
    """Starts a child whose output goes to a file."""
    output = open(log, "ab")
    words = [str(word) for word in command]
    child = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, preexec_fn=die_with_parent, **more
    )
    output.close()
    children.append(child)
    return child


def run(command, seconds, **more):
    """Runs a command to its end; returns its exit code, output and errors. A late one counts as exit code 124."""
    words = [str(word) for word in command]
    child = subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=die_with_parent,
        **more,
    )
    children.append(child)
    try:
        output, errors = child.communicate(timeout=seconds)
        return child.returncode, output, errors
    except subprocess.TimeoutExpired:
        child.kill()
        output, errors = child.communicate()
        return 124, output, errors + f"\nno end within {seconds} s"
    finally:
        children.remove(child)


def stop(child):
    """Ends a child, kindly at first."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(5)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    if child in children:
        children.remove(child)


@atexit.register
def stop_all():
    for child in list(children):
        stop(child)


signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


PORTS, BLOCK = range(12_000, 32_000), 100
own_ports = None


def take_ports():
    """A block of ports that no other process of these tests takes while this one runs; `crates/testkit/src/ports.rs`
    shares them out in the same way. All lie below those that the kernel gives to outgoing connections: one of these
    could be gone between the moment it is found free and the moment somebody listens on it."""
    place = Path(tempfile.gettempdir()) / "portcullis-test-ports"
    place.mkdir(exist_ok=True)
    blocks = len(PORTS) // BLOCK
    begin = random.randrange(blocks)
    for step in range(blocks):
        number = (begin + step) % blocks
        lock = open(place / str(number), "a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            continue
        start = PORTS.start + number * BLOCK
        return lock, itertools.cycle(range(start, start + BLOCK))
    raise RuntimeError("every block of ports is taken")


def free_port():
    """A port of this process on which nobody listens."""
    global own_ports
    own_ports = own_ports or take_ports()
    for _ in range(BLOCK):
        port = next(own_ports[1])
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("too few ports are free")


def wait_port(port, child, log, seconds=120):
    """Waits until somebody listens."""
    due = time.monotonic() + seconds
    while time.monotonic() < due:
        if child.poll() is not None:
            break
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"nobody listens on {port}: {Path(log).read_text(errors='replace')[-2000:]}")


def folder():
    """A folder of this run, gone with it."""
    kept = tempfile.TemporaryDirectory(prefix="portcullis-peers-", ignore_cleanup_errors=True)

    def clean():
        # Whoever still writes there goes first.
        stop_all()
        kept.cleanup()

    atexit.register(clean)
    return Path(kept.name)


class Missing(Exception):
    """There is no gateway to test."""


def gateway_binary():
    binary = os.environ.get("PEERS_GATEWAY")
    if not binary or not Path(binary).is_file():
        raise Missing(f"no gateway at `{binary}`; hint: `cargo build -p portcullis`")
    return binary


class Gateway:
    """The gateway with these servers, all allowed but the tools named in `refused`."""

    def __init__(self, servers, refused=(), limits=None, more=None, environment=None, port=None):
        self.binary, self.folder = gateway_binary(), folder()
        self.port, self.admin = port or free_port(), free_port()
        self.environment = {**os.environ, **(environment or {})}
        role = {"description": "Everything but what the test refuses.", "allow": [{"servers": ["*"]}]}
        if refused:
            role["deny"] = [{"tools": list(refused)}]
        config = {
            "listen": {"address": f"127.0.0.1:{self.port}"},
            "admin": {"address": f"127.0.0.1:{self.admin}"},
            "data": "./portcullis-data",
            "servers": servers,
            # The key of the first start has the role `operator`; a role of that name replaces the built-in one.
            "roles": {"operator": role},
        }
        if limits:
            config["limits"] = limits
        config.update(more or {})
        # JSON is YAML.
        (self.folder / "portcullis.yaml").write_text(json.dumps(config, indent=2))
        self.log = self.folder / "output.log"
        self.start()
        self.key = self.wait_key()

    def start(self):
        """Starts the process, also again after it was killed."""
        command = [self.binary, "run", "--config", "portcullis.yaml"]
        self.child = spawn(command, self.log, cwd=self.folder, env=self.environment)
        wait_port(self.port, self.child, self.log)
        wait_port(self.admin, self.child, self.log)

    def kill(self):
        """Ends the process as a power cut would."""
        self.child.kill()
        self.child.wait()

    def wait_key(self, seconds=60):
        due = time.monotonic() + seconds
        while time.monotonic() < due:
            found = re.search(r"pcl_[A-Za-z0-9]+_[A-Za-z0-9_-]{20,}", self.output())
            if found:
                return found.group()
            time.sleep(0.05)
        raise RuntimeError(f"no key was printed: {self.output()[-2000:]}")

    def url(self, server):
        return f"http://127.0.0.1:{self.port}/mcp/{server}"

    def output(self):
        return self.log.read_text(errors="replace")

    def wait_ready(self, servers, seconds=180):
        """Waits until each server answers through the gateway, in either revision."""
        due = time.monotonic() + seconds
        for server in servers:
            while not self.answers(server):
                if time.monotonic() > due or self.child.poll() is not None:
                    raise RuntimeError(f"`{server}` does not answer: {self.output()[-2000:]}")
                time.sleep(0.2)

    def answers(self, server):
        body = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "initialize",
            "params": {
                "protocolVersion": LEGACY,
                "capabilities": {},
                "clientInfo": {"name": "probe", "version": "1"},
            },
        }
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "Authorization": f"Bearer {self.key}",
        }
        request = urllib.request.Request(self.url(server), json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status == 200
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            return False

    def stop(self):
        stop(self.child)
