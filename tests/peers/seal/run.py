"""Data keys wrapped by AWS KMS, as moto implements it with signatures and permissions checked, and by an HSM, as SoftHSM is one
behind PKCS#11: the same store moves from one to the other, and each is away for a while."""

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))

import peers  # noqa: E402

HERE = Path(__file__).resolve().parent
AWS = peers.CACHE / "pypi-aws/bin"
MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so")
PIN = "1234"
# What the operator does before the service checks signatures and permissions.
CALLS = 5


class Way:
    """The way to KMS, which can be cut: what KMS keeps in memory stays, and nobody reaches it."""

    def __init__(self, port):
        self.to, self.port, self.open = port, peers.free_port(), True
        self.listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            near, _ = self.listener.accept()
            if not self.open:
                near.close()
                continue
            far = socket.create_connection(("127.0.0.1", self.to))
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self.carry, args=(one, other), daemon=True).start()

    def carry(self, one, other):
        try:
            while data := one.recv(65536):
                if not self.open:
                    break
                other.sendall(data)
        except OSError:
            pass
        one.close()
        other.close()


def held(name, good, reason=""):
    if good:
        peers.ok(f"seal {name}")
    else:
        peers.not_ok(f"seal {name}", reason)


def command(gateway, *words):
    return peers.run([gateway.binary, *words], 90, cwd=gateway.folder, env=gateway.environment)


def status(gateway):
    code, output, errors = command(gateway, "seal", "status", "--json")
    return json.loads(output) if code == 0 else {"failed": output + errors}


def listing(gateway):
    """The HTTP status with which the key of the first start is answered."""
    return 200 if gateway.answers("sample") else code(gateway)


