// The help, made from the tables of commands and options.

import { type Command, flagOf, type Option, usageOf } from './arguments.ts'

const WIDTH = 80
/** Where descriptions begin. */
const COLUMN = 28

const ADDRESSES = `Addresses:
  8080, :8080       a port; to listen on all addresses, to connect to localhost
  host:8080         a host name or an IPv4 address, and a port
  [::1]:8080        an IPv6 address, and a port
  ./app.sock        a Unix socket: anything with a slash in it
  unix:app.sock     a Unix socket
  fd:3              a listening socket that the process has inherited
  inherited, inherited:web
                    one from systemd: the only one, or the one of that name

Durations have a unit: 500ms, 30s, 5m, 1h.
`

const EXIT_CODES = `Exit codes:
  0              everything ended in order, or a first signal has stopped
                 forward or listen --exec, even if clients were cut off
  1              it could not listen, connect, read its input, write its output
  2              the arguments are wrong
  3              the connection of connect or listen broke
  129, 130, 143  ended by SIGHUP, SIGINT or SIGTERM; forward and listen --exec
                 by a second signal
`

/** The help of the program. */
export function programHelp(description: string, commands: readonly Command[]): string {
  const list = commands.map((command) => entry(command.name, command.about)).join('')
  const usages = commands.map((command) => `  ${usageOf(command)}\n`).join('')
  return `${wrap(`${description}.`, 0)}
Usage:
${usages}
Commands:
${list}
Options:
${entry('-h, --help', 'this help; behind a command, its own')}${entry('-V, --version', 'the version')}
${ADDRESSES}
${EXIT_CODES}`
}

/** The help of a command. */
export function commandHelp(command: Command): string {
  const options = Object.entries(command.options).map(([name, option]) => entry(written(name, option), described(option)))
  const examples = command.examples.map(([line, purpose]) => `  # ${purpose}\n  ${line}\n`)
  const notes = command.notes === undefined ? '' : `\n${wrap(command.notes, 0)}`
  return `Usage: ${usageOf(command)}

${wrap(command.about, 0)}
Options:
${options.join('')}${entry('-h, --help', 'this help')}${notes}
Examples:
${examples.join('')}
${ADDRESSES}`
}

function written(name: string, { value, short }: Option<unknown>): string {
  const flag = short === undefined ? flagOf(name) : `-${short}, ${flagOf(name)}`
  if (value === undefined) return flag
  return value.startsWith('[') ? `${flag}[=${value.slice(1)}` : `${flag} ${value}`
}

function described(option: Option<unknown>): string {
  const { about, isRepeatable, default: value = option.otherwise, needs } = option
  const remarks: string[] = []
  if (isRepeatable === true) remarks.push('may be repeated')
  if (needs !== undefined) remarks.push(`with ${flagOf(needs)}`)
  if (value !== undefined) remarks.push(`default: ${value}`)
  return remarks.length === 0 ? about : `${about} (${remarks.join('; ')})`
}

function entry(name: string, about: string): string {
  const text = wrap(about, COLUMN)
  const head = `  ${name}`
  return head.length <= COLUMN - 2 ? head + text.slice(head.length) : `${head}\n${text}`
}

function wrap(text: string, indent: number): string {
  const lines: string[] = []
  let line = ''
  for (const word of text.split(' ')) {
    if (line !== '' && indent + line.length + 1 + word.length > WIDTH) {
      lines.push(line)
      line = ''
    }
    line += line === '' ? word : ` ${word}`
  }
  lines.push(line)
  return lines.map((part) => `${' '.repeat(indent)}${part}\n`).join('')
}
