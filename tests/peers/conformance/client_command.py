"""The command that the conformance suite's client leg starts, with the URL of its own test server as last argument: a
gateway of its own is started before that server, and the official client runs against the gateway. With PEER_DIRECT
set the client runs against the server itself, which shows that it does what the scenario asks for."""

import json
import os
import sys
import urllib.parse
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))

import peers  # noqa: E402


def issuer(url):
    """The authorization server that the suite's server names."""
    parts = urllib.parse.urlsplit(url)
    place = f"{parts.scheme}://{parts.netloc}/.well-known/oauth-protected-resource{parts.path}"
    with urllib.request.urlopen(place, timeout=10) as answer:
        return json.load(answer)["authorization_servers"][0]


def authorization(url):
    """How the operator declares the authorization of the suite's server: with what the scenario's context says that was
    agreed beforehand, else only with the client metadata document that the suite knows."""
    context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT") or "{}")
    if "client_id" not in context:
        return {"client_metadata_url": "https://conformance-test.local/client-metadata.json"}
    section = {"issuer": context.get("issuer") or issuer(url), "client_id": context["client_id"]}
    if "client_secret" in context:
        os.environ["SUITE_SECRET"] = context["client_secret"]
        section["client_secret"] = "env:SUITE_SECRET"
    if "private_key_pem" in context:
        os.environ["SUITE_KEY"] = context["private_key_pem"]
        section["client_key"] = "env:SUITE_KEY"
    if "idp_id_token" in context:
        # The suite's identity provider publishes no keys, so that no caller could come with this token: it is exchanged
        # for everybody.
        os.environ["SUITE_ID_TOKEN"] = context["idp_id_token"]
        section["mode"] = "id_jag"
        section["exchange"] = {
            "issuer": context["idp_issuer"],
            "client_id": context["idp_client_id"],
            "subject_token": "env:SUITE_ID_TOKEN",
            "subject_token_type": "id_token",
        }
    if "client-credentials" in os.environ["MCP_CONFORMANCE_SCENARIO"]:
        section["mode"] = "client_credentials"
    return section


def main():
    url, bearer, gateway = sys.argv[-1], "", None
    if not os.environ.get("PEER_DIRECT"):
        asks = ["elicitation", "roots", "sampling"]
        server = {"url": url, "server_requests": asks}
        if os.environ["MCP_CONFORMANCE_SCENARIO"].startswith("auth/"):
            server["authorization"] = authorization(url)
        gateway = peers.Gateway({"suite": server})
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
