// The ClientHello, read before OpenSSL sees it: which host a client asks for, and which protocols it names.

/** What a ClientHello says. */
export interface ClientHello {
  /** In lower case and without a trailing dot; undefined if the client names no host. */
  readonly serverName: string | undefined
  readonly alpn: readonly string[]
}

// Those of browsers have up to 2 KB. Longer ones are OpenSSL's, which knows its own limit.
const LONGEST_MESSAGE = 16_384
const LONGEST_RECORD = 16_384
const RECORD_HEADER = 5
const MESSAGE_HEADER = 4
const HANDSHAKE = 22
const CLIENT_HELLO = 1
const SERVER_NAME = 0
const HOST_NAME = 0
const ALPN = 16
const NOTHING = new Uint8Array(0)
// RFC 6066 has ASCII only; an underscore is in no host name of the RFCs and in many of the field.
const NAME = /^[a-z0-9_-]+(?:\.[a-z0-9_-]+)*$/
// RFC 6066 has no addresses: all labels of digits, or the last.
const ADDRESS = /(?:^|\.)\d+$/

/**
 * Takes the bytes of a client as they come. Each byte is looked at once, however they are cut into chunks and records. What it makes no sense of is OpenSSL's to
 * judge, which then sends the alert.
 */
export class ClientHelloParser {
  readonly #header = new Uint8Array(RECORD_HEADER)
  #headerLength = 0
  // Of the record that is being read.
  #recordLeft = 0
  #message = NOTHING
  #length = 0

  /** Gives `'more'` if more bytes are needed, the ClientHello once it is whole, and undefined if it is none. */
  push(chunk: Uint8Array): ClientHello | 'more' | undefined {
    // As nearly all come: at once, in one record.
    if (this.#headerLength + this.#length === 0 && isWhole(chunk)) return parse(chunk, RECORD_HEADER + MESSAGE_HEADER)
    for (let at = 0; at < chunk.byteLength; ) {
      if (this.#recordLeft === 0) {
        this.#header[this.#headerLength++] = chunk[at++] as number
        if (!this.#isHeader()) return undefined
        continue
      }
      const part = chunk.subarray(at, at + this.#recordLeft)
      at += part.byteLength
      this.#recordLeft -= part.byteLength
      if (this.#length + part.byteLength > LONGEST_MESSAGE) return undefined
      this.#append(part)
      if (this.#message[0] !== CLIENT_HELLO) return undefined
      if (this.#length < MESSAGE_HEADER) continue
      const whole = MESSAGE_HEADER + readUint(this.#message, 1, 3)
      if (whole > LONGEST_MESSAGE) return undefined
      if (this.#length >= whole) return parse(this.#message, MESSAGE_HEADER)
    }
    return 'more'
  }

  // Whether what there is of the header can be one of a record of the handshake.
  #isHeader(): boolean {
    const [type, major] = this.#header
    if (type !== HANDSHAKE || (this.#headerLength > 1 && major !== 3)) return false
    if (this.#headerLength < RECORD_HEADER) return true
    this.#headerLength = 0
    this.#recordLeft = readUint(this.#header, 3, 2)
    return this.#recordLeft > 0 && this.#recordLeft <= LONGEST_RECORD
  }

  #append(part: Uint8Array): void {
    const length = this.#length + part.byteLength
    if (length > this.#message.byteLength) {
      const larger = new Uint8Array(Math.max(length, 512, 2 * this.#message.byteLength))
      larger.set(this.#message.subarray(0, this.#length))
      this.#message = larger
    }
    this.#message.set(part, this.#length)
    this.#length = length
  }
}

// Whether a chunk begins with a record that begins with a whole ClientHello.
function isWhole(chunk: Uint8Array): boolean {
  const behindHeaders = RECORD_HEADER + MESSAGE_HEADER
  if (chunk.byteLength < behindHeaders || chunk[0] !== HANDSHAKE || chunk[1] !== 3 || chunk[RECORD_HEADER] !== CLIENT_HELLO) return false
  const record = readUint(chunk, 3, 2)
  const message = MESSAGE_HEADER + readUint(chunk, RECORD_HEADER + 1, 3)
  return record <= LONGEST_RECORD && message <= record && RECORD_HEADER + message <= chunk.byteLength
}

/** Goes through bytes from `at` to `end`; throws a RangeError where they end too early. */
class Cursor {
  readonly #bytes: Uint8Array
  readonly #end: number
  #at: number

  constructor(bytes: Uint8Array, at: number, end: number) {
    this.#bytes = bytes
    this.#at = at
    this.#end = end
  }

  get isAtEnd(): boolean {
    return this.#at === this.#end
  }

  /** Gives where it was. */
  skip(length: number): number {
    const at = this.#at
    if (at + length > this.#end) throw new RangeError('cut off')
    this.#at = at + length
    return at
  }

  uint(size: number): number {
    return readUint(this.#bytes, this.skip(size), size)
  }

  /** What comes behind its length, which has `size` bytes. */
  vector(size: number): Cursor {
    const length = this.uint(size)
    return new Cursor(this.#bytes, this.skip(length), this.#at)
  }

  text(): string {
    const { buffer, byteOffset } = this.#bytes
    return Buffer.from(buffer, byteOffset + this.#at, this.#end - this.#at).toString('latin1')
  }
}

// `bytes` has a whole message, the body of which begins at `at`.
function parse(bytes: Uint8Array, at: number): ClientHello | undefined {
  try {
    const hello = new Cursor(bytes, at, at + readUint(bytes, at - 3, 3))
    hello.skip(2 + 32) // version, random
    hello.skip(hello.uint(1)) // session
    hello.skip(hello.uint(2)) // cipher suites
    hello.skip(hello.uint(1)) // compression
    let serverName: string | undefined
    let alpn: string[] = []
    const extensions = hello.isAtEnd ? hello : hello.vector(2)
    while (!extensions.isAtEnd) {
      const type = extensions.uint(2)
      if (type === SERVER_NAME) serverName = readServerName(extensions.vector(2))
      else if (type === ALPN) alpn = readAlpn(extensions.vector(2))
      else extensions.skip(extensions.uint(2))
    }
    return { serverName, alpn }
  } catch {
    return undefined
  }
}

function readServerName(body: Cursor): string | undefined {
  const names = body.vector(2)
  while (!names.isAtEnd) {
    const type = names.uint(1)
    const name = names.vector(2).text()
    if (type === HOST_NAME) return hostName(name)
  }
  return undefined
}

/** A name as it is compared, in lower case and without a trailing dot; undefined for what names no host. */
export function hostName(asked: string | undefined): string | undefined {
  const name = asked?.toLowerCase().replace(/\.$/, '')
  return name !== undefined && NAME.test(name) && !ADDRESS.test(name) ? name : undefined
}

function readAlpn(body: Cursor): string[] {
  const names = body.vector(2)
  const found: string[] = []
  while (!names.isAtEnd) found.push(names.vector(1).text())
  return found
}

function readUint(bytes: Uint8Array, at: number, size: number): number {
  let value = 0
  for (let index = at; index < at + size; index++) value = value * 256 + (bytes[index] as number)
  return value
}
