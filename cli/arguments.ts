// What a command line says, read by the table of a command's options, and what is wrong with it.

import { parseArgs } from 'node:util'
import { UsageError } from './failure.ts'

/** An option, as one entry of a table. Its name there, `maxConnections`, is `--max-connections` on the command line. */
export interface Option<T> {
  /** What it does: a line of the help. */
  readonly about: string
  /** What stands for its value in the help; in brackets if it may be left out, and is then written `--name=value`. A switch has none. */
  readonly value?: string
  /**
   * What the text of its value means, '' if that was left out; gets what came of the same option before, where it may be given again.
   *
   * @throws {UsageError} What the value must be instead, to be read behind the option's name.
   */
  parse?(text: string, before: T | undefined): T
  /** What holds where it is not given, as it could be written. */
  readonly default?: string
  /** What holds where it is not given, if that cannot be written. */
  readonly otherwise?: string
  /** Whether it may be given again. */
  readonly isRepeatable?: true
  /** The option without which it would have no effect. */
  readonly needs?: string
  /** A letter for it. */
  readonly short?: string
}

export type Options = Readonly<Record<string, Option<unknown>>>
/** What the options of a command line mean: always there if they have a default. */
export type Values<O extends Options> = {
  readonly [Name in keyof O as O[Name] extends { default: string } ? Name : never]: ValueOf<O[Name]>
} & {
  readonly [Name in keyof O as O[Name] extends { default: string } ? never : Name]?: ValueOf<O[Name]>
}
type ValueOf<O> = O extends Option<infer T> ? T : never

/** Entry of a table for an option that is there or not. */
export function flag(about: string, more: Partial<Option<true>> = {}): Option<true> {
  return { about, ...more }
}

/** Entry of a table for an option with a value. */
export function option<T, M extends Partial<Option<T>> = object>(
  value: string,
  about: string,
  parse: (text: string, before: T | undefined) => T,
  more?: M
): Option<T> & M {
  return { about, value, parse, ...more } as Option<T> & M
}

/** A command, as the help describes it. */
export interface Command {
  readonly name: string
  /** What it does: a line of the help. */
  readonly about: string
  /** What it is given besides options; the last may be given again if it ends with `...`. */
  readonly operands: readonly string[]
  readonly options: Options
  /** What is said behind the options. */
  readonly notes?: string
  /** Lines that work, each with what it is good for. */
  readonly examples: readonly (readonly [line: string, purpose: string])[]
}

/** What was given to a command. */
export interface Given {
  readonly operands: readonly string[]
  /** By the names of the table; defaults included. */
  readonly values: Readonly<Record<string, unknown>>
  readonly wantsHelp: boolean
}

/**
 * Reads the arguments of a command.
 *
 * @throws {UsageError} Naming the option or the operand, and what is wrong with it.
 */
export function readArguments(command: Command, args: readonly string[]): Given {
  const byFlag = new Map(Object.entries(command.options).map(([name, entry]) => [flagOf(name).slice(2), { name, entry }]))
  const operands: string[] = []
  const values: Record<string, unknown> = {}
  for (const token of tokensOf(args, command.options)) {
    if (token.kind === 'positional') operands.push(token.value)
    if (token.kind !== 'option') continue
    if (token.name === 'help') return { operands: [], values: {}, wantsHelp: true }
    const { name, entry } = byFlag.get(token.name) ?? unknownOption(command, token.rawName, [...byFlag.keys()])
    if (Object.hasOwn(values, name) && entry.isRepeatable !== true) throw new UsageError(`${token.rawName} was given twice`)
    values[name] = meaningOf(token.rawName, entry, token.value, values[name])
  }
  for (const [name, { needs }] of Object.entries(command.options)) {
    if (needs === undefined || !Object.hasOwn(values, name) || Object.hasOwn(values, needs)) continue
    // What would be without effect is refused, so that nobody relies on it.
    throw new UsageError(`${flagOf(name)} has no effect without ${flagOf(needs)}`)
  }
  checkOperands(command, operands)
  for (const [name, entry] of Object.entries(command.options)) {
    if (entry.default !== undefined && !Object.hasOwn(values, name)) values[name] = entry.parse?.(entry.default, undefined)
  }
  return { operands, values, wantsHelp: false }
}

