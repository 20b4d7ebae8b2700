"""TLS as others see it: two scanners over the listener, every finding mended or explained here; a load of HTTP/2; the hybrid
key exchange X25519MLKEM768 in both directions with OpenSSL, as Node brings it; and certificates too weak to be taken."""

import json
import os
import shutil
import socket
import ssl
import sys
import urllib.error
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))

import peers  # noqa: E402

HERE = Path(__file__).resolve().parent
SSLYZE = peers.CACHE / "pypi-tls/bin/sslyze"
HYBRID = "X25519MLKEM768"
# What `testssl` says above INFO, and why it stays.
EXPLAINED = {
    "engine_problem": "of the scanner's own OpenSSL",
    "cipher_order": "Mozilla's profiles leave the order to clients, since all that is offered is strong",
    "cert_revocation": "of the certificate: an authority of one's own names no list and no responder",
    "DNS_CAArecord": "of the zone of the name",
    "HSTS": "would turn every other server of `localhost` off; the listener has no page that could be reached without TLS",
    "security_headers": "answers are JSON and events; pages set their own",
}
# What the scanner sometimes cannot tell on a machine that is busy: it hangs up before a ticket of TLS 1.3 has come, and then
# resumes with nothing. A test of crate `net` resumes with tickets.
UNSURE = ("sessionresumption_ticket", "sessionresumption_ID")


def held(name, good, reason=""):
    if good:
        peers.ok(f"tls {name}")
    else:
        peers.not_ok(f"tls {name}", reason)


class Served(peers.Gateway):
    """A gateway that serves TLS with a certificate of `tls dev-ca`."""

    def __init__(self, authority, servers=None, more=None, **tls):
        port = peers.free_port()
        tls = {"certificate": str(authority / "server.crt"), "key": str(authority / "server.key"), **tls}
        listen = {"address": f"127.0.0.1:{port}", "tls": tls}
        limits = {"source_rate_per_s": 100_000, "source_burst_max": 100_000}
        super().__init__(servers or {}, limits=limits, more={"listen": listen, **(more or {})}, port=port)

    def url(self, server):
        return f"https://localhost:{self.port}/mcp/{server}"


def authority(work):
    """An authority as an operator of a small network makes it, and the certificate of the gateway."""
    binary = os.environ.get("PEERS_GATEWAY", "")
    if not Path(binary).is_file():
        raise peers.Missing(f"no gateway at `{binary}`; hint: `cargo build -p portcullis`")
    code, output, errors = peers.run(
        [binary, "tls", "dev-ca", "--name", "localhost", "--name", "127.0.0.1", "--days", "89"], 60, cwd=work
    )
    if code:
        raise RuntimeError(f"tls dev-ca: {output}{errors}")
    return work / "tls"


def testssl(work, port, ca):
    """Every check of testssl.sh."""
    if not shutil.which("testssl"):
        held("is scanned by testssl", False, "testssl is not there; hint: apt-get install testssl.sh")
        return
    found = work / "testssl.json"
    command = ["testssl", "--quiet", "--color", "0", "--warnings", "batch", "--add-ca", ca, "--jsonfile", found]
    code, output, errors = peers.run([*command, f"localhost:{port}"], 400, cwd=work)
    lines = json.loads(found.read_text()) if found.is_file() else []
    held("is scanned by testssl to the end", len(lines) > 80, f"{code} {output[-400:]}{errors}")
    for one in lines:
        name = one["id"].split(" ")[0]
        unsure = one["severity"] == "WARN" and name in UNSURE
        if one["severity"] not in ("OK", "INFO") and name not in EXPLAINED and not unsure:
            held(f"is no worse for testssl: {name}", False, one)
    offered = {one["id"]: one["finding"] for one in lines}
    old = {name: offered.get(name) for name in ("SSLv2", "SSLv3", "TLS1", "TLS1_1")}
    held("offers nothing below TLS 1.2", all(said == "not offered" for said in old.values()), old)
    held("offers TLS 1.3", "offered with final" in offered.get("TLS1_3", ""), offered.get("TLS1_3"))
    trust = {name: said for name, said in offered.items() if name.startswith("cert_chain_of_trust")}
    held("shows a chain that a client of its authority trusts", "passed" in str(trust), trust)


