import { expect } from 'chai'
import type { ProxyHeader, SocketAddress } from '../../src/index.ts'
import { endpointsOf } from '../../src/proxy/endpoints.ts'
import { parseProxyHeader } from '../../src/proxy/parse-header.ts'
import {
  ascii,
  DESTINATION_4,
  DESTINATION_6,
  ENDS_4,
  LINE_4,
  LINE_6,
  LOCAL,
  PROXY,
  SOURCE_4,
  SOURCE_6,
  TCP4,
  UNIX,
  UNSPEC,
  unixEnds,
  version2
} from '../helpers/proxy-bytes.ts'

const INET = { remoteAddress: inet(1), localAddress: inet(2) }
const FILE = { remoteAddress: unix(''), localAddress: unix('/run/here') }

describe('endpointsOf', () => {
  for (const [what, bytes] of [
    ['LOCAL', version2(LOCAL, TCP4, ENDS_4)],
    ['UNKNOWN', ascii('PROXY UNKNOWN 192.0.2.1 198.51.100.11 1 2\r\n')],
    ['UNSPEC', version2(PROXY, UNSPEC)]
  ] as const) {
    it(`${what} gives the real endpoints`, () => {
      expect(endpointsOf(header(bytes), INET)).to.equal(INET)
      expect(endpointsOf(header(bytes), FILE)).to.equal(FILE)
    })
  }

  it('gives the client and what it dialled, whatever the version of IP', () => {
    expect(endpointsOf(header(ascii(LINE_4)), INET)).to.deep.equal({ remoteAddress: SOURCE_4, localAddress: DESTINATION_4 })
    expect(endpointsOf(header(ascii(LINE_6)), INET)).to.deep.equal({ remoteAddress: SOURCE_6, localAddress: DESTINATION_6 })
    const paths = header(version2(PROXY, UNIX, unixEnds('/run/a', '/run/b')))
    expect(endpointsOf(paths, FILE)).to.deep.equal({ remoteAddress: unix('/run/a'), localAddress: unix('/run/b') })
  })

  it("a header of another family than the server's leaves the real endpoints", () => {
    expect(endpointsOf(header(ascii(LINE_4)), FILE)).to.equal(FILE)
    expect(endpointsOf(header(version2(PROXY, UNIX, unixEnds('/run/a', '/run/b'))), INET)).to.equal(INET)
  })
})

function header(bytes: Uint8Array): ProxyHeader {
  return parseProxyHeader(bytes).header as ProxyHeader
}

function inet(port: number): SocketAddress {
  return { family: 'IPv4', address: '127.0.0.1', port }
}

function unix(path: string): SocketAddress {
  return { family: 'unix', path }
}
