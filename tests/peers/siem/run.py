"""Entries of the ledger at the receivers that people have: rsyslog over mutual TLS, an OpenTelemetry collector,
NATS JetStream, the verifier of Standard Webhooks, the validator of OCSF; and Splunk HEC and Elasticsearch bulk, which no
registry has, held to the documented contract by strict receivers of our own (`receivers.py`). Receivers and the gateway are
killed in the middle; afterwards everything is there, and what is there twice says so."""

import base64
import http.client
import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))

import peers  # noqa: E402
import receivers  # noqa: E402

PYTHON = peers.CACHE / "pypi-siem/bin/python"
ENTRIES = int(os.environ.get("PEERS_SIEM_ENTRIES", "6000"))
TOKEN = "11111111-2222-3333-4444-555555555555"
WEBHOOK = "whsec_" + base64.b64encode(b"k" * 32).decode()
LIMITS = {"caller_rate_per_s": 100000, "caller_burst_max": 100000, "source_rate_per_s": 100000, "source_burst_max": 100000}


def held(name, good, reason=""):
    if good:
        peers.ok(f"siem {name}")
    else:
        peers.not_ok(f"siem {name}", reason)


def wait(what, seconds=90):
    due = time.monotonic() + seconds
    while time.monotonic() < due:
        if what():
            return True
        time.sleep(0.2)
    return False


def command(gateway, *words):
    return peers.run([gateway.binary, *words], 120, cwd=gateway.folder, env=gateway.environment)


def sinks(gateway):
    code, output, _ = command(gateway, "sink", "list", "--json")
    return {sink["name"]: sink for sink in json.loads(output)["sinks"]} if code == 0 else {}


def certificates(work):
    """An authority, a server and a client, by openssl."""
    made = [
        f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=authority",
    ]
    for name, names in (("server", "DNS:localhost,IP:127.0.0.1"), ("client", "DNS:client.test")):
        made.append(f"openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}.test")
        (work / f"{name}.ext").write_text(f"subjectAltName={names}\n")
        made.append(f"openssl x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out {name}.pem -days 2 -extfile {name}.ext")
    for words in made:
        subprocess.run(words.split(), cwd=work, check=True, capture_output=True, timeout=60)


class Rsyslog:
    """rsyslog with mutual TLS, one JSON object per message in a file."""

    def __init__(self, work):
        self.work, self.port, self.file = work, peers.free_port(), work / "rsyslog.ndjson"
        (work / "rs.conf").write_text(f"""
global(DefaultNetstreamDriver="ossl" DefaultNetstreamDriverCAFile="{work}/ca.pem" DefaultNetstreamDriverCertFile="{work}/server.pem"
  DefaultNetstreamDriverKeyFile="{work}/server.key" workDirectory="{work}" maxMessageSize="128k")
module(load="imtcp" StreamDriver.Name="ossl" StreamDriver.Mode="1" StreamDriver.AuthMode="x509/name" PermittedPeer=["client.test"])
input(type="imtcp" address="127.0.0.1" port="{self.port}")
template(name="lines" type="list" option.jsonf="on") {{
  property(outname="sd" name="structured-data" format="jsonf") property(outname="msgid" name="msgid" format="jsonf")
  property(outname="host" name="hostname" format="jsonf") property(outname="msg" name="msg" format="jsonf")
  constant(value="\\n") }}
action(type="omfile" file="{self.file}" template="lines")
""")
        self.start()

    def start(self):
        self.child = peers.spawn(["/usr/sbin/rsyslogd", "-n", "-f", self.work / "rs.conf", "-i", self.work / "rs.pid"], self.work / "rs.log")
        peers.wait_port(self.port, self.child, self.work / "rs.log")

    def kill(self):
        self.child.kill()
        self.child.wait()
        (self.work / "rs.pid").unlink(missing_ok=True)

    def indices(self):
        found = []
        for line in self.file.read_text(errors="replace").splitlines() if self.file.exists() else []:
            # A line that the kill has cut off is no message.
            if '"sd"' in line and "entry@32473 id=" in line:
                found.append(int(line.split("entry@32473 id=")[1].split('"')[1].strip("\\").rsplit(":", 1)[1]))
        return found


