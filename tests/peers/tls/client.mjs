// What another TLS library agrees on with a server: `client.mjs PORT CA GROUPS [VERSION]` prints it as JSON.
import { readFileSync } from 'node:fs';
import { connect } from 'node:tls';

const [port, authority, groups, version] = process.argv.slice(2);
const socket = connect({
  host: 'localhost',
  port: Number(port),
  ca: readFileSync(authority),
  ecdhCurve: groups,
  ALPNProtocols: ['h2', 'http/1.1'],
  ...(version && { minVersion: version, maxVersion: version }),
});
socket.on('secureConnect', () => {
  const { name } = socket.getEphemeralKeyInfo();
  console.log(JSON.stringify({ group: name, version: socket.getProtocol(), alpn: socket.alpnProtocol }));
  socket.destroy();
});
socket.on('error', (error) => {
  console.log(JSON.stringify({ error: error.code ?? error.message }));
});
