"""A certificate of an ACME server, Pebble, from the first order to an outage: two gateways on one store, both ways in which names
are proven, an account that is bound to another, renewal while clients connect, a restart, and a server that forgot us."""

import json
import shutil
import ssl
import socket
import sys
import threading
import time
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))

import peers  # noqa: E402
from run import authority  # noqa: E402

NAMES = ["gateway.test", "mcp.gateway.test"]
# A certificate that is renewed after two thirds of this.
GOOD_FOR_S = 24
KEYS = {"known": "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"}


def held(name, good, reason=""):
    if good:
        peers.ok(f"acme {name}")
    else:
        peers.not_ok(f"acme {name}", reason)


class Pebble:
    """An ACME server that asks `way` for every name."""

    def __init__(self, work, folder, port, external=False):
        self.work, self.external = work / f"pebble-{port}", external
        self.work.mkdir()
        self.api, self.management, self.folder, self.port = peers.free_port(), peers.free_port(), folder, port
        self.names = peers.free_port()
        log = self.work / "names.log"
        self.dns = peers.spawn(
            ["pebble-challtestsrv", "-dns01", f"127.0.0.1:{self.names}", "-http01", "", "-https01", "", "-tlsalpn01", ""]
            + ["-defaultIPv6", "", "-management", f"127.0.0.1:{peers.free_port()}"],
            log,
        )
        self.start()

    def start(self):
        settings = {
            "listenAddress": f"127.0.0.1:{self.api}",
            "managementListenAddress": f"127.0.0.1:{self.management}",
            "certificate": str(self.folder / "server.crt"),
            "privateKey": str(self.folder / "server.key"),
            "httpPort": self.port,
            "tlsPort": self.port,
            "externalAccountBindingRequired": self.external,
            "externalAccountMACKeys": KEYS if self.external else {},
            "certificateValidityPeriod": GOOD_FOR_S,
        }
        (self.work / "pebble.json").write_text(json.dumps({"pebble": settings}))
        command = ["pebble", "-strict", "-config", self.work / "pebble.json", "-dnsserver", f"127.0.0.1:{self.names}"]
        log = self.work / "pebble.log"
        environment = {"PEBBLE_VA_NOSLEEP": "1", "PATH": "/usr/bin:/bin"}
        self.child = peers.spawn(command, log, env=environment)
        peers.wait_port(self.api, self.child, log)
        context = ssl.create_default_context(cafile=self.folder / "ca.crt")
        url = f"https://localhost:{self.management}/roots/0"
        with urllib.request.urlopen(url, timeout=20, context=context) as answer:
            self.root = answer.read().decode()

    def stop(self):
        peers.stop(self.child)

    def section(self, **more):
        return {
            "directory": f"https://localhost:{self.api}/dir",
            "domains": NAMES,
            "agree_to_terms": True,
            "contact": ["mailto:ops@gateway.test"],
            "ca": str(self.folder / "ca.crt"),
            **more,
        }


class Certified(peers.Gateway):
    """A gateway with a certificate of an ACME server."""

    def __init__(self, section, port=None, environment=None, store=None):
        port = port or peers.free_port()
        listen = {"address": f"127.0.0.1:{port}", "tls": {"acme": section}, "hosts": NAMES}
        # A log is one gateway's own, also where the store is not.
        more = {"listen": listen, "ledger": {"origin": f"gateway-{port}.test/ledger"}, **(store or {})}
        super().__init__({}, more=more, port=port, environment=environment)

    def wait_key(self, seconds=60):
        # Of gateways on one store the first one alone prints a key; none is needed here.
        return None

    def entries(self, event):
        command = [self.binary, "audit", "query", "--event", event, "--json"]
        code, output, errors = peers.run(command, 60, cwd=self.folder, env=self.environment)
        return output.count(f'"{event}"') if code == 0 else f"{output}{errors}"

    def metrics(self):
        token = (self.folder / "portcullis-data/admin.token").read_text().strip()
        headers = {"Authorization": f"Bearer {token}"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.admin}/metrics", headers=headers)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.read().decode()


def shown(port, root, name=NAMES[0]):
    """The serial number that a client sees which trusts the server's root alone; nothing where it is not trusted."""
    context = ssl.create_default_context(cadata=root)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
            with context.wrap_socket(plain, server_hostname=name) as stream:
                return stream.getpeercert()["serialNumber"]
    except (OSError, ssl.SSLError):
        return None


def wait(what, seconds=60):
    due = time.monotonic() + seconds
    while time.monotonic() < due:
        if found := what():
            return found
        time.sleep(0.2)
    return None


