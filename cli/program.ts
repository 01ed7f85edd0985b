// The commands, as the command line has them.

import { readFileSync } from 'node:fs'
import { type ListenPlace, parseConnectAddress, parseListenAddress, type Target, withMode, withSource } from './address.ts'
import { type AdmissionOptions, checkHasAddresses } from './admission.ts'
import { type Command, type Options, parseAs, readArguments, suggestion, type Values } from './arguments.ts'
import { connectAndConverse, listenAndConverse } from './converse.ts'
import { listenAndExec } from './exec.ts'
import { EXIT, UsageError } from './failure.ts'
import { forward } from './forward.ts'
import { commandHelp, programHelp } from './help.ts'
import { leaveInitToShell } from './init.ts'
import { CONNECT_OPTIONS, FORWARD_OPTIONS, LISTEN_OPTIONS } from './options.ts'
import { Report } from './report.ts'

interface RunnableCommand extends Command {
  /** Does it. Gives the exit code. */
  run(operands: readonly string[], values: Readonly<Record<string, unknown>>): Promise<number>
}

const COMMANDS: readonly RunnableCommand[] = [
  command({
    name: 'forward',
    about:
      'Forward every client to a target, over TCP or Unix sockets on either side. If a target cannot be reached, the next one is tried.',
    operands: ['listen', 'target...'],
    options: FORWARD_OPTIONS,
    examples: [
      ['it-tcp forward 8080 db.internal:5432 --max-connections 20', 'at most 20 clients at once, the others wait'],
      ['it-tcp forward /run/app.sock 10.0.0.7:80 10.0.0.8:80', 'the second target is for when the first cannot be reached'],
      ['it-tcp forward 127.0.0.1:6379 /run/redis.sock --log json >log.jsonl', 'a Unix socket over TCP, with a log']
    ],
    async run([listen = '', ...targets], { mode, source, ...options }) {
      const from = placeOf('<listen>', listen, mode, options)
      return await forward(
        from,
        targets.map((target) => targetOf('<target>', target, source)),
        options
      )
    }
  }),
  command({
    name: 'connect',
    about: 'Connect standard input and output to an address. The end of the input becomes a half-close.',
    operands: ['address'],
    options: CONNECT_OPTIONS,
    examples: [
      ["printf 'GET / HTTP/1.0\\r\\n\\r\\n' | it-tcp connect example.com:80", 'send a request and print the answer'],
      ['it-tcp connect /run/app.sock <request >answer', 'the same with files, over a Unix socket'],
      ['it-tcp connect localhost:25 --timeout 2s --verbose', 'type by hand, and see what happens']
    ],
    async run([address = ''], { source, ...options }) {
      return await connectAndConverse(targetOf('<address>', address, source), options)
    }
  }),
  command({
    name: 'listen',
    about: 'Serve one client on standard input and output, or with --exec any number, each with its own process.',
    operands: ['address'],
    options: LISTEN_OPTIONS,
    examples: [
      ['it-tcp listen 9000 >received', 'save what one client sends'],
      ["it-tcp listen 7000 --exec 'tr a-z A-Z' --max-connections 10", 'turn a filter into a service'],
      ['it-tcp listen /run/date.sock --mode 660 --exec date', 'only for members of a group']
    ],
    async run([address = ''], { mode, exec, ...options }) {
      const where = placeOf('<address>', address, mode, options)
      if (exec === undefined) return await listenAndConverse(where, options)
      leaveInitToShell(where.target.kind === 'descriptor', new Report())
      return await listenAndExec(where, exec, options)
    }
  })
]

/**
 * Runs the program. Gives the exit code.
 *
 * @throws {UsageError} If the arguments are wrong.
 * @throws What went wrong.
 */
export async function runProgram([name, ...args]: readonly string[]): Promise<number> {
  const { version, description } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    version: string
    description: string
  }
  if (name === undefined) {
    process.stderr.write(programHelp(description, COMMANDS))
    return EXIT.usage
  }
  if (name === '--version' || name === '-V') return print(`${version}\n`)
  if (name === 'help' && args.length > 0) return await runProgram([...args, '--help'])
  if (name === '--help' || name === '-h' || name === 'help') return print(programHelp(description, COMMANDS))
  const command = COMMANDS.find((other) => other.name === name)
  if (command === undefined) throw unknownCommand(name)
  const { operands, values, wantsHelp } = readArguments(command, args)
  return wantsHelp ? print(commandHelp(command)) : await command.run(operands, values)
}

/** A command whose `run` is given what its options mean. */
function command<O extends Options>(
  init: Omit<Command, 'options'> & { readonly options: O; run(operands: readonly string[], values: Values<O>): Promise<number> }
): RunnableCommand {
  // The reader has made the values by the very table.
  return init as unknown as RunnableCommand
}

function print(text: string): number {
  process.stdout.write(text)
  return EXIT.ok
}

function unknownCommand(name: string): UsageError {
  const names = COMMANDS.map((command) => command.name)
  const what = name.startsWith('-') ? 'option' : 'command'
  const hint = suggestion(name, names)
  return new UsageError(
    `unknown ${what} '${name}'${hint === '' ? `: there are ${names.slice(0, -1).join(', ')} and ${names.at(-1)}` : hint}`
  )
}

function placeOf(name: string, text: string, mode: number | undefined, options: AdmissionOptions): ListenPlace {
  const where = parseAs(name, text, parseListenAddress)
  checkHasAddresses(where.target.kind === 'unix', options)
  return mode === undefined ? where : withMode(where, mode)
}

function targetOf(name: string, text: string, source: string | undefined): Target {
  const where = parseAs(name, text, parseConnectAddress)
  return source === undefined ? where : withSource(where, source)
}
