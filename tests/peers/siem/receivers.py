"""Receivers: real ones that are started and asked, and strict ones of our own where no registry has the real one."""

import http.server
import json
import re
import socket
import subprocess
import threading
import time
import uuid

import peers


class Strict:
    """A receiver that keeps what it took over a restart, and can be away: then nobody listens."""

    def __init__(self):
        self.port, self.lock, self.kept = peers.free_port(), threading.Lock(), []
        self.start()

    def start(self):
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("content-length", "0")))
                status, answer = receiver.answer(self.path, self.headers, body)
                text = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_):
                pass

            def handle(self):
                try:
                    super().handle()
                except OSError:
                    # The receiver was killed meanwhile.
                    pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def __init__(self, *arguments):
                self.open = set()
                super().__init__(*arguments)

            def process_request(self, request, address):
                self.open.add(request)
                super().process_request(request, address)

        self.server = Server(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def kill(self):
        self.server.shutdown()
        self.server.server_close()
        for request in self.server.open:
            try:
                request.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def objects(text):
    """JSON objects one after the other, as HEC takes them."""
    decoder, at, found = json.JSONDecoder(), 0, []
    while at < len(text):
        value, at = decoder.raw_decode(text, at)
        found.append(value)
        while at < len(text) and text[at].isspace():
            at += 1
    return found


class Splunk(Strict):
    """The HTTP Event Collector as Splunk documents it: token, channel, codes, acknowledgements some time after the event."""

    def __init__(self, token):
        self.token, self.acks, self.next = token, {}, 0
        super().__init__()

    def answer(self, path, headers, body):
        if headers.get("authorization") != f"Splunk {self.token}":
            return 403, {"text": "Invalid token", "code": 4}
        channel = headers.get("x-splunk-request-channel")
        try:
            uuid.UUID(channel or "")
        except ValueError:
            return 400, {"text": "Data channel is missing", "code": 10}
        if path.startswith("/services/collector/ack?channel="):
            with self.lock:
                now = time.monotonic()
                asked = json.loads(body)["acks"]
                return 200, {"acks": {str(one): self.acks.get((channel, one), now + 1) < now for one in asked}}
        if path != "/services/collector/event":
            return 404, {"text": "The requested URL was not found on this server.", "code": 404}
        try:
            events = objects(body.decode())
        except ValueError:
            return 400, {"text": "Invalid data format", "code": 6}
        for event in events:
            allowed = {"time", "host", "source", "sourcetype", "index", "event", "fields"}
            flat = all(isinstance(value, (str, int, float, list)) for value in event.get("fields", {}).values())
            if set(event) - allowed or not event.get("event") or not flat or not re.fullmatch(r"\d+\.\d{3}", event["time"]):
                return 400, {"text": "Invalid data format", "code": 6, "invalid-event-number": 0}
        with self.lock:
            self.kept += events
            self.next += 1
            self.acks[(channel, self.next)] = time.monotonic() + 0.3
            return 200, {"text": "Success", "code": 0, "ackId": self.next}

    def indices(self):
        with self.lock:
            return [int(event["fields"]["id"].split("/")[-2 if event["fields"]["id"].endswith("/1") else -1].rsplit(":", 1)[1]) for event in self.kept if not event["fields"]["id"].endswith("/1")]

    def events(self):
        with self.lock:
            return [event["event"] for event in self.kept]


class Elastic(Strict):
    """The bulk API: pairs of lines, an answer for each, `create` only once for an id."""

    def __init__(self):
        self.documents = {}
        super().__init__()

    def answer(self, path, headers, body):
        if path != "/_bulk" or headers.get("content-type") != "application/x-ndjson":
            return 406, {"error": "Content-Type header is not supported", "status": 406}
        text = body.decode()
        if not text.endswith("\n"):
            return 400, {"error": "The bulk request must be terminated by a newline [\\n]", "status": 400}
        lines, items, errors = text.splitlines(), [], False
        with self.lock:
            for action, document in zip(lines[::2], lines[1::2]):
                create = json.loads(action)["create"]
                document = json.loads(document)
                status = 409 if create["_id"] in self.documents else 201
                if "@timestamp" not in document:
                    status = 400
                if status == 201:
                    self.documents[create["_id"]] = document
                errors = errors or status != 201
                items.append({"create": {"_index": create["_index"], "_id": create["_id"], "status": status}})
        return 200, {"took": 1, "errors": errors, "items": items}

    def indices(self):
        with self.lock:
            return [document["event"]["sequence"] for document in self.documents.values()]


class Webhook(Strict):
    """Posts, each judged by the verifier that the specification publishes."""

    def __init__(self, python, secret, work):
        self.python, self.secret, self.work, self.good, self.bad = python, secret, work, [], []
        code = (
            "import sys,json\nfrom standardwebhooks.webhooks import Webhook\n"
            "for line in sys.stdin:\n  one=json.loads(line)\n  try:\n    Webhook(one['secret']).verify(one['body'],one['headers']); print('good',flush=True)\n"
            "  except Exception as error: print(type(error).__name__,flush=True)\n"
        )
        if not python.is_file():
            raise peers.Missing("pypi-siem is not installed")
        self.judge = subprocess.Popen([python, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=peers.die_with_parent)
        super().__init__()

    def ask(self, secret, body, headers):
        wanted = {name: headers.get(name) for name in ("webhook-id", "webhook-timestamp", "webhook-signature")}
        with self.lock:
            self.judge.stdin.write(json.dumps({"secret": secret, "body": body.decode(), "headers": wanted}) + "\n")
            self.judge.stdin.flush()
            return self.judge.stdout.readline().strip()

    def answer(self, path, headers, body):
        said = self.ask(self.secret, body, headers)
        if path != "/in" or said != "good":
            self.bad.append(said)
            return 401, {}
        self.good.append((json.loads(body)["type"], body, headers))
        return 200, {}

    def verified(self):
        return [kind for kind, _, _ in self.good]

    def refused(self):
        return self.bad

    def forged(self):
        _, body, headers = self.good[0]
        return self.ask("whsec_" + "b" * 44, body, headers) != "good" and self.ask(self.secret, body + b" ", headers) != "good"


class Collector:
    """rotel, which prints every record that it takes."""

    def __init__(self, python, work):
        agent = next(python.parent.parent.glob("lib/python*/site-packages/rotel/rotel-agent"), None)
        if not agent:
            raise peers.Missing("rotel is not installed")
        self.port, self.log, grpc = peers.free_port(), work / "rotel.log", peers.free_port()
        words = ["start", "--exporter", "blackhole", "--debug-log", "logs", "--debug-log-verbosity", "detailed"]
        words += ["--otlp-grpc-endpoint", f"127.0.0.1:{grpc}", "--otlp-http-endpoint", f"127.0.0.1:{self.port}"]
        self.child = peers.spawn([agent, *words], self.log)
        peers.wait_port(self.port, self.child, self.log)

    def indices(self):
        return [int(one) for one in re.findall(r"log\.record\.uid.{0,40}?:(\d+)[\")]", self.log.read_text(errors="replace"))]


class Nats:
    """A NATS server with a stream for our subject, read back by its own API."""

    def __init__(self, work):
        self.work, self.port = work, peers.free_port()
        self.start()
        stream = {"name": "portcullis", "subjects": ["portcullis.>"], "retention": "limits", "storage": "file", "max_consumers": -1}
        stream |= {"max_msgs": -1, "max_bytes": -1, "max_age": 0, "num_replicas": 1, "duplicate_window": 120_000_000_000}
        answer = self.ask("$JS.API.STREAM.CREATE.portcullis", stream)
        if "error" in answer:
            raise RuntimeError(f"nats: {answer}")

    def start(self):
        words = ["nats-server", "-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", self.work / "nats"]
        self.child = peers.spawn(words, self.work / "nats.log")
        peers.wait_port(self.port, self.child, self.work / "nats.log")

    def kill(self):
        self.child.kill()
        self.child.wait()

    def ask(self, subject, question, times=1):
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as line:
            stream = line.makefile("rwb")
            stream.readline()
            stream.write(b'CONNECT {"verbose":false,"headers":true}\r\nSUB in 1\r\n')
            answers = []
            for number in range(times):
                one = question(number) if callable(question) else question
                text = json.dumps(one).encode()
                stream.write(f"PUB {subject} in {len(text)}\r\n".encode() + text + b"\r\n")
            stream.flush()
            while len(answers) < times:
                head = stream.readline().split()
                if head and head[0] == b"PING":
                    stream.write(b"PONG\r\n")
                    stream.flush()
                if head and head[0] == b"MSG":
                    answers.append(json.loads(stream.read(int(head[-1]) + 2)))
            return answers if times > 1 else answers[0]

    def indices(self):
        import base64

        state = self.ask("$JS.API.STREAM.INFO.portcullis", {})["state"]
        first, last = state["first_seq"], state["last_seq"]
        if last < first or last - first < 1:
            return []
        got = self.ask("$JS.API.STREAM.MSG.GET.portcullis", lambda number: {"seq": first + number}, last - first + 1)
        heads = [base64.b64decode(one["message"]["hdrs"]).decode() for one in got if "message" in one]
        return [int(re.search(r"Nats-Msg-Id: \S+:(\d+)\r", head).group(1)) for head in heads]
