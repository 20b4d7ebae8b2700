"""The command that the conformance suite's client leg starts, with the URL of its own test server as last argument: a
gateway of its own is started before that server, and the official client runs against the gateway. With PEER_DIRECT
set the client runs against the server itself, which shows that it does what the scenario asks for."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))

import peers  # noqa: E402


def main():
    url, bearer, gateway = sys.argv[-1], "", None
    if not os.environ.get("PEER_DIRECT"):
        asks = ["elicitation", "roots", "sampling"]
        gateway = peers.Gateway({"suite": {"url": url, "server_requests": asks}})
        url, bearer = gateway.url("suite"), gateway.key
    environment = {**os.environ, "PEER_MODULES": str(peers.MODULES), "PEER_BEARER": bearer}
    client = Path(__file__).resolve().parent / "client.mjs"
    code, output, errors = peers.run([peers.NODE, client, url], 50, env=environment)
    print(output + errors, file=sys.stderr)
    if gateway is not None:
        gateway.stop()
        if code != 0:
            print(gateway.output()[-4000:], file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
