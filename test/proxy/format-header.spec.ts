import { inspect } from 'node:util'
import { expect } from 'chai'
import { formatProxyHeader, type ProxyHeader, type ProxyHeaderInit } from '../../src/index.ts'
import { headerToSend } from '../../src/proxy/format-header.ts'
import { parseProxyHeader } from '../../src/proxy/parse-header.ts'
import { BAD_PORTS, expectRefusal } from '../helpers/bad-input.ts'
import {
  ascii,
  DESTINATION_4,
  DESTINATION_6,
  DESTINATION_UNIX,
  ENDS_4,
  ENDS_6,
  LINE_4,
  LINE_6,
  LOCAL,
  PROXY,
  SOURCE_4,
  SOURCE_6,
  SOURCE_UNIX,
  TCP4,
  TCP6,
  tlv,
  UNIX,
  UNSPEC,
  unixEnds,
  version2,
  withChecksum
} from '../helpers/proxy-bytes.ts'

const ACTION = 'Cannot format a PROXY header'
const ENDS = { source: SOURCE_4, destination: DESTINATION_4 }
const MAPPED = `${'00'.repeat(10)}ffff`

describe('formatProxyHeader', () => {
  for (const [what, options, bytes] of [
    ['IPv4 addresses, in version 2 unless told otherwise', ENDS, version2(PROXY, TCP4, ENDS_4)],
    ['IPv6 addresses', { source: SOURCE_6, destination: DESTINATION_6, version: 2 }, version2(PROXY, TCP6, ENDS_6)],
    [
      'unix paths',
      { source: SOURCE_UNIX, destination: DESTINATION_UNIX },
      version2(PROXY, UNIX, unixEnds(SOURCE_UNIX.path, DESTINATION_UNIX.path))
    ],
    [
      'unnamed unix peers, and paths longer than this system may have them',
      { source: { family: 'unix', path: '' }, destination: { family: 'unix', path: 'x'.repeat(108) } },
      version2(PROXY, UNIX, unixEnds('', 'x'.repeat(108)))
    ],
    [
      'an IPv4 and an IPv6 address, the former mapped',
      { source: SOURCE_4, destination: DESTINATION_6 },
      version2(PROXY, TCP6, Buffer.from(`${MAPPED}c0000201 20010db800000001000000000000000b dc0401bb`.replaceAll(' ', ''), 'hex'))
    ],
    [
      'mapped addresses as IPv4 ones',
      { source: { ...SOURCE_6, address: '::ffff:192.0.2.1' }, destination: DESTINATION_4 },
      version2(PROXY, TCP4, ENDS_4)
    ],
    [
      'an address without its zone',
      { source: { ...SOURCE_6, address: '2001:db8::1%eth0' }, destination: DESTINATION_6 },
      version2(PROXY, TCP6, ENDS_6)
    ],
    ['a client that is not known', { source: null, destination: null }, version2(PROXY, UNSPEC)],
    ['LOCAL', { command: 'local' }, version2(LOCAL, UNSPEC)],
    [
      'values, in their order',
      {
        ...ENDS,
        tlvs: new Map([
          [0xea, ascii('x')],
          [0x02, ascii('example.com')]
        ])
      },
      version2(PROXY, TCP4, Buffer.concat([ENDS_4, tlv(0xea, 'x'), tlv(0x02, 'example.com')]))
    ],
    [
      'pairs of which two are of one kind',
      {
        ...ENDS,
        tlvs: [
          [0x04, ascii('')],
          [0x04, ascii('b')]
        ]
      },
      version2(PROXY, TCP4, Buffer.concat([ENDS_4, tlv(0x04, ''), tlv(0x04, 'b')]))
    ],
    [
      'values of a client that is not known',
      { source: null, destination: null, tlvs: [[0x05, ascii('id')]] },
      version2(PROXY, UNSPEC, tlv(0x05, 'id'))
    ],
    ['a checksum', { ...ENDS, crc32c: true }, withChecksum(version2(PROXY, TCP4, Buffer.concat([ENDS_4, tlv(0x03, '\0\0\0\0')])))],
    [
      'a checksum among the values anew, and once',
      {
        ...ENDS,
        crc32c: true,
        tlvs: [
          [0x03, ascii('old!')],
          [0x01, ascii('h2')]
        ]
      },
      withChecksum(version2(PROXY, TCP4, Buffer.concat([ENDS_4, tlv(0x01, 'h2'), tlv(0x03, '\0\0\0\0')])))
    ],
    ['IPv4 addresses in version 1', { ...ENDS, version: 1 }, ascii(LINE_4)],
    ['IPv6 addresses in version 1', { source: SOURCE_6, destination: DESTINATION_6, version: 1 }, ascii(LINE_6)],
    [
      'both families in version 1',
      { source: SOURCE_6, destination: DESTINATION_4, version: 1 },
      ascii('PROXY TCP6 2001:db8::1 ::ffff:198.51.100.11 56324 443\r\n')
    ],
    ['a client that is not known in version 1', { source: null, destination: null, version: 1 }, ascii('PROXY UNKNOWN\r\n')]
  ] as readonly [string, ProxyHeaderInit, Uint8Array][]) {
    it(`writes ${what}`, () => {
      const written = formatProxyHeader(options)
      expect(Buffer.from(written).toString('hex')).to.equal(Buffer.from(bytes).toString('hex'))
      expect(Object.getPrototypeOf(written)).to.equal(Uint8Array.prototype)
      expect(written.buffer.byteLength).to.equal(written.byteLength)
    })
  }

  it('writes IPv6 addresses as RFC 5952 recommends', () => {
    for (const [address, canonical] of [
      ['2001:0DB8:0000:0000:0000:0000:0000:0001', '2001:db8::1'],
      ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
      ['2001:0:0:1:0:0:0:1', '2001:0:0:1::1'],
      ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
      ['0:0:0:0:0:0:0:0', '::'],
      ['1:0:0:0:0:0:0:0', '1::'],
      ['::1.2.3.4', '::102:304']
    ]) {
      const line = formatProxyHeader({ source: { family: 'IPv6', address: address as string, port: 1 }, destination: SOURCE_6, version: 1 })
      expect(Buffer.from(line).toString()).to.equal(`PROXY TCP6 ${canonical} 2001:db8::1 1 56324\r\n`)
    }
  })

  it('passes on a header that was read, whatever it was', () => {
    const read = (bytes: Uint8Array): ProxyHeader => parseProxyHeader(bytes).header as ProxyHeader
    for (const bytes of [
      ascii(LINE_4),
      ascii('PROXY UNKNOWN\r\n'),
      version2(LOCAL, UNSPEC),
      version2(PROXY, UNSPEC),
      version2(PROXY, TCP4, Buffer.concat([ENDS_4, tlv(0x02, 'a'), tlv(0xea, 'b')])),
      withChecksum(version2(PROXY, TCP4, Buffer.concat([ENDS_4, tlv(0x02, 'a'), tlv(0x03, '\0\0\0\0')])))
    ]) {
      expect(Buffer.from(formatProxyHeader(read(bytes))).equals(bytes), bytes.toString()).to.equal(true)
    }
    const checked = read(withChecksum(version2(PROXY, TCP4, Buffer.concat([ENDS_4, tlv(0x03, '\0\0\0\0')]))))
    expect(read(formatProxyHeader({ ...checked, source: SOURCE_6 })).source).to.deep.equal(SOURCE_6)
  })

  it('may have 65,535 bytes behind its first 16, which a receiver must want', () => {
    const value = new Uint8Array(65_535 - 12 - 3)
    const bytes = formatProxyHeader({ ...ENDS, tlvs: [[0xe0, value]] })
    expect(bytes).to.have.length(16 + 65_535)
    expect(parseProxyHeader(bytes, 65_535).header?.tlvs.get(0xe0)).to.deep.equal(value)
  })

  describe('refuses, quoting it,', () => {
    const bad: readonly [name: string, options: unknown, quoted: unknown][] = [
      ['header', undefined, undefined],
      ['header', null, null],
      ['header', 'PROXY', 'PROXY'],
      ['command', { command: 'LOCAL' }, 'LOCAL'],
      ['version', { ...ENDS, version: 3 }, 3],
      ['version', { ...ENDS, version: '1' }, '1'],
      ['version', { ...ENDS, version: null }, null],
      ['crc32c', { ...ENDS, crc32c: 1 }, 1],
      ...[undefined, '192.0.2.1', 7, {}, { family: 'IPv5', address: '192.0.2.1', port: 1 }, { host: 'a', port: 1 }].map(
        (source): [string, unknown, unknown] => ['source', { ...ENDS, source }, source]
      ),
      ...['::1', 'localhost', '192.0.2.01', '192.0.2', ' 192.0.2.1', '', 7, undefined].map((address): [string, unknown, unknown] => [
        'destination',
        { ...ENDS, destination: { ...DESTINATION_4, address } },
        { ...DESTINATION_4, address }
      ]),
      ...['192.0.2.1', '1::2::3', '[::1]'].map((address): [string, unknown, unknown] => [
        'source',
        { ...ENDS, source: { ...SOURCE_6, address } },
        { ...SOURCE_6, address }
      ]),
      ...BAD_PORTS.map((port): [string, unknown, unknown] => ['source.port', { ...ENDS, source: { ...SOURCE_4, port } }, port]),
      ...[7, undefined, null, 'x'.repeat(109), 'ä'.repeat(55), 'a\0b', '\0a\0'].map((path): [string, unknown, unknown] => [
        'destination.path',
        { source: SOURCE_UNIX, destination: { family: 'unix', path } },
        path
      ]),
      ['tlvs', { ...ENDS, tlvs: null }, null],
      ['tlvs', { ...ENDS, tlvs: { 2: ascii('a') } }, { 2: ascii('a') }],
      ['tlvs', { ...ENDS, tlvs: 'tlvs' }, 'tlvs'],
      ['tlvs', { ...ENDS, tlvs: [7] }, 7],
      ['tlvs', { ...ENDS, tlvs: new Map([[256, ascii('a')]]) }, 256],
      ['tlvs', { ...ENDS, tlvs: new Map([[-1, ascii('a')]]) }, -1],
      ['tlvs', { ...ENDS, tlvs: new Map([[0.5, ascii('a')]]) }, 0.5],
      ['tlvs', { ...ENDS, tlvs: new Map([['2', ascii('a')]]) }, '2'],
      ['tlvs', { ...ENDS, tlvs: new Map([[2, 'example.com']]) }, 'example.com'],
      ['tlvs', { ...ENDS, tlvs: new Map([[2, Uint8Array.of(0xc3)]]) }, Uint8Array.of(0xc3)],
      ['tlvs', { ...ENDS, tlvs: new Map([[3, ascii('abc')]]) }, ascii('abc')],
      ['tlvs', { ...ENDS, tlvs: new Map([[5, new Uint8Array(129)]]) }, new Uint8Array(129)],
      ['tlvs', { ...ENDS, version: 1, tlvs: [[2, ascii('a')]] }, [[2, ascii('a')]]],
      ['crc32c', { ...ENDS, version: 1, crc32c: true }, true],
      ['source', { source: SOURCE_UNIX, destination: DESTINATION_UNIX, version: 1 }, SOURCE_UNIX],
      ['destination', { command: 'local', destination: SOURCE_4 }, SOURCE_4],
      ['version', { command: 'local', version: 1 }, 1],
      ['tlvs', { command: 'local', tlvs: [[2, ascii('a')]] }, [[2, ascii('a')]]],
      ['crc32c', { command: 'local', crc32c: true }, true],
      ['destination', { source: SOURCE_4, destination: null }, null],
      ['destination', { source: null, destination: DESTINATION_4 }, DESTINATION_4],
      ['destination', { source: SOURCE_4, destination: DESTINATION_UNIX }, DESTINATION_UNIX]
    ]
    for (const [index, [name, options, quoted]] of bad.entries()) {
      it(`${inspect(quoted).replaceAll(/\s+/g, ' ').slice(0, 80)} as ${name} (${index})`, () => {
        let error: unknown
        try {
          formatProxyHeader(options as ProxyHeaderInit)
        } catch (thrown) {
          error = thrown
        }
        expectRefusal(error, name, ACTION, quoted)
      })
    }

    it('what is too long for the 16 bits of its length', () => {
      const tlvs = [[0xe0, new Uint8Array(65_535 - 12 - 2)]] as const
      expect(() => formatProxyHeader({ ...ENDS, tlvs })).to.throw(
        RangeError,
        "as 'tlvs' must leave the header at most 65535 bytes: received 65536 bytes"
      )
    })
  })

  describe('headerToSend', () => {
    it('is what a client sends first, or nothing', () => {
      expect(headerToSend(undefined)).to.equal(undefined)
      expect(headerToSend(ENDS)).to.deep.equal(formatProxyHeader(ENDS))
    })

    it('refuses in the words of connect', () => {
      for (const [name, header, quoted] of [
        ['proxyHeader', 7, 7],
        ['proxyHeader', null, null],
        ['version', { ...ENDS, version: 3 }, 3]
      ] as const) {
        try {
          headerToSend(header as unknown as ProxyHeaderInit)
          expect.fail('was not refused')
        } catch (error) {
          expectRefusal(error, name, 'Cannot connect', quoted)
        }
      }
    })
  })
})