def watch(port, root, stop, seen, failed):
    while not stop.is_set():
        serial = shown(port, root)
        (seen if serial else failed).append(serial)
        time.sleep(0.1)


def main():
    work = peers.folder()
    if not shutil.which("pebble") or not shutil.which("pebble-challtestsrv"):
        peers.not_ok("acme pebble is there", "hint: apt-get install pebble")
        peers.finish()
    try:
        folder = authority(work)
    except peers.Missing as missing:
        peers.skip("acme", missing)
        peers.finish()
    handshakes(work, folder)
    requests(work, folder)
    peers.finish()


def handshakes(work, folder):
    port = peers.free_port()
    pebble = Pebble(work, folder, port)
    shared = work / "shared"
    shared.mkdir()
    store = {"store": {"sqlite": str(shared / "store.db")}, "encryption": {"key": f"file:{shared / 'kek'}"}}
    one = Certified(pebble.section(), port, store=store)
    first = wait(lambda: shown(port, pebble.root))
    held("gets a certificate by a handshake on its own port", first, one.output()[-1500:])
    both = all(shown(port, pebble.root, name) for name in NAMES)
    held("gets it for every name", both)
    one.stop()
    one.start()
    held("shows it from the start of the next run", shown(port, pebble.root) == first)
    two = Certified(pebble.section(), store=store)
    same = wait(lambda: shown(two.port, pebble.root) == shown(port, pebble.root), 20)
    held("is shared with another gateway on the store", same and two.entries("certificate.obtained") == 0, two.output()[-600:])
    stop, seen, failed = threading.Event(), [], []
    watcher = threading.Thread(target=watch, args=(port, pebble.root, stop, seen, failed))
    watcher.start()
    renewed = wait(lambda: (now := shown(port, pebble.root)) not in (None, first) and now, GOOD_FOR_S)
    held("is renewed before it ends", renewed, one.output()[-1500:])
    other = wait(lambda: (now := shown(two.port, pebble.root)) == shown(port, pebble.root) and now, 10)
    held("is shown by both, whichever renewed it", other, two.output()[-600:])
    stop.set()
    watcher.join()
    held("is renewed without a failed handshake", len(seen) > 20 and not failed, f"{len(seen)} good, {len(failed)} failed")
    orders = [gateway.entries("certificate.obtained") for gateway in (one, two)]
    held("is ordered by one gateway at a time, and put on record", sum(orders) == len({first, renewed, *seen}), f"{orders} {set(seen)}")
    text = one.metrics()
    known = "portcullis_certificate_expires " in text and "portcullis_certificate_expires 0" not in text
    held("is seen in the metrics", known, [line for line in text.splitlines() if "certificate" in line])
    plain = [path.name for path in [*shared.iterdir(), *one.folder.rglob("*"), *two.folder.rglob("*")] if path.is_file() and b"PRIVATE KEY" in path.read_bytes()]
    held("leaves no key on the disk that can be read", not plain, plain)
    two.stop()
    pebble.stop()
    pebble.start()
    again = wait(lambda: shown(port, pebble.root), GOOD_FOR_S + 20)
    held("is renewed by a server that forgot the account", again, one.output()[-1500:])
    pebble.stop()
    due = wait(lambda: one.entries("certificate.failed") == 1, GOOD_FOR_S)
    held("puts on record that renewal fails", due, one.output()[-800:])
    held("shows the old one while renewal fails", shown(port, pebble.root) == again or again is None)
    text = one.metrics()
    held("counts the failure", 'outcome="failed"} 1' in text)
    one.stop()


def requests(work, folder):
    port = peers.free_port()
    pebble = Pebble(work, folder, port, external=True)
    account = {"id": "known", "key": "env:ACME_KEY"}
    section = pebble.section(challenge="http-01", http=f"127.0.0.1:{port}", external_account=account)
    wrong = Certified(section, environment={"ACME_KEY": "AAAA" + KEYS["known"][4:]})
    held("gets nothing with a wrong key of the other account", wait(lambda: wrong.entries("certificate.failed") == 1, 40))
    held("shows nothing that a client trusts until it has one", shown(wrong.port, pebble.root) is None)
    wrong.stop()
    right = Certified(section, environment={"ACME_KEY": KEYS["known"]})
    serial = wait(lambda: shown(right.port, pebble.root))
    held("gets a certificate by a request, with an account bound to another", serial, right.output()[-1500:])
    held("prints no key of the other account", KEYS["known"] not in right.output())
    right.stop()
    pebble.stop()


if __name__ == "__main__":
    main()
