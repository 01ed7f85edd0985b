import { expect } from 'chai'
import fc from 'fast-check'
import { formatProxyHeader, ProxyHeaderError, type ProxyHeaderInit, type SocketAddress } from '../../src/index.ts'
import type { ProxiedHeaderInit } from '../../src/proxy/header.ts'
import { DEFAULT_MAX_LENGTH, parseProxyHeader } from '../../src/proxy/parse-header.ts'
import { type HeaderReader, readHeader } from '../../src/proxy/read-header.ts'
import { ascii, SIGNATURE, slowCrc32c } from '../helpers/proxy-bytes.ts'

/** A longer run takes `IT_TCP_FUZZ_RUNS=1000000`. A failure tells its seed. */
const RUNS = Number(process.env.IT_TCP_FUZZ_RUNS ?? 2_000)
const LONGEST_LINE = 107
const PREAMBLE = 16

const ports = fc.integer({ min: 0, max: 65_535 })
const ipv4 = fc.record({ family: fc.constant('IPv4' as const), address: fc.ipV4(), port: ports })
const ipv6 = fc.record({ family: fc.constant('IPv6' as const), address: fc.ipV6(), port: ports })
const inet: fc.Arbitrary<SocketAddress> = fc.oneof(ipv4, ipv6)
const unix: fc.Arbitrary<SocketAddress> = fc
  .string({ unit: 'grapheme', maxLength: 110 })
  .filter((path) => Buffer.byteLength(path) <= 108 && (path.startsWith('\0') ? !path.endsWith('\0') : !path.includes('\0')))
  .map((path) => ({ family: 'unix', path }))
const known = fc.oneof(
  fc.tuple(
    fc.constant(0x02),
    fc.string({ unit: 'grapheme', maxLength: 40 }).map((text) => new Uint8Array(Buffer.from(text)))
  ),
  fc.tuple(fc.constantFrom(0x03), fc.uint8Array({ minLength: 4, maxLength: 4 })),
  fc.tuple(fc.constantFrom(0x05), fc.uint8Array({ maxLength: 128 }))
)
const any = fc.tuple(
  fc.integer({ min: 0, max: 255 }).filter((type) => ![0x02, 0x03, 0x05].includes(type)),
  fc.uint8Array({ maxLength: 300 })
)
const tlvs = fc.array(fc.oneof(any, known), { maxLength: 8 })

const version1: fc.Arbitrary<ProxyHeaderInit> = fc.oneof(
  fc.record({ source: inet, destination: inet, version: fc.constant(1 as const) }),
  fc.constant({ source: null, destination: null, version: 1 as const })
)
const version2: fc.Arbitrary<ProxyHeaderInit> = fc.oneof(
  fc.record({ source: inet, destination: inet, tlvs, crc32c: fc.boolean() }),
  fc.record({ source: unix, destination: unix, tlvs, crc32c: fc.boolean() }),
  fc.record({ source: fc.constant(null), destination: fc.constant(null), tlvs, crc32c: fc.boolean() }),
  fc.constant({ command: 'local' as const })
)
const headers = fc.oneof(version1, version2)
/** Sizes of pieces, most of them small. */
const cuts = fc.infiniteStream(fc.oneof(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 500 })))

/** Bytes of which some are nearly a header. */
const hostile: fc.Arbitrary<Uint8Array> = fc.oneof(
  fc.uint8Array({ maxLength: 200 }),
  fc.string({ unit: 'binary-ascii', maxLength: 120 }).map((text) => ascii(`PROXY ${text}`)),
  fc
    .tuple(
      fc.constantFrom('TCP4', 'TCP6', 'UNKNOWN'),
      fc.array(fc.oneof(fc.ipV4(), fc.ipV6(), fc.nat(70_000).map(String), fc.constantFrom('', '01', '\n', '\r')), { maxLength: 6 }),
      fc.constantFrom('\r\n', '\n', '\r', '', ' \r\n')
    )
    .map(([protocol, words, end]) => ascii(['PROXY', protocol, ...words].join(' ') + end)),
  fc
    .tuple(fc.constantFrom(0x20, 0x21, 0x22, 0x11), fc.integer({ min: 0, max: 255 }), fc.nat(65_535), fc.uint8Array({ maxLength: 400 }))
    .map(([command, family, length, body]) => new Uint8Array([...SIGNATURE, command, family, length >> 8, length & 0xff, ...body])),
  // As valid as can be, but for some bytes of them.
  fc
    .tuple(headers, fc.array(fc.tuple(fc.nat(600), fc.integer({ min: 0, max: 255 })), { maxLength: 3 }), fc.uint8Array({ maxLength: 20 }))
    .map(([header, changes, rest]) => {
      const bytes = new Uint8Array([...formatProxyHeader(header), ...rest])
      for (const [at, byte] of changes) bytes[at % bytes.byteLength] = byte
      return bytes
    }),
  // A body of values, where most lengths fit.
  fc
    .tuple(fc.constantFrom(0x00, 0x11, 0x21, 0x31), fc.array(fc.tuple(fc.nat(8), fc.nat(20), fc.uint8Array({ maxLength: 20 }))), fc.nat(3))
    .map(([family, values, less]) => {
      const addresses = new Uint8Array(({ 0: 0, 17: 12, 33: 36, 49: 216 } as Record<number, number>)[family] as number)
      const body = [...addresses, ...values.flatMap(([type, off, value]) => [type, 0, off < 18 ? value.byteLength : off, ...value])]
      const length = Math.max(0, body.length - less)
      return new Uint8Array([...SIGNATURE, 0x21, family, length >> 8, length & 0xff, ...body])
    })
)

