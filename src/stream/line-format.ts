// What a line is: how it ends, and how its bytes are read as text.

import { CARRIAGE_RETURN, type ChunkQueue, LINE_FEED } from './chunk-queue.ts'

/** The lines of one protocol. */
export interface LineFormat {
  /** What is searched for. */
  readonly ending: Uint8Array
  /** The next line, if that can be had cheaply. */
  shiftLine(queue: ChunkQueue, maxLength: number): string | undefined
  /** As many of the next lines as can be had cheaply. */
  shiftLines(queue: ChunkQueue, maxLength: number): string[] | undefined
  /** The length of the line whose ending was found at `end`. */
  lengthOf(queue: ChunkQueue, end: number): number
  /** Whether no line that begins with what is there, which has no ending yet, could be within `maxLength`. */
  isTooLong(queue: ChunkQueue, available: number, maxLength: number): boolean
  decode(bytes: Uint8Array): string
}

const LF = new Uint8Array([LINE_FEED])
const CRLF = new Uint8Array([CARRIAGE_RETURN, LINE_FEED])

/** Lines that end with `\n` or `\r\n`, in UTF-8: what most protocols want, split many at a time. */
const anyUtf8: LineFormat = {
  ending: LF,
  shiftLine: (queue, maxLength) => queue.shiftLine(maxLength),
  shiftLines: (queue, maxLength) => queue.shiftLines(maxLength),
  lengthOf: lengthBeforeReturn,
  isTooLong,
  decode: decodeUtf8
}

const anyLatin1: LineFormat = { ...anyUtf8, shiftLine: none, shiftLines: none, decode: decodeLatin1 }

// A lone `\n` or `\r` is a character like any other.
const crlfUtf8: LineFormat = {
  ending: CRLF,
  shiftLine: none,
  shiftLines: none,
  lengthOf: (_queue, end) => end,
  isTooLong,
  decode: decodeUtf8
}

const crlfLatin1: LineFormat = { ...crlfUtf8, decode: decodeLatin1 }

/** The format that the options of `readLine`, `lines` and `lineBatches` ask for. */
export function lineFormat(ending: 'any' | 'crlf' = 'any', encoding: 'utf8' | 'latin1' = 'utf8'): LineFormat {
  if (ending === 'crlf') return encoding === 'latin1' ? crlfLatin1 : crlfUtf8
  return encoding === 'latin1' ? anyLatin1 : anyUtf8
}

function lengthBeforeReturn(queue: ChunkQueue, end: number): number {
  return end > 0 && queue.at(end - 1) === CARRIAGE_RETURN ? end - 1 : end
}

// One more may be there: a carriage return, with its line feed on the way.
function isTooLong(queue: ChunkQueue, available: number, maxLength: number): boolean {
  return available > maxLength + 1 || (available > maxLength && queue.at(maxLength) !== CARRIAGE_RETURN)
}

function none(): undefined {}

// Not of uint8arrays, which loads every base of multiformats for it: a third of what importing this package takes.
function decodeUtf8({ buffer, byteOffset, byteLength }: Uint8Array): string {
  return Buffer.from(buffer, byteOffset, byteLength).toString()
}

function decodeLatin1({ buffer, byteOffset, byteLength }: Uint8Array): string {
  return Buffer.from(buffer, byteOffset, byteLength).toString('latin1')
}