class Call:
    """Callers whose calls policy refuses: each is one entry."""

    def __init__(self, gateway, count):
        self.gateway, self.left, self.lock, self.failed = gateway, count, threading.Lock(), 0
        self.threads = [threading.Thread(target=self.work, daemon=True) for _ in range(4)]
        for thread in self.threads:
            thread.start()

    def take(self):
        with self.lock:
            self.left -= 1
            return self.left >= 0

    def work(self):
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "notes.delete", "arguments": {"id": 1}}})
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "Authorization": f"Bearer {self.gateway.key}",
            "MCP-Protocol-Version": peers.MODERN,
            "Mcp-Method": "tools/call",
            "Mcp-Name": "notes.delete",
        }
        line = None
        while self.take():
            try:
                line = line or http.client.HTTPConnection("127.0.0.1", self.gateway.port, timeout=30)
                line.request("POST", "/mcp/sample", body, headers)
                line.getresponse().read()
            except OSError:
                # The gateway is being killed.
                self.failed += 1
                line = None
                time.sleep(0.05)

    def join(self):
        for thread in self.threads:
            thread.join(300)


def size(gateway):
    one = sinks(gateway).get("file")
    return one["next"] + one["lag"] if one else None


def complete(name, gateway, indices, most):
    """Every entry up to `most` is there."""
    missing = lambda: set(range(most)) - set(indices())  # noqa: E731
    good = wait(lambda: not missing(), 120)
    twice = len(indices()) - len(set(indices()))
    held(f"{name} has every entry ({most}, {twice} of them twice, under the same id)", good, f"missing {sorted(missing())[:10]} {sinks(gateway).get(name)}")


def configured(work, ports):
    mutual = {"ca": [f"{work}/ca.pem"], "certificate": f"{work}/client.pem", "key": f"{work}/client.key"}
    every = {"from": "start", "format": "ocsf"}
    return {
        "file": {"kind": "file", "path": "entries.ndjson", "from": "start", "files_kept": 50},
        "rsyslog": {"kind": "syslog", "url": f"tls://127.0.0.1:{ports['rsyslog']}", "tls": mutual, "from": "start", "format": "cef"},
        "collector": {"kind": "otlp", "url": f"http://127.0.0.1:{ports['otlp']}", **every},
        "stream": {"kind": "nats", "url": f"nats://127.0.0.1:{ports['nats']}", "index": "portcullis.events", "from": "start"},
        "hook": {"kind": "webhook", "url": f"http://127.0.0.1:{ports['webhook']}/in", "token": "env:HOOK", "severity": "critical"},
        "splunk": {"kind": "splunk_hec", "url": f"http://127.0.0.1:{ports['splunk']}", "token": "env:HEC", "acknowledged": True, **every},
        "elastic": {"kind": "elasticsearch", "url": f"http://127.0.0.1:{ports['elastic']}", "index": "portcullis", "from": "start", "format": "ecs"},
        "verified": {"kind": "webhook", "url": f"http://127.0.0.1:{ports['webhook']}/in", "token": "env:HOOK", "events": ["key.*", "sink.*"]},
    }


def others(gateway):
    """One of each kind of thing that happens beside calls."""
    done = [
        command(gateway, "grant", "create", "local:x", "--role", "reader", "--for", "1h", "--reason", "a trial of sinks"),
        command(gateway, "kill", "caller", "local:x", "--reason", "trial"),
        command(gateway, "unkill", "caller", "local:x", "--reason", "trial"),
        command(gateway, "sink", "backfill", "hook", "--from", "0"),
    ]
    for url, key in ((gateway.url("sample"), "pcl_nobody_nothing"), (f"http://127.0.0.1:{gateway.admin}/v1/keys", "no")):
        request = urllib.request.Request(url, b"{}", {"Authorization": f"Bearer {key}", "Content-Type": "application/json"})
        try:
            urllib.request.urlopen(request, timeout=20)
        except urllib.error.HTTPError:
            pass
    held("records other things that happen", all(code == 0 for code, _, _ in done), done)
    wait(lambda: sinks(gateway)["splunk"]["lag"] == 0)


