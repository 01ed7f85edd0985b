// Reading in every way there is, each result compared with what was sent.

import { createHash } from 'node:crypto'
import { expect } from 'chai'
import { DelimiterNotFoundError, LimitExceededError, type Reader, UnexpectedEndError } from '../../src/index.ts'
import type { Random } from './random.ts'
import { rejection } from './rejection.ts'
import { turns } from './until.ts'

/** Reads some, or all, and tells whether there may be more. */
export type Way = (reading: Reading) => Promise<boolean>

/** What has been read of `model` so far. */
export class Reading {
  readonly reader: Reader
  readonly random: Random
  readonly model: Buffer
  position = 0
  readonly #hash = createHash('sha256')

  constructor(reader: Reader, model: Uint8Array, random: Random) {
    this.reader = reader
    this.random = random
    this.model = Buffer.from(model.buffer, model.byteOffset, model.byteLength)
  }

  /** What is left to come. */
  get left(): Buffer {
    return this.model.subarray(this.position)
  }

  get digest(): string {
    return this.#hash.copy().digest('hex')
  }

  took(chunk: Uint8Array | string): void {
    const piece = Buffer.from(chunk as string)
    if (!piece.equals(this.left.subarray(0, piece.byteLength))) expect.fail(`wrong bytes at ${this.position}`)
    this.#hash.update(piece)
    this.position += piece.byteLength
  }

  tookLine(line: string): void {
    this.took(line)
    // What a line is given without.
    const end = this.left[0] === 0x0d ? '\r\n' : this.left.byteLength > 0 ? '\n' : ''
    this.took(end)
  }
}

/** The ways to read, each of which gets to the end when it is repeated. */
export const WAYS: Readonly<Record<string, Way>> = {
  async 'read()'(reading) {
    const chunk = await reading.reader.read()
    if (chunk !== null) reading.took(chunk)
    return chunk !== null
  },
  async 'readExactly()'(reading) {
    const length = 1 + reading.random(2000)
    try {
      const chunk = await reading.reader.readExactly(length)
      if (chunk === null) return false
      expect(chunk.byteLength).to.equal(length)
      reading.took(chunk)
    } catch (error) {
      // The end came before so many bytes, and left them readable.
      expect(error).to.be.instanceOf(UnexpectedEndError)
      expect(reading.reader.bytesAvailable).to.be.within(1, length - 1)
      reading.took((await reading.reader.readExactly(reading.reader.bytesAvailable)) as Uint8Array)
    }
    return true
  },
  async 'readUntil()'(reading) {
    const chunk = await reading.reader.readUntil('ab\n')
    if (chunk === null) return false
    const end = reading.left.indexOf('ab\n')
    expect(chunk.byteLength).to.equal(end === -1 ? reading.left.byteLength : end + 3)
    reading.took(chunk)
    return true
  },
  async 'peek(), then readExactly()'(reading) {
    const length = 1 + reading.random(2000)
    const copy = await reading.reader.peek(length)
    if (copy === null) return false
    expect(copy.byteLength).to.equal(Math.min(length, reading.left.byteLength))
    if (!reading.left.subarray(0, length).equals(copy)) expect.fail(`wrong bytes peeked at ${reading.position}`)
    reading.took((await reading.reader.readExactly(1 + reading.random(copy.byteLength))) as Uint8Array)
    return true
  },
  async 'readLine()'(reading) {
    const line = await reading.reader.readLine()
    if (line !== null) reading.tookLine(line)
    return line !== null
  },
  async 'lines(), left after some'(reading) {
    let count = reading.random(5)
    for await (const line of reading.reader.lines()) {
      reading.tookLine(line)
      if (count-- === 0) return true
    }
    return false
  },
  async 'lineBatches(), left after some'(reading) {
    let count = reading.random(3)
    for await (const lines of reading.reader.lineBatches()) {
      expect(lines).to.not.be.empty
      for (const line of lines) reading.tookLine(line)
      if (count-- === 0) return true
    }
    return false
  },
  async 'readAll()'(reading) {
    reading.took(await reading.reader.readAll({ maxLength: Math.max(1, reading.left.byteLength) }))
    return false
  },
  async 'readAll() beyond its limit, then read()'(reading) {
    const maxLength = 1 + reading.random(1000)
    if (reading.left.byteLength > maxLength) {
      expect(await rejection(reading.reader.readAll({ maxLength }))).to.be.instanceOf(LimitExceededError)
    }
    const chunk = await reading.reader.read()
    if (chunk !== null) reading.took(chunk)
    return chunk !== null
  },
  async 'readInto()'(reading) {
    const buffer = new Uint8Array(1 + reading.random(3000))
    const length = await reading.reader.readInto(buffer)
    if (length !== null) reading.took(buffer.subarray(0, length))
    return length !== null
  },
  async 'a loop, left after some'(reading) {
    let count = reading.random(3)
    for await (const chunk of reading.reader) {
      reading.took(chunk)
      if (count-- === 0) return true
    }
    return false
  },
  async 'a read that is aborted, then read()'(reading) {
    const controller = new AbortController()
    const pending = reading.reader.readExactly(100_000_000, { signal: controller.signal }).catch((error: unknown) => error)
    await turns(reading.random(2))
    controller.abort()
    const result = await pending
    // The end may have come before: null without a byte in front of it, otherwise an error.
    if (result !== null && !(result instanceof UnexpectedEndError)) expect(result).to.equal(controller.signal.reason)
    const chunk = await reading.reader.read()
    if (chunk !== null) reading.took(chunk)
    return chunk !== null
  },
  async 'a delimiter that is too far away, then read()'(reading) {
    const maxLength = 1 + reading.random(1000)
    if (reading.left.byteLength > maxLength) {
      const error = await rejection(reading.reader.readUntil('\0', { maxLength }))
      expect(error).to.be.instanceOf(DelimiterNotFoundError)
    }
    const chunk = await reading.reader.read()
    if (chunk !== null) reading.took(chunk)
    return chunk !== null
  },
  async 'a loop that is left while it waits, then read()'(reading) {
    const hasWaited = reading.reader.bytesAvailable === 0
    const iterator = reading.reader[Symbol.asyncIterator]()
    const pending = iterator.next()
    void iterator.return?.()
    const result = await pending
    if (hasWaited) expect(result.done).to.equal(true)
    if (result.done !== true) reading.took(result.value)
    const chunk = await reading.reader.read()
    if (chunk !== null) reading.took(chunk)
    return chunk !== null
  }
}

/** All of them, for taking turns: without the one that would be the last turn. */
export const MIXED_WAYS: readonly Way[] = Object.entries(WAYS).flatMap(([name, way]) => (name === 'readAll()' ? [] : [way]))

/** Reads to the end in ways that are chosen at random from `ways`, and gives the digest of everything. */
export async function readBy(ways: readonly Way[], reading: Reading): Promise<string> {
  while (await (ways[reading.random(ways.length)] as Way)(reading));
  expect(reading.position, 'bytes read').to.equal(reading.model.byteLength)
  return reading.digest
}

export function sha256(data: Uint8Array): string {
  return createHash('sha256').update(data).digest('hex')
}
