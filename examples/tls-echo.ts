// Shows a server that speaks TLS, and takes over a new certificate while it runs.
// Run it: npm run build && node dist/examples/tls-echo.js cert.pem key.pem [port] [ca.pem]
// Then, elsewhere: openssl s_client -connect localhost:8443 -CAfile cert.pem
//
// For development, openssl makes both files:
//   openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -subj /CN=localhost -addext subjectAltName=DNS:localhost
// With a ca.pem, only clients with a certificate of that authority are served. SIGHUP reads the files again, SIGINT ends it.

import { readFileSync } from 'node:fs'
import { onPort, Server, type SocketAddress, TlsContext } from 'it-tcp'

const [certFile = 'cert.pem', keyFile = 'key.pem', port = '8443', caFile] = process.argv.slice(2)
const files = () => ({
  cert: readFileSync(certFile),
  key: readFileSync(keyFile),
  ...(caFile !== undefined && { ca: readFileSync(caFile) })
})

const tls = TlsContext.create({ ...files(), clientCert: caFile === undefined ? 'none' : 'required' })

// A client that fails in the handshake never reaches the handler; it is reported, and its place is free again.
function report(address: SocketAddress, error: unknown): void {
  const client = address.family === 'unix' ? 'a client' : address.address
  console.error(`${client}: ${(error as Error).message}`)
}

const server = await Server.create(
  onPort(Number(port)),
  { tls, maxConnections: 100, handshakeTimeout: 5_000, idleTimeout: 60_000, onHandlerError: report },
  async ({ reader, writer, tls }) => {
    console.log(`A client over ${tls?.version} with ${tls?.cipher}`)
    // It ends when the client has said so in TLS; if the client's stream was cut off, it throws instead.
    await writer(reader)
  }
)
console.log(`Listening on port ${server.listeningOn}, certificate valid until ${tls.validTo.toISOString()}`)

process.on('SIGHUP', () => {
  try {
    // For handshakes from now on; clients that are there keep what they have.
    tls.replace(files())
    console.log(`New certificate, valid until ${tls.validTo.toISOString()}`)
  } catch (error) {
    // Half-written, expired, the key of another: nothing has changed.
    console.error(`Keeping the old certificate: ${(error as Error).message}`)
  }
})
process.once('SIGINT', () => void server.close({ forceAfter: 5_000 }))
await server.finished
