// The commands and their options, as the command line has them.

import { readFileSync } from 'node:fs'
import { Command, Option } from 'commander'
import { parseConnectAddress, parseListenAddress } from './address.ts'
import { connectAndConverse } from './connect.ts'
import { listenAndExec } from './exec.ts'
import { UsageError } from './failure.ts'
import { type ForwardOptions, forward } from './forward.ts'
import { listenAndConverse } from './listen.ts'
import { parseCount, parseDuration } from './quantity.ts'
import type { ServeOptions } from './serve.ts'
import { LOG_FORMATS } from './session.ts'

const ADDRESSES = `
Addresses:
  8080, :8080         a port: of all addresses to listen on, of this machine to connect to
  host:8080           a host name or an IPv4 address, and a port
  [::1]:8080          an IPv6 address, and a port
  ./app.sock          a unix socket: anything with a slash in it
  unix:app.sock       a unix socket

Durations have a unit: 500ms, 30s, 5m, 1h.
`

const EXIT_CODES = `
Exit codes:
  0    everything ended in order
  1    it could not listen, connect, or write its output
  2    the arguments are wrong
  3    the connection broke
  130  ended by SIGINT; forward and listen --exec by a second signal
  143  the same with SIGTERM
`

/** The program. Its commands set `process.exitCode`, or throw what went wrong. */
export function createProgram(): Command {
  const { version, description } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    version: string
    description: string
  }
  const program = new Command('it-tcp')
    .description(`${description}.\nThe command forwards, connects and listens.`)
    .version(version)
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, 'it-tcp: ')) })
    .addHelpText('after', ADDRESSES + EXIT_CODES)

  const forwarding = program
    .command('forward')
    .description('forward every client to a target, between any two of TCP and unix sockets')
    .argument('<listen>', 'where to listen', parseListenAddress)
    .argument('<target>', 'where to connect each client to', parseConnectAddress)
    .option('--connect-timeout <duration>', 'for reaching the target (default: 30s)', parseDuration)
    .addHelpText('after', ADDRESSES)
    .action(async (from, to, options: ForwardOptions) => {
      process.exitCode = await forward(from, to, options)
    })
  addServerOptions(forwarding)

  program
    .command('connect')
    .description('connect standard input and output; the end of the input is a half-close')
    .argument('<address>', 'where to connect', parseConnectAddress)
    .option('--timeout <duration>', 'for reaching the address (default: 30s)', parseDuration)
    .option('--idle-timeout <duration>', 'give up when no byte went either way for so long', parseDuration)
    .addHelpText('after', ADDRESSES)
    .action(async (where, options: { timeout?: number; idleTimeout?: number }) => {
      await connectAndConverse(where, options)
    })

  const listening = program
    .command('listen')
    .description('take one client on standard input and output, or with --exec any number')
    .argument('<address>', 'where to listen', parseListenAddress)
    .option('--exec <command>', 'start a process per client: its input and output are the connection, IT_TCP_CLIENT is the client')
    .addHelpText('after', '\nWithout --exec only --idle-timeout applies; with it the default of --max-connections is 100.')
    .addHelpText('after', ADDRESSES)
    .action(async (where, { exec, ...options }: ServeOptions & { exec?: string }) => {
      if (exec === undefined) process.exitCode = await listenAndConverse(where, listenOptions(options))
      else process.exitCode = await listenAndExec(where, exec, options)
    })
  addServerOptions(listening)
  return program
}

function addServerOptions(command: Command): void {
  command
    .option('--max-connections <count>', 'clients to serve at once; the others wait in the kernel', parseCount)
    .option('--backlog <count>', 'clients that the kernel lets wait (default: 511)', parseCount)
    .option('--drop', 'at the limit, close further clients at once instead of letting them wait')
    .option('--idle-timeout <duration>', 'cut off a client when no byte went either way for so long', parseDuration)
    .addOption(
      new Option('--grace <duration>', 'for open connections to finish after a first signal')
        .default(30_000, '30s')
        .argParser(parseDuration)
    )
    .addOption(new Option('--log <format>', 'a line per connection on standard output').choices(LOG_FORMATS))
}

// One client needs no gate: what would be without effect is refused, so that nobody relies on it.
function listenOptions({ idleTimeout, ...options }: ServeOptions): { idleTimeout?: number } {
  for (const [name, flag] of Object.entries({ maxConnections: '--max-connections', backlog: '--backlog', drop: '--drop', log: '--log' })) {
    if (options[name as keyof typeof options] !== undefined) throw new UsageError(`${flag} is for listen --exec`)
  }
  return idleTimeout === undefined ? {} : { idleTimeout }
}