def sslyze(port, ca, profile):
    """Compliance with one of Mozilla's profiles."""
    command = [SSLYZE, f"--certinfo_ca_file={ca}", f"--mozilla_config={profile}", f"localhost:{port}"]
    code, output, errors = peers.run(command, 180)
    held(f"is compliant with Mozilla's profile `{profile}`", code == 0 and "OK - Compliant" in output, output[-900:] + errors)


def load(gateway):
    """Requests over HTTP/2 by nghttp2; and, where somebody has put it on the path, h2spec."""
    if not shutil.which("h2load"):
        held("serves HTTP/2 to nghttp2", False, "h2load is not there; hint: apt-get install nghttp2-client")
        return
    command = ["h2load", "-n", "4000", "-c", "8", "-m", "16", f"https://127.0.0.1:{gateway.port}/healthz"]
    code, output, errors = peers.run(command, 120)
    done = "4000 done" in output and "0 failed, 0 errored, 0 timeout" in output
    held("serves HTTP/2 to nghttp2 without an error", code == 0 and done, output[-600:] + errors)
    if shutil.which("h2spec"):
        code, output, errors = peers.run(["h2spec", "-h", "127.0.0.1", "-p", gateway.port, "-t", "-k"], 300)
        held("fails no test of h2spec", code == 0 and " 0 failed" in output, output[-900:] + errors)
    else:
        print("# h2spec is in no registry; where it is on the path, it is run", flush=True)


def agreed(port, ca, *words):
    code, output, errors = peers.run([peers.NODE, HERE / "client.mjs", port, ca, *words], 60)
    try:
        return json.loads(output)
    except ValueError:
        return {"error": f"{code} {output}{errors}"}


def hybrid_to_us(port, ca):
    """OpenSSL as a client of ours."""
    got = agreed(port, ca, HYBRID)
    held(f"agrees on {HYBRID} with OpenSSL", got == {"group": HYBRID, "version": "TLSv1.3", "alpn": "h2"}, got)
    got = agreed(port, ca, f"X25519:P-256:{HYBRID}")
    # OpenSSL sends a share of the first group alone, which costs no second round trip.
    held("agrees with a client that offers it last", got.get("group") in (HYBRID, "X25519"), got)
    got = agreed(port, ca, "P-256", "TLSv1.2")
    held("agrees on a curve with one that knows no other", got.get("version") == "TLSv1.2", got)
    got = agreed(port, ca, "P-521")
    held("agrees on no group that it does not know", "error" in got, got)


def openssl(work, *words):
    code, output, errors = peers.run(["openssl", *words], 60, cwd=work)
    if code:
        raise RuntimeError(f"openssl {words[0]}: {output}{errors}")


# What a certificate is made with, and whether a server with it is reached.
WEAK = {
    "a strong key and signature": (["rsa:2048"], "sha256", True),
    "a key of 1,024 bits": (["rsa:1024"], "sha256", False),
    "a signature over SHA-1": (["rsa:2048"], "sha1", False),
}


