// An MCP server on stdio that tries whatever a call asks of it, and says in each answer how that went.

import { spawn, spawnSync } from "node:child_process";
import dgram from "node:dgram";
import fs from "node:fs";
import net from "node:net";
import readline from "node:readline";

function place(text) {
  const at = text.lastIndexOf(":");
  return { host: text.slice(0, at).replace(/[[\]]/g, ""), port: Number(text.slice(at + 1)) };
}

function connect(options) {
  return new Promise((resolve, reject) => {
    const out = net.connect(options, () => {
      out.destroy();
      resolve("");
    });
    out.on("error", reject);
  });
}

function send(on) {
  const { host, port } = place(on);
  return new Promise((resolve, reject) => {
    const out = dgram.createSocket(host.includes(":") ? "udp6" : "udp4");
    out.on("error", reject);
    out.send("out", port, host, (error) => (error ? reject(error) : resolve("")));
  });
}

async function fork() {
  for (let count = 0; ; count += 1) {
    const child = spawn("/bin/sleep", ["600"], { stdio: "ignore" });
    await new Promise((resolve, reject) => {
      child.on("spawn", resolve);
      child.on("error", reject);
    });
  }
}

const deeds = {
  read: (on) => fs.readFileSync(on, "utf8"),
  write: (on) => fs.writeFileSync(on, "written"),
  list: (on) => fs.readdirSync(on).join(" "),
  remove: (on) => fs.unlinkSync(on),
  run: (on) => {
    const { status, error } = spawnSync(on);
    if (error) throw error;
    return `${status}`;
  },
  fork,
  tcp: (on) => connect(place(on)),
  udp: send,
  unix: (on) => connect({ path: on }),
  environment: (on) => process.env[on],
};

async function attempt({ what, on }) {
  try {
    return `done: ${(await deeds[what](on)) ?? ""}`;
  } catch (error) {
    return `failed: ${error.message} (os error ${-error.errno})`;
  }
}

async function result({ method, params }) {
  const serverInfo = { name: "hostile-child", version: "1" };
  const kept = { resultType: "complete", ttlMs: 0, cacheScope: "private" };
  switch (method) {
    case "server/discover":
      return { ...kept, serverInfo, supportedVersions: ["2026-07-28", "2025-11-25"], capabilities: { tools: {} } };
    case "initialize":
      return { protocolVersion: params.protocolVersion, capabilities: { tools: {} }, serverInfo };
    case "tools/list":
      return { ...kept, tools: [{ name: "try", inputSchema: { type: "object" } }] };
    case "tools/call":
      return { content: [{ type: "text", text: await attempt(params.arguments) }], resultType: "complete" };
    default:
      return undefined;
  }
}

for await (const line of readline.createInterface({ input: process.stdin })) {
  const message = JSON.parse(line);
  if (message.id === undefined) continue;
  const found = await result(message);
  const missing = { error: { code: -32601, message: "not found" } };
  const answer = { jsonrpc: "2.0", id: message.id, ...(found ? { result: found } : missing) };
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