def ocsf(work, gateway, strict):
    """The validator's own schema of each class judges what went out."""
    events = work / "ocsf.ndjson"
    events.write_text("\n".join(json.dumps(event) for event in strict.events()))
    code, output, errors = peers.run([PYTHON, Path(__file__).with_name("judge_ocsf.py"), events], 300)
    held(f"sends what the validator of OCSF takes: {output.strip()}", code == 0, errors or output)


def main():
    work = peers.folder()
    try:
        certificates(work)
        rsyslog = Rsyslog(work)
        nats = receivers.Nats(work)
        splunk, elastic = receivers.Splunk(TOKEN), receivers.Elastic()
        webhook, collector = receivers.Webhook(PYTHON, WEBHOOK, work), receivers.Collector(PYTHON, work)
        ports = {"rsyslog": rsyslog.port, "otlp": collector.port, "nats": nats.port, "webhook": webhook.port, "splunk": splunk.port, "elastic": elastic.port}
        environment = {"HEC": TOKEN, "HOOK": WEBHOOK}
        gateway = peers.Gateway({}, refused=["notes.delete"], limits=LIMITS, more={"sinks": configured(work, ports)}, environment=environment)
    except peers.Missing as missing:
        peers.skip("siem", missing)
        peers.finish()
    except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
        peers.not_ok("siem the parts start", error)
        peers.finish()
    gateway.wait_ready(["sample"])
    for name in sinks(gateway):
        started = time.monotonic()
        code, _, errors = command(gateway, "sink", "test", name)
        held(f"delivers a trial to {name}", code == 0, errors)
        print(f"# {name}: {time.monotonic() - started:.2f} s with the command itself", flush=True)
    calls = Call(gateway, ENTRIES)
    time.sleep(1)
    for receiver in (rsyslog, nats, splunk, elastic):
        receiver.kill()
    time.sleep(1)
    gateway.kill()
    gateway.start()
    time.sleep(1)
    for receiver in (rsyslog, nats, splunk, elastic):
        receiver.start()
    calls.join()
    most = size(gateway)
    held("wrote what was asked of it", most and most > ENTRIES * 0.9, f"{most} entries, {calls.failed} calls failed")
    lines = lambda: [json.loads(line)["index"] for line in (gateway.folder / "entries.ndjson").read_text().splitlines()]  # noqa: E731
    complete("file", gateway, lines, most)
    complete("rsyslog", gateway, rsyslog.indices, most)
    complete("splunk", gateway, splunk.indices, most)
    complete("elastic", gateway, elastic.indices, most)
    complete("stream", gateway, nats.indices, most)
    complete("collector", gateway, collector.indices, most)
    held("has one document for each entry in an index", len(elastic.indices()) == len(set(elastic.indices())))
    others(gateway)
    ocsf(work, gateway, splunk)
    command(gateway, "key", "create", "watched", "--role", "operator")
    held("signs posts as the verifier of Standard Webhooks wants it", wait(lambda: "key.created" in webhook.verified()), f"{webhook.verified()} {webhook.refused()}")
    held("is refused by that verifier with another secret", webhook.forged())
    started = time.monotonic()
    before = len(webhook.verified())
    command(gateway, "key", "create", "timed", "--role", "operator")
    created = time.monotonic()
    wait(lambda: len(webhook.verified()) > before)
    held("tells a healthy sink within a second", time.monotonic() - created < 1.0, f"{time.monotonic() - created:.2f} s")
    shown = gateway.output() + (gateway.folder / "portcullis.yaml").read_text()
    held("prints no token", TOKEN not in shown and WEBHOOK not in shown)
    gateway.stop()
    peers.finish()


if __name__ == "__main__":
    main()