describe(`PROXY headers drawn by chance, ${RUNS} of each kind`, function () {
  this.timeout(Math.max(20_000, RUNS * 10))

  it('every valid header survives the round trip, in any cutting into pieces', () => {
    fc.assert(
      fc.property(headers, cuts, fc.uint8Array({ maxLength: 40 }), (options, sizes, rest) => {
        const bytes = formatProxyHeader(options)
        for (const [piece] of growing(bytes, sizes)) {
          const parsed = parseProxyHeader(piece, Number.POSITIVE_INFINITY)
          if (piece.byteLength === bytes.byteLength) break
          expect(parsed.header).to.equal(undefined)
          // What is asked for is there, so nobody waits for ever.
          expect((parsed as { need: number }).need)
            .to.be.greaterThan(piece.byteLength)
            .and.at.most(bytes.byteLength)
        }
        const parsed = parseProxyHeader(new Uint8Array([...bytes, ...rest]), Number.POSITIVE_INFINITY)
        expect(parsed).to.have.property('length', bytes.byteLength)
        expectSame(parsed.header, options, bytes)
      }),
      { numRuns: RUNS }
    )
  })

  it('every valid header is read off a stream that comes in pieces, and what is behind it is left', async () => {
    await fc.assert(
      fc.asyncProperty(headers, cuts, fc.uint8Array({ maxLength: 40 }), async (options, sizes, rest) => {
        const bytes = formatProxyHeader(options)
        const reader = new Pieces(new Uint8Array([...bytes, ...rest]), sizes)
        const header = await readHeader(reader, { maxLength: Number.POSITIVE_INFINITY, timeout: Number.POSITIVE_INFINITY })
        expectSame(header, options, bytes)
        expect(reader.taken).to.equal(bytes.byteLength)
        // Nothing behind it was waited for.
        expect(reader.longestWait).to.be.at.most(bytes.byteLength)
      }),
      { numRuns: RUNS }
    )
  })

  it('no byte string makes the parser throw anything but its error, or ask for more than its bound', () => {
    const seen = { header: 0, incomplete: 0, refused: 0 }
    fc.assert(
      fc.property(hostile, fc.integer({ min: 1, max: 8000 }), (bytes, maxLength) => {
        const before = Buffer.from(bytes)
        const result = outcome(bytes, maxLength)
        expect(Buffer.from(bytes).equals(before)).to.equal(true)
        seen[result.kind]++
        if (result.kind === 'header') expect(result.length).to.be.at.most(Math.min(bytes.byteLength, bound(bytes, maxLength)))
        if (result.kind === 'incomplete') {
          expect(result.length).to.be.greaterThan(bytes.byteLength).and.at.most(bound(bytes, maxLength))
        }
      }),
      { numRuns: RUNS * 5 }
    )
    // What is drawn is of every kind.
    for (const count of Object.values(seen)) expect(count).to.be.greaterThan(RUNS / 10)
  })

  it('what was refused stays refused, and what was complete stays what it is, whatever comes behind', () => {
    fc.assert(
      fc.property(hostile, fc.uint8Array({ maxLength: 40 }), fc.nat(), (bytes, rest, at) => {
        const part = bytes.subarray(0, bytes.byteLength === 0 ? 0 : at % bytes.byteLength)
        const [first, second] = [outcome(part, DEFAULT_MAX_LENGTH), outcome(bytes, DEFAULT_MAX_LENGTH)]
        if (first.kind === 'refused') expect(second.kind).to.equal('refused')
        if (first.kind === 'header') expect(second).to.deep.equal(first)
        if (first.kind === 'incomplete' && bytes.byteLength < first.length) expect(second.kind).to.not.equal('header')
        if (second.kind === 'header') expect(outcome(new Uint8Array([...bytes, ...rest]), DEFAULT_MAX_LENGTH)).to.deep.equal(second)
      }),
      { numRuns: RUNS * 2 }
    )
  })

  it('no stream makes readProxyHeader reject with anything but its error, wait beyond its bound, or take a byte beyond the header', async () => {
    await fc.assert(
      fc.asyncProperty(hostile, cuts, async (bytes, sizes) => {
        const reader = new Pieces(bytes, sizes)
        const expected = outcome(bytes, DEFAULT_MAX_LENGTH)
        try {
          await readHeader(reader, { timeout: Number.POSITIVE_INFINITY })
          expect([expected.kind, reader.taken]).to.deep.equal(['header', expected.length])
        } catch (error) {
          if (!(error instanceof ProxyHeaderError)) throw error
          expect(expected.kind).to.not.equal('header')
          expect(reader.taken).to.equal(0)
        }
        expect(reader.longestWait).to.be.at.most(bound(bytes, DEFAULT_MAX_LENGTH))
      }),
      { numRuns: RUNS }
    )
  })
})

