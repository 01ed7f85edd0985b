import { expect } from 'chai'
import * as api from '../src/index.ts'

// The names are a contract: adding one is a new feature, taking one away a breaking change.
const NAMES = [
  'BufferAgeLimitError',
  'BusyError',
  'ConnectError',
  'ConnectTimeoutError',
  'ConnectionClosedError',
  'ConnectionResetError',
  'DelimiterNotFoundError',
  'HandshakeTimeoutError',
  'IdleTimeoutError',
  'ItTcpError',
  'LimitExceededError',
  'ListenError',
  'ProxyHeaderError',
  'ReadTimeoutError',
  'Server',
  'ServerClosedError',
  'TlsContext',
  'TlsError',
  'TruncatedError',
  'UnexpectedEndError',
  'WhereToListen',
  'connect',
  'connectSocket',
  'consumerPool',
  'formatProxyHeader',
  'fromDuplex',
  'isPeerError',
  'listen',
  'onFile',
  'onFileDescriptor',
  'onInherited',
  'onPort',
  'onPortChosenByOs',
  'readProxyHeader',
  'relay',
  'toDuplex',
  'toFile',
  'toHostAndPort',
  'toInetAddress',
  'toUnixAddress',
  'toWebStreams',
  'withConnection'
]

describe('it-tcp', () => {
  it('exports exactly the names of its API', () => {
    expect(Object.keys(api).sort()).to.deep.equal(NAMES)
  })

  it('is what a program gets that imports it by its name', async () => {
    expect(await import('it-tcp')).to.equal(api)
  })
})
