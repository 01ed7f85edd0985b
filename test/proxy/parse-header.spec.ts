import { expect } from 'chai'
import { ProxyHeaderError } from '../../src/index.ts'
import type { ProxyHeader } from '../../src/proxy/header.ts'
import { parseProxyHeader } from '../../src/proxy/parse-header.ts'
import {
  ascii,
  DESTINATION_4,
  DESTINATION_6,
  ENDS_4,
  ENDS_6,
  LINE_4,
  LINE_6,
  LOCAL,
  PROXY,
  SIGNATURE,
  SOURCE_4,
  SOURCE_6,
  TCP4,
  TCP6,
  tlv,
  UNIX,
  UNSPEC,
  unixEnds,
  version2,
  withChecksum
} from '../helpers/proxy-bytes.ts'

const CHECKSUM = 0x03
const NONE = { tlvs: new Map(), authority: null, alpn: null, uniqueId: null }
const LONGEST_6 = 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff'

describe('parseProxyHeader', () => {
  describe('version 1', () => {
    for (const [line, source, destination] of [
      [LINE_4, SOURCE_4, DESTINATION_4],
      [LINE_6, SOURCE_6, DESTINATION_6],
      ['PROXY TCP4 255.255.255.255 0.0.0.0 65535 0\r\n', inet('255.255.255.255', 65_535), inet('0.0.0.0', 0)],
      [`PROXY TCP6 ${LONGEST_6} ${LONGEST_6} 65535 65535\r\n`, inet(LONGEST_6, 65_535), inet(LONGEST_6, 65_535)],
      ['PROXY TCP6 2001:DB8::A ::1 1 2\r\n', inet('2001:db8::a', 1), inet('::1', 2)],
      ['PROXY TCP6 :: 1::0000:0 1 2\r\n', inet('::', 1), inet('1::', 2)],
      ['PROXY TCP6 ::ffff:192.0.2.1 ::FFFF:c633:640b 56324 443\r\n', SOURCE_4, DESTINATION_4],
      ['PROXY UNKNOWN\r\n', null, null],
      ['PROXY UNKNOWN whatever  01 \0 it says\r\n', null, null],
      [`PROXY UNKNOWN ${LONGEST_6} ${LONGEST_6} 65535 65535\r\n`, null, null],
      [`PROXY UNKNOWN ${'x'.repeat(91)}\r\n`, null, null]
    ] as const) {
      it(`takes ${JSON.stringify(line)}`, () => {
        expect(header(ascii(line))).to.deep.equal({ version: 1, command: 'proxy', source, destination, ...NONE })
      })
    }

    describe('has the strict grammar, and refuses', () => {
      for (const [what, line, why] of [
        ['what only begins as a header', 'PROXYjunk', 'must start with one'],
        ['a word without the rest', 'PROXY\r\n', 'must start with one'],
        ['another case', 'proxy TCP4 192.0.2.1 198.51.100.11 56324 443\r\n', 'must start with one'],
        ['a space in front', ` ${LINE_4}`, 'must start with one'],
        ['a lone line feed', 'PROXY TCP4 192.0.2.1 198.51.100.11 56324 443\n', 'lone line feed'],
        ['a line feed within', 'PROXY UNKNOWN x\ny\r\n', 'lone line feed'],
        ['a lone carriage return', 'PROXY TCP4 192.0.2.1 198.51.100.11 56324 443\rx', 'lone carriage return'],
        ['two carriage returns', 'PROXY UNKNOWN\r\r\n', 'lone carriage return'],
        ['another protocol', 'PROXY UDP4 192.0.2.1 198.51.100.11 56324 443\r\n', 'TCP4, TCP6 or UNKNOWN'],
        ['a protocol in lower case', 'PROXY tcp4 192.0.2.1 198.51.100.11 56324 443\r\n', 'TCP4, TCP6 or UNKNOWN'],
        ['a protocol that goes on', 'PROXY UNKNOWNS\r\n', 'TCP4, TCP6 or UNKNOWN'],
        ['no addresses', 'PROXY TCP4\r\n', 'two addresses and two ports'],
        ['empty addresses', 'PROXY TCP4    \r\n', 'must be IPv4 addresses'],
        ['one port', 'PROXY TCP4 192.0.2.1 198.51.100.11 443\r\n', 'two addresses and two ports'],
        ['three ports', 'PROXY TCP4 192.0.2.1 198.51.100.11 1 2 3\r\n', 'two addresses and two ports'],
        ['a space at the end', 'PROXY TCP4 192.0.2.1 198.51.100.11 1 2 \r\n', 'two addresses and two ports'],
        ['two spaces', 'PROXY TCP4 192.0.2.1  198.51.100.11 1 2\r\n', 'two addresses and two ports'],
        ['a tab', 'PROXY TCP4 192.0.2.1\t198.51.100.11 1 2\r\n', 'two addresses and two ports'],
        ['an address of another family', 'PROXY TCP4 2001:db8::1 198.51.100.11 1 2\r\n', 'must be IPv4 addresses'],
        ['an IPv4 address as IPv6', 'PROXY TCP6 192.0.2.1 2001:db8::1 1 2\r\n', 'must be IPv6 addresses'],
        ['a zone', 'PROXY TCP6 fe80::1%eth0 fe80::2 1 2\r\n', 'must be IPv6 addresses'],
        ['two double colons', 'PROXY TCP6 1::2::3 ::1 1 2\r\n', 'must be IPv6 addresses'],
        ['three numbers', 'PROXY TCP4 192.0.2 198.51.100.11 1 2\r\n', 'must be IPv4 addresses'],
        ['a number above 255', 'PROXY TCP4 192.0.2.256 198.51.100.11 1 2\r\n', 'must be IPv4 addresses'],
        ['a leading zero in an address', 'PROXY TCP4 192.0.02.1 198.51.100.11 1 2\r\n', 'must be IPv4 addresses'],
        ['a host name', 'PROXY TCP4 localhost 198.51.100.11 1 2\r\n', 'must be IPv4 addresses'],
        ['a leading zero in a port', 'PROXY TCP4 192.0.2.1 198.51.100.11 056 2\r\n', 'without leading zeros'],
        ['a port above 65535', 'PROXY TCP4 192.0.2.1 198.51.100.11 65536 2\r\n', 'whole numbers from 0 to 65535'],
        ['a negative port', 'PROXY TCP4 192.0.2.1 198.51.100.11 1 -2\r\n', 'whole numbers from 0 to 65535'],
        ['a port in other digits', 'PROXY TCP4 192.0.2.1 198.51.100.11 1 0x2\r\n', 'whole numbers from 0 to 65535'],
        ['an empty port', 'PROXY TCP4 192.0.2.1 198.51.100.11  2\r\n', 'whole numbers from 0 to 65535'],
        ['108 bytes', `PROXY UNKNOWN ${'x'.repeat(92)}\r\n`, 'at most 107 bytes']
      ] as const) {
        it(`${what}: ${JSON.stringify(line)}`, () => {
          expectRefused(ascii(line), why)
        })
      }
    })

    it('is bounded by 107 bytes, whatever may be to come', () => {
      const endless = ascii(`PROXY UNKNOWN ${'x'.repeat(200)}`)
      for (let length = 15; length < 106; length++) {
        const parsed = parseProxyHeader(endless.subarray(0, length))
        expect(parsed).to.include({ header: undefined })
        expect((parsed as { need: number }).need).to.be.at.most(107)
      }
      expectRefused(endless.subarray(0, 106), 'at most 107 bytes')
      expectRefused(endless, 'at most 107 bytes')
    })
  })

  describe('version 2', () => {
    for (const [what, bytes, source, destination] of [
      ['IPv4 addresses', version2(PROXY, TCP4, ENDS_4), SOURCE_4, DESTINATION_4],
      ['IPv6 addresses', version2(PROXY, TCP6, ENDS_6), SOURCE_6, DESTINATION_6],
      [
        'IPv4 addresses that are mapped',
        version2(PROXY, TCP6, Buffer.from(`${'00'.repeat(10)}ffffc0000201${'00'.repeat(10)}ffffc633640b${'dc0401bb'}`, 'hex')),
        SOURCE_4,
        DESTINATION_4
      ],
      ['unix paths', version2(PROXY, UNIX, unixEnds('/run/client', '/run/server')), unix('/run/client'), unix('/run/server')],
      ['an abstract and an unnamed path', version2(PROXY, UNIX, unixEnds('\0a\0b', '')), unix('\0a\0b'), unix('')],
      [
        'paths of full length',
        version2(PROXY, UNIX, unixEnds('x'.repeat(108), 'ä'.repeat(54))),
        unix('x'.repeat(108)),
        unix('ä'.repeat(54))
      ],
      ['what stands behind the end of a path', version2(PROXY, UNIX, unixEnds('/a\0old', '/b\0\0c')), unix('/a'), unix('/b')]
    ] as const) {
      it(`takes ${what}`, () => {
        expect(header(bytes)).to.deep.equal({ version: 2, command: 'proxy', source, destination, ...NONE })
      })
    }

    it('takes UNSPEC as a client that is not known', () => {
      expect(header(version2(PROXY, UNSPEC))).to.deep.equal({ version: 2, command: 'proxy', source: null, destination: null, ...NONE })
      const { source, tlvs } = header(version2(PROXY, UNSPEC, tlv(0xea, 'x')))
      expect([source, [...tlvs.keys()]]).to.deep.equal([null, [0xea]])
    })

    for (const [what, family, body] of [
      ['nothing', UNSPEC, Buffer.alloc(0)],
      ['addresses', TCP4, ENDS_4],
      ['addresses that are too short', TCP4, Buffer.alloc(3)],
      ['a family that nobody knows', 0x13, ENDS_4],
      ['datagrams', 0x12, ENDS_4],
      ['what would be a malformed value', UNSPEC, Buffer.from([1, 0xff])]
    ] as const) {
      it(`takes LOCAL, and skips ${what} behind it`, () => {
        const bytes = version2(LOCAL, family, body)
        expect(header(bytes)).to.deep.equal({ version: 2, command: 'local', source: null, destination: null, ...NONE })
      })
    }

    describe('refuses', () => {
      for (const [what, bytes, why] of [
        ['version 1 in its binary form', version2(0x11, TCP4, ENDS_4), 'its version must be 2, not 1'],
        ['version 3', version2(0x31, TCP4, ENDS_4), 'its version must be 2, not 3'],
        ['a command that nobody knows', version2(0x22, TCP4, ENDS_4), 'its command must be LOCAL or PROXY, not 2'],
        ['UDP over IPv4', version2(PROXY, 0x12, ENDS_4), 'not datagrams'],
        ['UDP over IPv6', version2(PROXY, 0x22, ENDS_6), 'not datagrams'],
        ['unix datagrams', version2(PROXY, 0x32, unixEnds('a', 'b')), 'not datagrams'],
        ['transport 3', version2(PROXY, 0x13, ENDS_4), 'not 0x13'],
        ['family 4', version2(PROXY, 0x41, ENDS_4), 'not 0x41'],
        ['a transport without a family', version2(PROXY, 0x01, ENDS_4), 'not 0x01'],
        ['a family without a transport', version2(PROXY, 0x10, ENDS_4), 'not 0x10'],
        ['IPv4 with length 0', version2(PROXY, TCP4), 'its IPv4 addresses must have 12 bytes, not 0'],
        ['IPv4 with 11 bytes', version2(PROXY, TCP4, ENDS_4.subarray(1)), 'its IPv4 addresses must have 12 bytes, not 11'],
        ['IPv6 with the length of IPv4', version2(PROXY, TCP6, ENDS_4), 'its IPv6 addresses must have 36 bytes, not 12'],
        ['unix with one path', version2(PROXY, UNIX, Buffer.alloc(108)), 'its unix addresses must have 216 bytes, not 108'],
        ['65,535 bytes announced', version2(PROXY, TCP4, ENDS_4, 65_535), 'at most 4096 bytes, not 65535'],
        ['65,535 bytes announced with LOCAL', version2(LOCAL, UNSPEC, ENDS_4, 65_535), 'at most 4096 bytes, not 65535'],
        ['4,097 bytes announced', version2(PROXY, TCP4, ENDS_4, 4097), 'at most 4096 bytes, not 4097'],
        ['a signature with one byte changed', Buffer.concat([SIGNATURE.subarray(0, 11), ENDS_4]), 'must start with one']
      ] as const) {
        it(what, () => {
          expectRefused(bytes, why)
        })
      }
    })

    it('is bounded by 16 bytes and `maxLength`: what is announced is refused by its first 16 bytes', () => {
      const preamble = version2(PROXY, TCP4, Buffer.alloc(0), 4096)
      expect(parseProxyHeader(preamble)).to.deep.equal({ header: undefined, need: 16 + 4096 })
      expect(() => parseProxyHeader(preamble, 4095)).to.throw(ProxyHeaderError, 'at most 4095 bytes, not 4096')
      expect(parseProxyHeader(version2(PROXY, TCP4, ENDS_4), 12)).to.have.property('length', 28)
      expect(() => parseProxyHeader(version2(PROXY, TCP4, ENDS_4), 11)).to.throw(ProxyHeaderError)
      const largest = version2(PROXY, TCP4, Buffer.alloc(0), 65_535)
      expect(parseProxyHeader(largest, Number.POSITIVE_INFINITY)).to.deep.equal({ header: undefined, need: 16 + 65_535 })
    })
  })

  describe('the values of version 2', () => {
    const ssl = Buffer.concat([Buffer.from('0700000000', 'hex'), tlv(0x21, 'TLSv1.3'), tlv(0x22, 'client')])

    it('are kept as they came, those that nobody knows too; the known ones are told in words', () => {
      const values: readonly [number, Uint8Array | string][] = [
        [0x01, 'h2'],
        [0x02, 'example.com'],
        [0x04, '\0\0\0'],
        [0x05, 'id'],
        [0x20, ssl],
        [0x30, 'ns'],
        [0xea, ''],
        [0xff, Uint8Array.of(0, 255)]
      ]
      const { tlvs, authority, alpn, uniqueId } = parse(...values.map(([type, value]) => tlv(type, value)))
      expect([...tlvs]).to.deep.equal(values.map(([type, value]) => [type, new Uint8Array(Buffer.from(value as string))]))
      expect([authority, alpn]).to.deep.equal(['example.com', 'h2'])
      expect(uniqueId).to.equal(tlvs.get(0x05))
    })

    it('are the first of a kind', () => {
      const { tlvs, authority } = parse(tlv(0x02, 'first'), tlv(0xe0, 'a'), tlv(0x02, 'second'), tlv(0xe0, 'b'))
      expect([authority, [...tlvs.keys()], Buffer.from(tlvs.get(0xe0)!).toString()]).to.deep.equal(['first', [0x02, 0xe0], 'a'])
    })

    it('are not in the memory of the bytes that they came in', () => {
      const bytes = version2(PROXY, TCP4, Buffer.concat([ENDS_4, tlv(0x05, 'id')]))
      const { uniqueId } = header(bytes)
      bytes.fill(0)
      expect(uniqueId).to.deep.equal(new Uint8Array(Buffer.from('id')))
      expect(uniqueId?.buffer.byteLength).to.equal(5)
    })

    it('have host names in UTF-8 and protocols in bytes, also empty ones', () => {
      expect(parse(tlv(0x02, 'bücher.example')).authority).to.equal('bücher.example')
      expect(parse(tlv(0x01, Uint8Array.of(0x8a, 0x8a))).alpn).to.equal('\x8a\x8a')
      expect(parse(tlv(0x01, ''), tlv(0x02, ''), tlv(0x05, ''))).to.deep.include({ alpn: '', authority: '', uniqueId: new Uint8Array() })
      expect(parse(tlv(0x05, 'x'.repeat(128))).uniqueId).to.have.length(128)
    })

    it('may fill the header to its bound', () => {
      expect(parse(tlv(0xe0, 'x'.repeat(4096 - 12 - 3))).tlvs.get(0xe0)).to.have.length(4081)
    })

    for (const [what, value, why] of [
      ['one byte', Buffer.from([4]), 'type 0x04 must end within it'],
      ['two bytes', Buffer.from([4, 0]), 'type 0x04 must end within it'],
      ['a length that goes beyond the header', tlv(0xea, 'abc', 4), 'type 0xea must end within it'],
      ['a length of 65,535', tlv(0xea, '', 65_535), 'type 0xea must end within it'],
      ['bytes behind the last', Buffer.concat([tlv(0xea, 'abc'), Buffer.from([0])]), 'type 0x00 must end within it'],
      ['a host name that is no UTF-8', tlv(0x02, Uint8Array.of(0xc3)), 'its host name must be UTF-8'],
      ['an identifier of 129 bytes', tlv(0x05, 'x'.repeat(129)), 'its identifier must have at most 128 bytes, not 129'],
      ['a checksum of 3 bytes', tlv(CHECKSUM, 'abc'), 'its checksum must have 4 bytes, not 3'],
      ['two checksums', Buffer.concat([tlv(CHECKSUM, 'abcd'), tlv(CHECKSUM, 'abcd')]), 'one checksum, not several']
    ] as const) {
      it(`malformed ones turn away: ${what}`, () => {
        expectRefused(version2(PROXY, TCP4, Buffer.concat([ENDS_4, value])), why)
      })
    }

    it('have a checksum that is checked where present, wherever it stands', () => {
      const last = version2(PROXY, TCP4, Buffer.concat([ENDS_4, tlv(0x02, 'a'), tlv(CHECKSUM, '\0\0\0\0')]))
      expect(header(withChecksum(last))).to.include({ authority: 'a' })
      for (const difference of [1, 0x8000_0000]) expectRefused(withChecksum(last, difference), 'its checksum must be 0x')
      for (let at = 16; at < last.byteLength; at++) {
        // The first value's type and length, and the checksum's, which would be another header.
        if ((at >= 28 && at <= 30) || (at >= 32 && at <= 34)) continue
        const changed = withChecksum(last)
        changed[at] = (changed[at] as number) ^ 0x01
        expectRefused(changed, '')
      }
      const between = version2(PROXY, TCP4, Buffer.concat([ENDS_4, tlv(CHECKSUM, '\0\0\0\0'), tlv(0x02, 'a')]))
      expect(header(withChecksum(between, 0, 31))).to.include({ authority: 'a' })
      expectRefused(withChecksum(between, 1, 31), 'its checksum must be 0x')
    })
  })

  describe('what has arrived so far', () => {
    for (const [what, bytes] of [
      ['a line', ascii(LINE_4)],
      ['a line of UNKNOWN', ascii('PROXY UNKNOWN\r\n')],
      ['version 2', version2(PROXY, TCP6, Buffer.concat([ENDS_6, tlv(0x02, 'a')]))],
      ['LOCAL', version2(LOCAL, UNSPEC)]
    ] as const) {
      it(`is not enough byte by byte, until all of ${what} is there, and never is more asked for than it has`, () => {
        const whole = parseProxyHeader(bytes)
        for (let length = 0; length < bytes.byteLength; length++) {
          const parsed = parseProxyHeader(bytes.subarray(0, length))
          expect(parsed.header).to.equal(undefined)
          expect((parsed as { need: number }).need)
            .to.be.greaterThan(length)
            .and.at.most(bytes.byteLength)
        }
        expect(whole).to.have.property('length', bytes.byteLength)
        // Bytes behind it are not looked at: a second header neither.
        expect(parseProxyHeader(Buffer.concat([bytes, bytes, Buffer.from('\n\r\0')]))).to.deep.equal(whole)
      })
    }

    for (const [what, bytes] of [
      ['HTTP', ascii('G')],
      ['a TLS ClientHello', Buffer.from([0x16])],
      ['SSH', ascii('S')],
      ['a mail client that says QUIT', ascii('QUIT\r\n')],
      ['HTTP/2', ascii('PRI')],
      ['POST', ascii('PO')],
      ['PROXY without its space', ascii('PROXYj')],
      ['a line end', ascii('\r\n\r\nx')],
      ['another protocol of version 1', ascii('PROXY U4')],
      ['another version', Buffer.concat([SIGNATURE, Uint8Array.of(0x11)])],
      ['another family', Buffer.concat([SIGNATURE, Uint8Array.of(PROXY, 0x13)])],
      ['a line feed before its time', ascii('PROXY TCP4 1\n')]
    ] as const) {
      it(`is refused as soon as it can be no header: ${what}`, () => {
        expectRefused(bytes, '')
        // Not one byte before.
        expect(
          bytes.byteLength === 1 || what.startsWith('a mail') || parseProxyHeader(bytes.subarray(0, -1)).header === undefined
        ).to.equal(true)
      })
    }

    it('is told in a message that quotes no more than its first bytes, and none that could be taken for instructions', () => {
      expect(messageFor(ascii('GET / HTTP/1.1\r\n'))).to.equal(
        "Cannot read a PROXY header: the connection must start with one: received 'GET / HTTP/1.1\\r\\n'"
      )
      expect(messageFor(Buffer.from([0x1b, 0x5b, 0x41]))).to.equal(
        'Cannot read a PROXY header: the connection must start with one: received bytes 1b 5b 41'
      )
      expect(messageFor(ascii('x'.repeat(10_000)))).to.match(/received '(x{32})'…$/)
    })
  })
})

function inet(address: string, port: number): object {
  return { family: address.includes(':') ? 'IPv6' : 'IPv4', address, port }
}

function unix(path: string): object {
  return { family: 'unix', path }
}

function header(bytes: Uint8Array): ProxyHeader {
  const parsed = parseProxyHeader(bytes)
  if (parsed.header === undefined) return expect.fail(`${parsed.need} bytes were asked for`)
  expect(parsed.length).to.equal(bytes.byteLength)
  return parsed.header
}

function parse(...values: readonly Uint8Array[]): ProxyHeader {
  return header(version2(PROXY, TCP4, Buffer.concat([ENDS_4, ...values])))
}

function messageFor(bytes: Uint8Array): string {
  try {
    parseProxyHeader(bytes)
  } catch (error) {
    expect(error).to.be.instanceOf(ProxyHeaderError).with.property('code', 'ERR_PROXY_HEADER')
    return (error as Error).message
  }
  return expect.fail('was not refused')
}

function expectRefused(bytes: Uint8Array, why: string): void {
  expect(messageFor(bytes))
    .to.match(/^Cannot read a PROXY header: .*[^.]$/s)
    .and.contain(why)
}