/** Parses `text`, and puts `name` before what is wrong with it. */
export function parseAs<T>(name: string, text: string, parse: (text: string) => T): T {
  try {
    return parse(text)
  } catch (error) {
    if (error instanceof UsageError) throw new UsageError(`${name} ${error.message}`)
    throw error
  }
}

/** How an option is written: `--max-connections`. */
export function flagOf(name: string): string {
  return `--${name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`
}

/** How a command is called. */
export function usageOf({ name, operands }: Command): string {
  return ['it-tcp', name, ...operands.map(placeOf), '[options]'].join(' ')
}

/** What is meant by `text`, if it is one of `words` with a slip in it: ` (did you mean this?)`, or nothing. */
export function suggestion(text: string, words: readonly string[]): string {
  const [best] = words.map((word) => ({ word, slips: slipsBetween(text, word) })).sort((one, other) => one.slips - other.slips)
  return best !== undefined && best.slips <= Math.max(1, best.word.length / 3) ? ` (did you mean ${best.word}?)` : ''
}

function tokensOf(args: readonly string[], options: Options) {
  const config: Record<string, { type: 'string' | 'boolean'; short?: string }> = { help: { type: 'boolean', short: 'h' } }
  for (const [name, { value, short }] of Object.entries(options)) {
    const type = value === undefined || value.startsWith('[') ? 'boolean' : 'string'
    config[flagOf(name).slice(2)] = { type, ...(short !== undefined && { short }) }
  }
  // Not strict: what is wrong is told here, in our words.
  return parseArgs({ args: [...args], options: config, strict: false, allowPositionals: true, tokens: true }).tokens
}

function meaningOf(flag: string, { value: place, parse }: Option<unknown>, text: string | undefined, before: unknown): unknown {
  if (place === undefined) {
    if (text !== undefined) throw new UsageError(`${flag} takes no value: received '${text}'`)
    return true
  }
  if (text === undefined && !place.startsWith('[')) throw new UsageError(`${flag} needs a value: ${flag} ${place}`)
  return parseAs(flag, text ?? '', (value) => parse?.(value, before))
}

function unknownOption({ name }: Command, flag: string, flags: readonly string[]): never {
  const hint = suggestion(
    flag,
    [...flags, 'help'].map((other) => `--${other}`)
  )
  throw new UsageError(`unknown option '${flag}'${hint === '' ? `: 'it-tcp ${name} --help' lists them` : hint}`)
}

function checkOperands(command: Command, given: readonly string[]): void {
  const { operands } = command
  const missing = operands[given.length]
  if (missing !== undefined) throw new UsageError(`missing ${placeOf(missing)}: ${usageOf(command)}`)
  if (given.length > operands.length && operands.at(-1)?.endsWith('...') !== true) {
    throw new UsageError(`unexpected argument '${given[operands.length]}': ${usageOf(command)}`)
  }
}

function placeOf(operand: string): string {
  return operand.endsWith('...') ? `<${operand.slice(0, -3)}>...` : `<${operand}>`
}

/** How many letters have to be added, left out or replaced to make one word of the other. */
function slipsBetween(one: string, other: string): number {
  let row = Array.from({ length: other.length + 1 }, (_, index) => index)
  for (const [index, letter] of [...one].entries()) {
    const next = [index + 1]
    for (let column = 1; column <= other.length; column++) {
      const replaced = (row[column - 1] as number) + (letter === other[column - 1] ? 0 : 1)
      next.push(Math.min(replaced, (row[column] as number) + 1, (next[column - 1] as number) + 1))
    }
    row = next
  }
  return row[other.length] as number
}
