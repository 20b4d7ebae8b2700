"""Certificates of a SPIFFE Workload API, with the library `spiffe` of other authors on the other side: the gateway follows an agent
on the library's own gRPC service, and a workload that got its certificate from the same agent by the library's client calls it."""

import datetime
import http.client
import json
import os
import ssl
import sys
import threading
import time
from concurrent import futures
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))

import peers  # noqa: E402

PYTHON = peers.CACHE / "pypi-tls/bin/python"
if PYTHON.is_file() and Path(sys.prefix) != PYTHON.parents[1]:
    os.execv(PYTHON, [PYTHON, *sys.argv])

# The gateway is started from here, and the library's threads must not wake up in what becomes of it.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"
try:
    import grpc
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from spiffe import WorkloadApiClient
    from spiffe._proto import workload_pb2, workload_pb2_grpc
except ImportError as error:
    peers.skip("spiffe", f"{error}; hint: `cargo xtask install`")
    peers.finish()

OURS, CALLER = "spiffe://td.example/gateway", "spiffe://td.example/ns/caller"
SECURITY = ("workload.spiffe.io", "true")


def held(name, good, reason=""):
    if good:
        peers.ok(f"spiffe {name}")
    else:
        peers.not_ok(f"spiffe {name}", reason)


def der(one):
    return one.public_bytes(serialization.Encoding.DER)


class Authority:
    """An authority of a trust domain, which signs as SPIRE does."""

    def __init__(self, domain="td.example"):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "SPIFFE")])
        self.pem = None
        uri = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{domain}")])
        usage = dict.fromkeys(("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False)
        self.usage = {**usage, "encipher_only": False, "decipher_only": False}
        signs = x509.KeyUsage(digital_signature=False, key_cert_sign=True, crl_sign=True, **self.usage)
        parts = [(x509.BasicConstraints(True, None), True), (signs, True), (uri, False)]
        self.certificate = self.signed(self.name, self.key.public_key(), parts, 3600)
        self.pem = self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def signed(self, name, key, parts, seconds):
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(self.name).public_key(key)
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(minutes=1))
        builder = builder.not_valid_after(now + datetime.timedelta(seconds=seconds))
        for part, critical in parts:
            builder = builder.add_extension(part, critical)
        return builder.sign(self.key, hashes.SHA256())

    def svid(self, identity, seconds=3600):
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity), x509.DNSName("localhost")])
        oid = x509.oid.ExtendedKeyUsageOID
        both = x509.ExtendedKeyUsage([oid.SERVER_AUTH, oid.CLIENT_AUTH])
        uses = x509.KeyUsage(digital_signature=True, key_cert_sign=False, crl_sign=False, **self.usage)
        parts = [(x509.BasicConstraints(False, None), True), (uses, True), (both, False), (names, False)]
        name = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "SPIRE")])
        certificate = self.signed(name, key.public_key(), parts, seconds)
        private = key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return workload_pb2.X509SVID(
            spiffe_id=identity, x509_svid=der(certificate), x509_svid_key=private, bundle=der(self.certificate)
        )


class Agent(workload_pb2_grpc.SpiffeWorkloadAPIServicer):
    """An agent: the service of the library, on a socket. It tells workloads apart by the socket that they call."""

    def __init__(self, path, svids):
        self.changed, self.svids, self.asked, self.refused = threading.Condition(), svids, 0, 0
        self.server = grpc.server(futures.ThreadPoolExecutor(8))
        workload_pb2_grpc.add_SpiffeWorkloadAPIServicer_to_server(self, self.server)
        self.server.add_insecure_port(f"unix:{path}")
        self.server.start()

    def FetchX509SVID(self, request, context):
        if SECURITY not in [tuple(one) for one in context.invocation_metadata()]:
            self.refused += 1
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "security header missing from request")
        self.asked += 1
        last = None
        while context.is_active():
            with self.changed:
                if self.svids is last:
                    self.changed.wait(0.5)
                now = self.svids
            if now is not last:
                last = now
                yield workload_pb2.X509SVIDResponse(svids=now)

    def give(self, svids):
        with self.changed:
            self.svids = svids
            self.changed.notify_all()

    def stop(self):
        self.server.stop(0)


class Served(peers.Gateway):
    def __init__(self, path):
        port = peers.free_port()
        more = {
            "listen": {"address": f"127.0.0.1:{port}", "tls": {"spiffe": True, "client_certificates": "required"}},
            "spiffe": {"socket": f"unix:{path}"},
            "identities": {"certificates": [{"name": "spiffe://td.example/ns/*", "roles": ["operator"]}]},
        }
        super().__init__({}, more=more, port=port)


def call(port, work, trusted, shown):
    """What a workload gets that lists the tools: status and who it is, or why not."""
    place = work / "shown.pem"
    key = shown.private_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    chain = b"".join(one.public_bytes(serialization.Encoding.PEM) for one in shown.cert_chain)
    place.write_bytes(chain + key)
    context = ssl.create_default_context(cadata=trusted)
    context.load_cert_chain(place)
    connection = http.client.HTTPSConnection("localhost", port, context=context, timeout=20)
    body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2025-11-25", "capabilities": {}}}
    body["params"]["clientInfo"] = {"name": "workload", "version": "1"}
    headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
    try:
        connection.request("POST", "/mcp/sample", json.dumps(body), headers)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__} {error}"
    finally:
        connection.close()


def main():
    work = peers.folder()
    ours, theirs = work / "a", work / "b"
    first = Authority()
    agent = Agent(ours, [first.svid(OURS)])
    callers = Agent(theirs, [first.svid(CALLER)])
    try:
        gateway = Served(ours)
    except peers.Missing as missing:
        peers.skip("spiffe", missing)
        peers.finish()
    peers.wait_port(gateway.port, gateway.child, gateway.log)
    workload = WorkloadApiClient(f"unix:{theirs}")
    shown = workload.fetch_x509_svid()
    status = call(gateway.port, work, first.pem, shown)
    held("takes a workload with a certificate of the same agent", status == 200, f"{status} {gateway.output()[-600:]}")
    stranger = Authority()
    other = Agent(work / "c", [stranger.svid(CALLER)])
    false = WorkloadApiClient(f"unix:{work / 'c'}").fetch_x509_svid()
    status = call(gateway.port, work, first.pem, false)
    held("takes none with the same name of another authority", status != 200, status)
    second = Authority()
    agent.give([second.svid(OURS)])
    callers.give([second.svid(CALLER)])

    def turned():
        fresh = workload.fetch_x509_svid()
        return call(gateway.port, work, second.pem, fresh) == 200

    held("shows and trusts what the agent gave anew", soon(turned), gateway.output()[-600:])
    status = call(gateway.port, work, second.pem, shown)
    held("takes no certificate of the authority that is gone", status != 200, status)
    asked = agent.asked
    agent.stop()
    status = call(gateway.port, work, second.pem, workload.fetch_x509_svid())
    held("goes on while the agent is away", status == 200, status)
    third = Authority()
    again = Agent(ours, [third.svid(OURS)])
    callers.give([third.svid(CALLER)])

    def back():
        return call(gateway.port, work, third.pem, workload.fetch_x509_svid()) == 200

    held("follows it again when it is back", soon(back), gateway.output()[-600:])
    held("asks with the header of the standard, and once a connection", (asked, agent.refused + again.refused) == (1, 0), asked)
    gateway.stop()
    for one in (callers, other, again):
        one.stop()
    peers.finish()


def soon(holds, seconds=40):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if holds():
                return True
        except OSError:
            pass
        time.sleep(0.2)
    return False


if __name__ == "__main__":
    main()
