// The options of the commands: an entry each, which says how its value is read and what the help says of it.

import { parseListenAddress, parseNumericAddress } from './address.ts'
import { parseRange, parseSenders } from './admission.ts'
import { flag, option } from './arguments.ts'
import { UsageError } from './failure.ts'
import { parseCount, parseDuration, parseMode } from './quantity.ts'
import { LOG_FORMATS, type LogFormat } from './session.ts'
import { parseServerName } from './tls.ts'

const verbose = flag('report clients, attempts and results on standard error', { short: 'v' })
const source = option('<address>', 'local address to connect from, numeric', parseNumericAddress, {
  otherwise: "the system's choice"
})
const mode = option('<bits>', "permissions of the Unix socket's file, such as 660", parseMode, { otherwise: 'what the umask allows' })
const allow = option('<range>', 'serve only clients from these addresses, such as 10.0.0.0/8, and reset others', parseRange, {
  isRepeatable: true,
  otherwise: 'everybody'
})
const idleTimeout = option('<duration>', 'reset a connection after this long without a byte in either direction', parseDuration, {
  otherwise: 'none'
})

const acceptProxyFrom = option(
  '<range>',
  "take the client's address from the PROXY header of these senders, and reset others; or unix, or anybody",
  parseSenders,
  { isRepeatable: true, otherwise: 'no header is read' }
)
const metrics = option('<address>', 'serve figures for Prometheus on this address, at /metrics', parseListenAddress, {
  otherwise: 'none'
})

const tlsCert = option('<file>', 'speak TLS with clients, with this certificate and its chain; PEM, read again at SIGHUP', parseFile, {
  otherwise: 'no TLS'
})
const tlsKey = option('<file>', "the certificate's private key", parseFile, { needs: 'tlsCert', otherwise: 'in the same file' })
const tlsClientCa = option('<file>', 'serve only clients with a certificate of this authority', parseFile, {
  needs: 'tlsCert',
  otherwise: 'everybody'
})

const CLIENTS_AT_ONCE = ['<count>', "clients to serve at once; further ones wait in the kernel's queue", parseCount] as const
const maxConnectionsPerAddress = option('<count>', 'the same for one address or IPv6 /64; further ones are reset', parseCount, {
  otherwise: 'none'
})
const backlog = option('<count>', 'clients that may wait in that queue', parseCount, { default: '511' })
const drop = flag('at the limit, reset further clients instead of letting them wait')
const grace = option('<duration>', 'how long open connections may take to finish after a signal', parseDuration, { default: '30s' })
const log = option('<format>', 'write a line for each connection to standard output: text or json', parseFormat, {
  otherwise: 'none'
})

export const FORWARD_OPTIONS = {
  maxConnections: option(...CLIENTS_AT_ONCE, { otherwise: 'what the limit on open files allows' }),
  maxConnectionsPerAddress,
  backlog,
  drop,
  allow,
  mode,
  idleTimeout,
  connectTimeout: option('<duration>', 'how long reaching a target may take, with name resolution', parseDuration, { default: '30s' }),
  source,
  acceptProxyFrom,
  sendProxy: option('[version]', 'tell the target with a PROXY header who the client is: 1 is text, 2 (if left out) binary', parseVersion, {
    otherwise: 'none'
  }),
  tlsCert,
  tlsKey,
  tlsClientCa,
  targetTls: option('[name]', 'speak TLS with the target, and verify that it is who it should be', parseServerName, {
    otherwise: 'no TLS; the name is the host that is dialled'
  }),
  targetCa: option('<file>', "the authority of the target's certificate", parseFile, { needs: 'targetTls', otherwise: 'those of Node.js' }),
  targetTlsCert: option('<file>', 'show the target this certificate, with its chain; PEM', parseFile, {
    needs: 'targetTls',
    otherwise: 'none'
  }),
  targetTlsKey: option('<file>', "that certificate's private key", parseFile, { needs: 'targetTlsCert', otherwise: 'in the same file' }),
  grace,
  log,
  metrics,
  verbose
}

export const CONNECT_OPTIONS = {
  timeout: option('<duration>', 'how long reaching the address may take, with name resolution', parseDuration, { default: '30s' }),
  idleTimeout,
  source,
  tls: option('[name]', 'speak TLS, and verify that the server is who it should be', parseServerName, {
    otherwise: 'no TLS; the name is the host that is dialled'
  }),
  ca: option('<file>', "the authority of the server's certificate", parseFile, { needs: 'tls', otherwise: 'those of Node.js' }),
  tlsCert: option('<file>', 'show the server this certificate, with its chain; PEM', parseFile, { needs: 'tls', otherwise: 'none' }),
  tlsKey: option('<file>', "that certificate's private key", parseFile, { needs: 'tlsCert', otherwise: 'in the same file' }),
  verbose
}

const onlyWithExec = { needs: 'exec' } as const

export const LISTEN_OPTIONS = {
  exec: option(
    '<command>',
    "run this in a shell for each client; its input and output are the connection, IT_TCP_CLIENT is the client's address",
    parseCommand
  ),
  maxConnections: option(...CLIENTS_AT_ONCE, { ...onlyWithExec, default: '100' }),
  maxConnectionsPerAddress: { ...maxConnectionsPerAddress, ...onlyWithExec },
  backlog: { ...backlog, ...onlyWithExec },
  drop: { ...drop, ...onlyWithExec },
  allow,
  mode,
  idleTimeout,
  acceptProxyFrom: { ...acceptProxyFrom, ...onlyWithExec },
  tlsCert,
  tlsKey,
  tlsClientCa,
  grace: { ...grace, ...onlyWithExec },
  log: { ...log, ...onlyWithExec },
  metrics: { ...metrics, ...onlyWithExec },
  verbose
}

function parseFormat(text: string): LogFormat {
  const format = LOG_FORMATS.find((name) => name === text)
  if (format === undefined) throw new UsageError(`must be text or json: received '${text}'`)
  return format
}

function parseVersion(text: string): 1 | 2 {
  if (text !== '' && text !== '1' && text !== '2') throw new UsageError(`must be 1 or 2: received '${text}'`)
  return text === '1' ? 1 : 2
}

function parseFile(text: string): string {
  if (text === '') throw new UsageError("must be a file: received ''")
  return text
}

function parseCommand(text: string): string {
  if (text.trim() === '') throw new UsageError(`must be a command: received '${text}'`)
  return text
}