def weak(work):
    """Servers whose certificates no authority should have signed, which OpenSSL shows when it is told to."""
    inner = peers.Gateway({}, more={"identities": {"anonymous": {"roles": ["operator"]}}})
    inner.wait_ready(["sample"])
    place = work / "weak"
    place.mkdir()
    (place / "names").write_text("subjectAltName=DNS:localhost\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n")
    authority = ["-subj", "/CN=weak", "-days", "30", "-addext", "keyUsage=critical,keyCertSign"]
    openssl(place, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.crt", *authority)
    for what, (key, digest, good) in WEAK.items():
        openssl(place, "req", "-newkey", *key, "-nodes", "-keyout", "s.key", "-out", "s.csr", "-subj", "/CN=localhost")
        signed = ["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "20", "-extfile", "names"]
        openssl(place, "x509", "-req", "-in", "s.csr", f"-{digest}", *signed, "-out", "s.crt")
        port = peers.free_port()
        words = [port, inner.port, place / "s.crt", place / "s.key", "P-256", "DEFAULT@SECLEVEL=0"]
        log = place / f"front-{port}.log"
        front = peers.spawn([peers.NODE, HERE / "front.mjs", *words], log)
        peers.wait_port(port, front, log)
        server = {"url": f"https://localhost:{port}/mcp/sample", "tls": {"ca": [str(place / "ca.crt")]}}
        outer = peers.Gateway({"behind": server})
        try:
            outer.wait_ready(["behind"], 60 if good else 8)
            reached = True
        except RuntimeError:
            reached = "TLS failed: invalid peer certificate" not in outer.output()
        held(f"{'reaches' if good else 'does not reach'} a server whose certificate has {what}", reached == good, log.read_text()[-300:])
        outer.stop()
        peers.stop(front)
    inner.stop()


def weak_clients(work, folder):
    """Clients with such certificates, which OpenSSL shows when it is told to; over both versions of TLS."""
    place = work / "weak-clients"
    place.mkdir()
    (place / "names").write_text("subjectAltName=DNS:edge\nextendedKeyUsage=clientAuth\nbasicConstraints=CA:FALSE\n")
    authority = ["-subj", "/CN=weak", "-days", "30", "-addext", "keyUsage=critical,keyCertSign"]
    openssl(place, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.crt", *authority)
    served = Served(folder, client_ca=str(place / "ca.crt"), client_certificates="required")
    for what, (key, digest, good) in WEAK.items():
        openssl(place, "req", "-newkey", *key, "-nodes", "-keyout", "c.key", "-out", "c.csr", "-subj", "/CN=edge")
        signed = ["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "20", "-extfile", "names"]
        openssl(place, "x509", "-req", "-in", "c.csr", f"-{digest}", *signed, "-out", "c.crt")
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
            context.minimum_version = context.maximum_version = version
            context.set_ciphers("DEFAULT@SECLEVEL=0")
            context.load_cert_chain(place / "c.crt", place / "c.key")
            try:
                with socket.create_connection(("127.0.0.1", served.port), 10) as plain:
                    with context.wrap_socket(plain, server_hostname="localhost") as connection:
                        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                        answer = connection.recv(64)
            except OSError as error:
                answer = str(error).encode()
            taken = answer.startswith(b"HTTP/1.1 ")
            held(f"{'takes' if good else 'turns away'} a client whose certificate has {what}, {version.name}", taken == good, answer)
    served.stop()


def hybrid_from_us(work, folder):
    """OpenSSL as a server behind us: it knows one group alone."""
    inner = peers.Gateway({}, more={"identities": {"anonymous": {"roles": ["operator"]}}})
    inner.wait_ready(["sample"])
    for groups in (HYBRID, "P-256"):
        port = peers.free_port()
        words = [port, inner.port, folder / "server.crt", folder / "server.key", groups]
        log = work / f"front-{port}.log"
        front = peers.spawn([peers.NODE, HERE / "front.mjs", *words], log)
        peers.wait_port(port, front, log)
        server = {"url": f"https://localhost:{port}/mcp/sample", "tls": {"ca": [str(folder / "ca.crt")]}}
        outer = peers.Gateway({"behind": server})
        try:
            outer.wait_ready(["behind"], 60)
            peers.ok(f"tls reaches a server that knows {groups} alone")
        except (RuntimeError, urllib.error.URLError) as error:
            held(f"reaches a server that knows {groups} alone", False, f"{error} {log.read_text()[-300:]}")
        outer.stop()
        peers.stop(front)
    inner.stop()


def main():
    work = peers.folder()
    try:
        folder = authority(work)
        both = Served(folder)
    except peers.Missing as missing:
        peers.skip("tls", missing)
        peers.finish()
    ca = folder / "ca.crt"
    testssl(work, both.port, ca)
    sslyze(both.port, ca, "intermediate")
    hybrid_to_us(both.port, ca)
    load(both)
    both.stop()
    only = Served(folder, min_version="TLSv1.3")
    sslyze(only.port, ca, "modern")
    got = agreed(only.port, ca, "X25519", "TLSv1.2")
    held("with TLS 1.3 alone turns TLS 1.2 away", "error" in got, got)
    only.stop()
    hybrid_from_us(work, folder)
    weak(work)
    weak_clients(work, folder)
    peers.finish()


if __name__ == "__main__":
    main()
