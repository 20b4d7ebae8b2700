// TLS of another library before a plain server: `front.mjs PORT TO CERTIFICATE KEY GROUPS [CIPHERS]`. It agrees on no other groups, so
// what comes through was agreed on with one of them.
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { createServer } from 'node:tls';

const [port, to, certificate, key, groups, ciphers] = process.argv.slice(2);
const options = {
  cert: readFileSync(certificate),
  key: readFileSync(key),
  ecdhCurve: groups,
  // Weak certificates are shown where the ciphers say so.
  ...(ciphers ? { ciphers } : { minVersion: 'TLSv1.3' }),
};
const server = createServer(options, (near) => {
  const far = connect(Number(to), '127.0.0.1');
  near.pipe(far).pipe(near);
  for (const [one, other] of [[near, far], [far, near]]) {
    one.on('error', () => other.destroy());
    one.on('close', () => other.destroy());
  }
});
server.listen(Number(port), '127.0.0.1');