/** What the parser makes of bytes; the length of the header, or what is needed. */
function outcome(bytes: Uint8Array, maxLength: number): { kind: 'header' | 'incomplete' | 'refused'; length: number; header?: unknown } {
  try {
    const parsed = parseProxyHeader(bytes, maxLength)
    if (parsed.header === undefined) return { kind: 'incomplete', length: parsed.need }
    return { kind: 'header', length: parsed.length, header: parsed.header }
  } catch (error) {
    if (!(error instanceof ProxyHeaderError)) throw error
    return { kind: 'refused', length: 0 }
  }
}

function bound(bytes: Uint8Array, maxLength: number): number {
  return bytes[0] === SIGNATURE[0] ? PREAMBLE + maxLength : LONGEST_LINE
}

function* growing(bytes: Uint8Array, sizes: Iterable<number>): Generator<[piece: Uint8Array]> {
  let length = 0
  for (const size of sizes) {
    yield [bytes.subarray(0, length)]
    if (length === bytes.byteLength) return
    length = Math.min(bytes.byteLength, length + size)
  }
}

function expectSame(header: unknown, options: ProxyHeaderInit, bytes: Uint8Array): void {
  if (options.command === 'local') {
    expect(header).to.include({ version: 2, command: 'local', source: null, destination: null })
    return
  }
  const { source, destination, version = 2, tlvs: given = [], crc32c = false } = options as ProxiedHeaderInit
  const values = new Map<number, Uint8Array>()
  for (const [type, value] of given) if (!values.has(type)) values.set(type, value)
  if (crc32c || values.has(0x03)) {
    // It is the last value, and of the header without itself.
    const blank = Uint8Array.from(bytes)
    blank.fill(0, -4)
    const checksum = Buffer.alloc(4)
    checksum.writeUInt32BE(slowCrc32c(blank))
    values.set(0x03, new Uint8Array(checksum))
  }
  const { tlvs: found, ...rest } = header as { tlvs: ReadonlyMap<number, Uint8Array> }
  expect(new Map([...found].sort(byType))).to.deep.equal(new Map([...values].sort(byType)))
  const text = (type: number, encoding: BufferEncoding): string | null => {
    const value = values.get(type)
    return value === undefined ? null : Buffer.from(value).toString(encoding)
  }
  expect(rest).to.deep.equal({
    version,
    command: 'proxy',
    source: canonical(source),
    destination: canonical(destination),
    authority: text(0x02, 'utf8'),
    alpn: text(0x01, 'latin1'),
    uniqueId: values.get(0x05) ?? null
  })
}

function byType([a]: readonly [number, unknown], [b]: readonly [number, unknown]): number {
  return a - b
}

/** As the other side may write it: IPv6 addresses have many texts, of which a URL has the one that RFC 5952 recommends. */
function canonical(address: SocketAddress | null): SocketAddress | null {
  if (address?.family !== 'IPv6') return address
  const text = new URL(`http://[${address.address}]`).hostname.slice(1, -1)
  const [, high, low] = /^::ffff:([0-9a-f]+):([0-9a-f]+)$/.exec(text) ?? []
  if (high === undefined || low === undefined) return { ...address, address: text }
  const numbers = [high, low].map((group) => Number.parseInt(group, 16)).flatMap((group) => [group >> 8, group & 0xff])
  return { family: 'IPv4', address: numbers.join('.'), port: address.port }
}

/** A stream whose bytes arrive in pieces, and then end. It gives them as a reader of ours does. */
class Pieces implements HeaderReader {
  taken = 0
  longestWait = 0
  readonly #bytes: Uint8Array
  readonly #sizes: Iterator<number>
  #arrived = 0

  constructor(bytes: Uint8Array, sizes: Iterable<number>) {
    this.#bytes = bytes
    this.#sizes = sizes[Symbol.iterator]()
  }

  get bytesAvailable(): number {
    return this.#arrived - this.taken
  }

  async peek(length: number): Promise<Uint8Array<ArrayBuffer> | null> {
    if (length > this.bytesAvailable) this.longestWait = Math.max(this.longestWait, length)
    while (this.bytesAvailable < length && this.#arrived < this.#bytes.byteLength) {
      this.#arrived = Math.min(this.#bytes.byteLength, this.#arrived + (this.#sizes.next().value as number))
    }
    return this.bytesAvailable === 0 ? null : new Uint8Array(this.#bytes.subarray(this.taken, Math.min(this.taken + length, this.#arrived)))
  }

  async readExactly(length: number): Promise<Uint8Array<ArrayBuffer> | null> {
    const bytes = await this.peek(length)
    expect(bytes).to.have.length(length)
    this.taken += length
    return bytes
  }
}
