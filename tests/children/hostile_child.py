"""An MCP server on stdio that tries whatever a call asks of it, and says in each answer how that went."""

import ctypes
import json
import mmap
import os
import platform
import signal
import socket
import sys

NUMBERS = {
    "x86_64": {"io_uring_setup": 425, "ptrace": 101, "mount": 165, "unshare": 272, "bpf": 321, "setsid": 112},
    "aarch64": {"io_uring_setup": 425, "ptrace": 117, "mount": 40, "unshare": 97, "bpf": 280, "setsid": 157},
}


def place(text):
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def tcp(on):
    host, port = place(on)
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as out:
        out.settimeout(5)
        out.connect((host, port))


def udp(on):
    host, port = place(on)
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.sendto(b"out", (host, port))


def raw(_):
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()


def unix(on):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as out:
        out.connect("\0" + on[1:] if on.startswith("@") else on)


def listen(on):
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as waiting:
        if on:
            waiting.bind(place(on))
        waiting.listen()
        return str(waiting.getsockname())


def fast_open(on):
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as out:
        out.settimeout(5)
        out.sendto(b"GET / HTTP/1.0\r\n\r\n", socket.MSG_FASTOPEN, place(on))
        return out.recv(100).decode()


def fork(_):
    for count in range(100_000):
        if os.fork() == 0:
            signal.pause()
    return str(count)


def write(on):
    with open(on, "w", encoding="utf-8") as file:
        file.write("written")


def read(on):
    with open(on, encoding="utf-8") as file:
        return file.read()


def flood(on):
    for number in range(800):
        try:
            open(f"{on}/{number % 300}", "x", encoding="utf-8").close()
        except PermissionError:
            pass


def odd(on):
    write(f"{on}/\x1b[2J\u202e" + "x" * 200)


def measure(on):
    import time

    start = time.perf_counter()
    for _ in range(5_000):
        os.close(os.open(on, os.O_RDONLY))
    return f"{(time.perf_counter() - start) / 5_000 * 1e6:.1f}"


def link(on):
    inside, _, outside = on.partition(" ")
    os.symlink(outside, inside)
    return read(inside)


def call(on):
    name, _, rest = on.partition(" ")
    numbers = [int(word, 0) for word in rest.split()]
    library = ctypes.CDLL(None, use_errno=True)
    result = library.syscall(NUMBERS[platform.machine()][name], *map(ctypes.c_long, numbers))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return str(result)


def memory(on):
    held = []
    for _ in range(int(on)):
        held.append(mmap.mmap(-1, 1 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        held[-1].write(b"x" * (1 << 20))
    return str(len(held))


def fill(on):
    for number in range(int(on)):
        with open(os.path.join(os.environ["TMPDIR"], str(number)), "wb") as file:
            file.write(b"x" * (1 << 20))


def hide(_):
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(4, 0, 0, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def kill(on):
    os.kill(int(on), 0)


DEEDS = {
    "read": read,
    "write": write,
    "list": lambda on: " ".join(sorted(os.listdir(on))),
    "remove": os.remove,
    "folder": os.mkdir,
    "move": lambda on: os.rename(*on.split(" ")),
    "hard-link": lambda on: os.link(*on.split(" ")),
    "truncate": lambda on: os.truncate(on, 0),
    "link": link,
    "run": lambda on: str(os.spawnv(os.P_WAIT, on, [on])),
    "fork": fork,
    "tcp": tcp,
    "udp": udp,
    "raw": raw,
    "unix": unix,
    "listen": listen,
    "fast-open": fast_open,
    "call": call,
    "memory": memory,
    "fill": fill,
    "hide": hide,
    "signal": kill,
    "flood": flood,
    "odd": odd,
    "measure": measure,
    "environment": lambda on: os.environ[on] if on else " ".join(sorted(os.environ)),
    "pid": lambda _: str(os.getpid()),
}


def attempt(arguments):
    try:
        return f"done: {DEEDS[arguments['what']](arguments.get('on', '')) or ''}"
    except OSError as error:
        return f"failed: {error.strerror} (os error {error.errno})"
    except MemoryError:
        return "failed: no memory"


def result(message):
    info = {"name": "hostile-child", "version": "1"}
    method = message.get("method")
    if method == "server/discover":
        versions = ["2026-07-28", "2025-11-25"]
        kept = {"ttlMs": 0, "cacheScope": "private"}
        found = {"supportedVersions": versions, "capabilities": {"tools": {}}, "serverInfo": info}
        return {"resultType": "complete", **found, **kept}
    if method == "initialize":
        version = message["params"]["protocolVersion"]
        return {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info}
    if method == "tools/list":
        tools = [{"name": "try", "inputSchema": {"type": "object"}}]
        return {"tools": tools, "resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
    if method == "tools/call":
        text = attempt(message["params"]["arguments"])
        return {"content": [{"type": "text", "text": text}], "resultType": "complete"}
    return None


for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    answer = {"jsonrpc": "2.0", "id": asked["id"]}
    found = result(asked)
    if found is None:
        answer["error"] = {"code": -32601, "message": "not found"}
    else:
        answer["result"] = found
    print(json.dumps(answer), flush=True)
