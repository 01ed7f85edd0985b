// The options of the commands: an entry each, which says how its value is read and what the help says of it.

import { parseNumericAddress } from './address.ts'
import { parseRange } from './admission.ts'
import { flag, option } from './arguments.ts'
import { UsageError } from './failure.ts'
import { parseCount, parseDuration, parseMode } from './quantity.ts'
import { LOG_FORMATS, type LogFormat } from './session.ts'

const verbose = flag('tell more on standard error: who comes, what is tried, how it ends', { short: 'v' })
const source = option('<address>', 'numeric address of this machine to connect from', parseNumericAddress, {
  otherwise: "the system's choice"
})
const mode = option('<bits>', "permissions of a unix socket's file, such as 660", parseMode, { otherwise: 'as the umask says' })
const allow = option('<range>', 'serve only clients from these addresses, such as 10.0.0.0/8; others are reset', parseRange, {
  isRepeatable: true,
  otherwise: 'everybody'
})
const idleTimeout = option('<duration>', 'reset the connection when no byte went either way for so long', parseDuration, {
  otherwise: 'none'
})

const CLIENTS_AT_ONCE = ['<count>', "clients to serve at once; others wait in the kernel's queue", parseCount] as const
const maxConnectionsPerAddress = option(
  '<count>',
  'clients from one address to serve at once, where an IPv6 /64 counts as one; others are reset',
  parseCount,
  {
    otherwise: 'none'
  }
)
const backlog = option('<count>', 'clients that may wait there', parseCount, { default: '511' })
const drop = flag('at the limit, reset others at once instead of letting them wait')
const grace = option('<duration>', 'for open connections to finish after a first signal', parseDuration, { default: '30s' })
const log = option('<format>', 'a line per connection on standard output, when it is over: text or json', parseFormat, {
  otherwise: 'none'
})

export const FORWARD_OPTIONS = {
  maxConnections: option(...CLIENTS_AT_ONCE, { otherwise: 'what the limit of open files allows' }),
  maxConnectionsPerAddress,
  backlog,
  drop,
  allow,
  mode,
  idleTimeout,
  connectTimeout: option('<duration>', 'for reaching a target, name resolution included', parseDuration, { default: '30s' }),
  source,
  grace,
  log,
  verbose
}

export const CONNECT_OPTIONS = {
  timeout: option('<duration>', 'for reaching the address, name resolution included', parseDuration, { default: '30s' }),
  idleTimeout,
  source,
  verbose
}

const onlyWithExec = { needs: 'exec' } as const

export const LISTEN_OPTIONS = {
  exec: option(
    '<command>',
    'run this in a shell for each client: its input and output are the connection, IT_TCP_CLIENT in its environment is the client',
    parseCommand
  ),
  maxConnections: option(...CLIENTS_AT_ONCE, { ...onlyWithExec, default: '100' }),
  maxConnectionsPerAddress: { ...maxConnectionsPerAddress, ...onlyWithExec },
  backlog: { ...backlog, ...onlyWithExec },
  drop: { ...drop, ...onlyWithExec },
  allow,
  mode,
  idleTimeout,
  grace: { ...grace, ...onlyWithExec },
  log: { ...log, ...onlyWithExec },
  verbose
}

function parseFormat(text: string): LogFormat {
  const format = LOG_FORMATS.find((name) => name === text)
  if (format === undefined) throw new UsageError(`must be text or json: received '${text}'`)
  return format
}

function parseCommand(text: string): string {
  if (text.trim() === '') throw new UsageError(`must be a command: received '${text}'`)
  return text
}