def code(gateway):
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "Authorization": f"Bearer {gateway.key}",
        "MCP-Protocol-Version": peers.MODERN,
        "Mcp-Method": "tools/list",
    }
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}})
    request = urllib.request.Request(gateway.url("sample"), body.encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as refused:
        text = refused.read().decode()
        return json.loads(text)["error"]["data"]["code"] if text.startswith("{") else refused.code


def configure(gateway, **section):
    path = gateway.folder / "portcullis.yaml"
    config = json.loads(path.read_text())
    config["encryption"] = section
    path.write_text(json.dumps(config, indent=2))


def refused(gateway):
    """What a start says that must fail."""
    done = peers.run([gateway.binary, "run", "--config", "portcullis.yaml"], 90, cwd=gateway.folder, env=gateway.environment)
    return done[0] == 1, f"{done[0]} {done[1]} {done[2]}"


def rows(gateway):
    with sqlite3.connect(gateway.folder / "portcullis-data/portcullis.db") as database:
        return {name: (kek, wrapped) for name, kek, wrapped in database.execute("SELECT name, kek, wrapped FROM data_keys")}


def exchange(gateway):
    """Puts one wrapped key in the place of another, as somebody with the file could."""
    with sqlite3.connect(gateway.folder / "portcullis-data/portcullis.db") as database:
        database.execute("UPDATE data_keys SET wrapped = (SELECT wrapped FROM data_keys WHERE name = 'index') WHERE name = 'data'")
    return rows(gateway)


def restore(gateway, before):
    with sqlite3.connect(gateway.folder / "portcullis-data/portcullis.db") as database:
        database.execute("UPDATE data_keys SET wrapped = ? WHERE name = 'data'", (before["data"][1],))


def kms(work):
    port, log = peers.free_port(), work / "aws.log"
    environment = {**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": str(CALLS)}
    child = peers.spawn([AWS / "moto_server", "-H", "127.0.0.1", "-p", port], log, env=environment)
    peers.wait_port(port, child, log)
    code, output, errors = peers.run([AWS / "python", HERE / "keeper.py", f"http://127.0.0.1:{port}"], 90)
    if code:
        raise RuntimeError(f"the operator at AWS failed: {output}{errors}")
    return Way(port), json.loads(output)


def token(work):
    """An HSM with a key that never leaves it; the environment in which it is found, and its URI."""
    module = next((path for path in MODULES if Path(path).exists()), None)
    if not module or not shutil.which("softhsm2-util") or not shutil.which("pkcs11-tool"):
        raise peers.Missing("softhsm2 or opensc is not there; hint: apt-get install softhsm2 opensc")
    tokens = work / "tokens"
    tokens.mkdir()
    settings = work / "softhsm2.conf"
    settings.write_text(f"directories.tokendir = {tokens}\n")
    environment = {**os.environ, "SOFTHSM2_CONF": str(settings)}
    for words in (
        ["softhsm2-util", "--init-token", "--free", "--label", "gate way", "--pin", PIN, "--so-pin", PIN],
        ["pkcs11-tool", "--module", module, "--token-label", "gate way", "--login", "--pin", PIN, "--keygen", "--key-type"]
        + ["AES:32", "--label", "kek", "--id", "02"],
    ):
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60)
        if done.returncode:
            raise RuntimeError(f"{words[0]}: {done.stdout}{done.stderr}")
    return settings, f"pkcs11:token=gate%20way;object=kek?module-path={module}"


def wait(what, seconds=60):
    due = time.monotonic() + seconds
    while time.monotonic() < due:
        if what():
            return True
        time.sleep(0.2)
    return False


def in_kms(gateway, way):
    gateway.wait_ready(["sample"])
    found = rows(gateway)
    wrapped_there = all(kek == "aws:alias/portcullis" for kek, _ in found.values())
    held("by KMS wraps every data key", wrapped_there and status(gateway).get("open"), f"{found} {status(gateway)}")
    held("by KMS leaves no key in the data directory", not (gateway.folder / "portcullis-data/kek").exists())
    gateway.stop()
    way.open = False
    good, said = refused(gateway)
    held("refuses to start while KMS is away", good and "cannot be opened" in said, said)
    settings = {"key": "aws:alias/portcullis", "unavailable": "degraded"}
    configure(gateway, **settings)
    gateway.start()
    got, now = code(gateway), status(gateway)
    held("starts degraded where configuration says so, and lets no API key in", got == "auth.unavailable", got)
    held("says why it is closed", now.get("open") is False and "AWS" in str(now.get("why")), now)
    way.open = True
    opened = wait(lambda: status(gateway).get("open") is True) and wait(lambda: gateway.answers("sample"))
    held("opens by itself once KMS answers", opened, status(gateway))
    got = command(gateway, "audit", "query", "--event", "seal.opened", "--json")
    held("puts it on record that it opened", got[0] == 0 and "seal.opened" in got[1], got)
    gateway.stop()
    exchange(gateway)
    good, said = refused(gateway)
    held("refuses a wrapped key that stands in the place of another", good and "cannot be opened" in said, said)
    restore(gateway, found)


def in_hsm(gateway, way, uri):
    configure(gateway, key=uri, passphrase="env:KEK_PIN", former=["aws:alias/portcullis"])
    gateway.start()
    gateway.wait_ready(["sample"])
    got = command(gateway, "seal", "rewrap", "--json")
    held("moves from KMS to an HSM", got[0] == 0 and json.loads(got[1])["done"] == 2, got)
    gateway.stop()
    way.open = False
    configure(gateway, key=uri, passphrase="env:KEK_PIN")
    gateway.start()
    held("by an HSM needs no KMS any more", wait(lambda: gateway.answers("sample")), gateway.output()[-1000:])
    got = command(gateway, "seal", "rotate", "--retire", "--json")
    held("by an HSM rotates data keys", got[0] == 0 and json.loads(got[1])["version"] == 2, got)
    gateway.stop()
    gateway.environment["KEK_PIN"] = "4321"
    good, said = refused(gateway)
    held("with a wrong PIN is refused", good and "PIN" in said.upper(), said)
    gateway.environment["KEK_PIN"] = PIN
    shown = gateway.output()
    held("prints no PIN", f'"{PIN}"' not in shown and f"={PIN}" not in shown)


def main():
    work = peers.folder()
    try:
        settings, uri = token(work)
        way, keys = kms(work)
        environment = {
            "AWS_ACCESS_KEY_ID": keys["id"],
            "AWS_SECRET_ACCESS_KEY": keys["secret"],
            "SOFTHSM2_CONF": str(settings),
            "KEK_PIN": PIN,
        }
        aws = {"region": "eu-central-1", "endpoint": f"http://127.0.0.1:{way.port}"}
        more = {"secrets": {"aws": aws}, "encryption": {"key": "aws:alias/portcullis"}}
        gateway = peers.Gateway({}, more=more, environment=environment)
    except peers.Missing as missing:
        peers.skip("seal", missing)
        peers.finish()
    except RuntimeError as error:
        peers.not_ok("seal the parts start", error)
        peers.finish()
    in_kms(gateway, way)
    in_hsm(gateway, way, uri)
    peers.finish()


if __name__ == "__main__":
    main()
