// Run by package-check.js where the package is installed, beside a certificate: every kind of connection, the test kit and the command.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { ConnectionResetError, connect, listen, onFile, onPortChosenByOs, Server, TlsContext, toFile, toHostAndPort } from 'it-tcp'
import { checkConnection, connectionPair } from 'it-tcp/testing'

const local = { host: '127.0.0.1' }
const identity = { cert: readFileSync('cert.pem'), key: readFileSync('key.pem') }
const trusting = { ca: identity.cert, serverName: 'localhost' }

// The laws of the test kit, for connections of the library beside it.
await checkConnection(() => connectionPair())
await checkPairs('TCP', onPortChosenByOs(local), {}, (port) => connect(toHostAndPort(local.host, port)))
await checkPairs('TLS', onPortChosenByOs(local), { tls: TlsContext.create(identity) }, (port) =>
  connect(toHostAndPort(local.host, port), { tls: trusting })
)
const endpoints = {
  source: { family: 'IPv4', address: '192.0.2.1', port: 1 },
  destination: { family: 'IPv4', address: '192.0.2.2', port: 2 }
}
await checkPairs('PROXY', onPortChosenByOs(local), { proxyProtocol: { from: ['127.0.0.1'] } }, (port) =>
  connect(toHostAndPort(local.host, port), { proxyHeader: endpoints })
)
if (process.platform !== 'win32') await checkPairs('Unix', onFile('socket'), {}, (path) => connect(toFile(path)), { hasResets: false })

// Both entries share the classes of errors.
const [client, served] = connectionPair()
served.abort()
await assert.rejects(client.reader.readLine(), ConnectionResetError)

// Stack traces and `console.log` name classes as the documents do.
assert.equal(Server.name, 'Server')
assert.match(new ConnectionResetError('it').stack, /^ConnectionResetError: it/)

// STARTTLS, and the command between.
const server = await Server.create(onPortChosenByOs(local), async (connection) => {
  assert.equal(await connection.reader.readLine(), 'STARTTLS')
  await connection.startTls(TlsContext.create(identity))
  await connection.writer(connection.reader)
})
const command = spawn(process.execPath, [process.argv[2], 'forward', '127.0.0.1:0', `127.0.0.1:${server.listeningOn}`])
let told = ''
command.stderr.setEncoding('utf8')
for await (const text of command.stderr) {
  told += text
  if (/listening on .*\n/.test(told)) break
}
const through = await connect(toHostAndPort(local.host, Number(/:(\d+)\n/.exec(told)[1])))
through.writer.write('STARTTLS\n')
await through.startTls(trusting)
through.writer.write('through the command\n')
assert.equal(await through.reader.readLine(), 'through the command')
await through.close()
command.kill()
await server.close()
console.log('all of it works')

async function checkPairs(name, where, options, dial, laws) {
  const server = await listen(where, options)
  const pair = async () => await Promise.all([dial(server.listeningOn), server.accept()])
  try {
    await checkConnection(pair, laws)
  } catch (error) {
    throw new Error(`Over ${name}: ${error.message}`, { cause: error })
  }
  await server.close()
}
