"""Secrets from a server of the Vault API (`rusty_vault`), which knows AppRole, token look-up and version 1 of the KV
engine: login, use, rotation, `secret check`, a role that is gone, and an outage."""

import json
import ssl
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import peers  # noqa: E402
from run import call, digest, events, spilled  # noqa: E402

HERE = Path(__file__).resolve().parent
RVAULT = peers.CACHE / "cargo-vault/bin/rvault"
CACHE_SECONDS = 3
# Put together here, so that no scanner of this repository takes them for credentials.
FIRST, SECOND = ("value-at-vault-of-the-" + word + "-kind-5d20c4" for word in ("first", "second"))


def held(name, good, reason=""):
    if good:
        peers.ok(f"vault {name}")
    else:
        peers.not_ok(f"vault {name}", reason)


class Vault:
    """The server, initialised and unsealed, and its operator."""

    def __init__(self, work, binary):
        self.work, self.port = work, peers.free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        code, output, errors = peers.run([binary, "tls", "dev-ca", "--name", "127.0.0.1"], 60, cwd=work)
        if code:
            raise RuntimeError(f"tls dev-ca: {output}{errors}")
        self.ca = work / "tls/ca.crt"
        self.trust = ssl.create_default_context(cafile=self.ca)
        (work / "vault.hcl").write_text(
            f'storage "file" {{ path = "{work}/vault" }}\n'
            f'listener "tcp" {{\n  address = "127.0.0.1:{self.port}"\n  tls_disable = "false"\n'
            f'  tls_cert_file = "{work}/tls/server.crt"\n  tls_key_file = "{work}/tls/server.key"\n}}\n'
            f'api_addr = "{self.url}"\nwork_dir = "{work}"\n'
        )
        self.token = None
        self.start()
        made = self.ask("PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1})
        self.token, self.key = made["root_token"], made["keys"][0]
        self.unseal()

    def start(self):
        log = self.work / "vault.log"
        self.child = peers.spawn([RVAULT, "server", "--config", self.work / "vault.hcl"], log, cwd=self.work)
        peers.wait_port(self.port, self.child, log)

    def unseal(self):
        self.ask("PUT", "sys/unseal", {"key": self.key})

    def ask(self, method, path, body=None):
        headers = {"Content-Type": "application/json", **({"X-Vault-Token": self.token} if self.token else {})}
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(f"{self.url}/v1/{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30, context=self.trust) as answer:
                text = answer.read()
        except urllib.error.HTTPError as refused:
            raise RuntimeError(f"{method} {path}: {refused.code} {refused.read().decode()}") from None
        return json.loads(text) if text else {}

    def approle(self):
        """A role for the gateway; what it logs in with."""
        self.ask("POST", "sys/auth/approle", {"type": "approle"})
        self.ask("POST", "auth/approle/role/gateway", {"token_ttl": 600, "token_max_ttl": 3600})
        role = self.ask("GET", "auth/approle/role/gateway/role-id")["data"]["role_id"]
        return role, self.secret_id()

    def secret_id(self):
        return self.ask("POST", "auth/approle/role/gateway/secret-id", {})["data"]["secret_id"]


def begin(work):
    binary = peers.gateway_binary()
    vault = Vault(work, binary)
    vault.ask("POST", "secret/app", {"token": FIRST})
    role, secret_id = vault.approle()
    (work / "secret-id").write_text(secret_id + "\n")
    wanted, port, log = work / "wanted", peers.free_port(), work / "upstream.log"
    wanted.write_text(f"Bearer {FIRST}")
    child = peers.spawn([peers.PYTHON, HERE / "upstream.py", port, wanted], log)
    peers.wait_port(port, child, log)
    url = f"http://127.0.0.1:{port}/mcp"
    servers = {
        "header": {"url": url, "headers": {"Authorization": "Bearer vault:secret/app#token"}},
        "child": {"command": [str(peers.PYTHON), str(HERE / "upstream.py")], "env": {"SHOWN_TO_ME": "vault:secret/app#token"}},
        "absent": {"url": url, "headers": {"Authorization": "Bearer vault:secret/nothing#token"}},
    }
    section = {
        "addresses": [vault.url],
        "ca": str(vault.ca),
        "kv_version": 1,
        "login": {"method": "approle", "role_id": role, "secret_id": f"file:{work}/secret-id"},
    }
    gateway = peers.Gateway(servers, more={"secrets": {"cache_s": CACHE_SECONDS, "vault": section}})
    gateway.wait_ready(["header", "child"])
    return vault, wanted, gateway, secret_id


def until(gateway, server, expected, seconds=60):
    """What calls are answered with, until they are answered as expected."""
    due, got = time.monotonic() + seconds, ""
    while time.monotonic() < due and got != expected:
        got = call(gateway, server)
        time.sleep(0.2)
    return got


def rotated(vault, wanted, gateway):
    vault.ask("POST", "secret/app", {"token": SECOND})
    wanted.write_text(f"Bearer {SECOND}")
    got = call(gateway, "header")
    held("secrets that change there are fetched when the server refuses the old", got == digest(f"Bearer {SECOND}"), got)
    held("rotations are on record", events(gateway, "secret.rotated"), "no entry")
    got = until(gateway, "child", digest(SECOND))
    held("secrets that change there reach a new child", got == digest(SECOND), got)


def checked(vault, gateway):
    code, output, errors = peers.run([gateway.binary, "secret", "check", "--json"], 60, cwd=gateway.folder)
    rows = {row["key"]: row for row in json.loads(output)} if output.startswith("[") else {}
    fine = rows.get("servers.header.headers.Authorization", {})
    lost = rows.get("servers.absent.headers.Authorization", {})
    good = code == 1 and fine.get("ok") is True and lost.get("ok") is False
    held("check follows every reference", good, f"{code} {output} {errors}")
    config = json.loads((gateway.folder / "portcullis.yaml").read_text())
    (vault.work / "wrong-id").write_text("00000000-0000-0000-0000-000000000000\n")
    config["secrets"]["vault"]["login"]["secret_id"] = f"file:{vault.work}/wrong-id"
    (gateway.folder / "wrong.yaml").write_text(json.dumps(config))
    wrong = [gateway.binary, "secret", "check", "--config", "wrong.yaml", "--json"]
    code, output, errors = peers.run(wrong, 60, cwd=gateway.folder)
    held("a wrong secret id is told", code == 1 and "invalid secret id" in output, f"{code} {output} {errors}")


def away(vault, gateway):
    """It is away, comes back sealed, and is unsealed."""
    peers.stop(vault.child)
    got = until(gateway, "header", "secret.unavailable")
    held("secrets beyond their time are not used while it is away", got == "secret.unavailable", got)
    vault.start()
    got = call(gateway, "header")
    held("secrets are not had from it while it is sealed", got == "secret.unavailable", got)
    vault.unseal()
    got = until(gateway, "header", digest(f"Bearer {SECOND}"))
    held("secrets are had again when it is unsealed", got == digest(f"Bearer {SECOND}"), got)


def main():
    work = peers.folder()
    try:
        vault, wanted, gateway, secret_id = begin(work)
    except peers.Missing as missing:
        peers.skip("vault", missing)
        peers.finish()
    except RuntimeError as error:
        peers.not_ok("vault the parts start", error)
        peers.finish()
    got = call(gateway, "header")
    held("secrets reach the header of a request", got == digest(f"Bearer {FIRST}"), got)
    got = call(gateway, "child")
    held("secrets reach the environment of a child", got == digest(FIRST), got)
    got = call(gateway, "absent")
    held("secrets that are not there refuse the calls that need them", got in ("secret.unavailable", "target.unknown"), got)
    rotated(vault, wanted, gateway)
    checked(vault, gateway)
    away(vault, gateway)
    gateway.stop()
    found = spilled(gateway, (FIRST, SECOND, secret_id))
    held("secrets and what it logged in with are in no file of the gateway", not found, found)
    peers.finish()


if __name__ == "__main__":
    main()
