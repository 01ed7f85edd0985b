import { getSystemErrorMap } from 'node:util'
import { expect } from 'chai'
import {
  BufferAgeLimitError,
  BusyError,
  ConnectError,
  ConnectionClosedError,
  ConnectionResetError,
  ConnectTimeoutError,
  DelimiterNotFoundError,
  describeSystemError,
  HandshakeTimeoutError,
  IdleTimeoutError,
  isFrom,
  LimitExceededError,
  ListenError,
  ProxyHeaderError,
  ReadTimeoutError,
  ServerClosedError,
  TlsError,
  TruncatedError,
  UnexpectedEndError,
  withOrigin
} from '../src/errors.ts'

const refused = systemError('ECONNREFUSED')
const inUse = systemError('EADDRINUSE')
const inet = { family: 'IPv4', address: '127.0.0.1', port: 80 } as const
const unix = { family: 'unix', path: '/run/app.sock' } as const
const text = 'Cannot read from 127.0.0.1:80: somebody is reading already'

describe('the error classes', () => {
  for (const [error, name, code, message, rest] of [
    [
      new ConnectError(inet, refused),
      'ConnectError',
      'ERR_CONNECT',
      'Cannot connect to 127.0.0.1:80: connection refused',
      { address: inet }
    ],
    [
      new ConnectError({ host: 'example.com', port: 80 }, refused, [refused, refused]),
      'ConnectError',
      'ERR_CONNECT',
      'Cannot connect to example.com:80: connection refused',
      { address: { host: 'example.com', port: 80 }, errors: [refused, refused] }
    ],
    [
      new ConnectTimeoutError(unix, 30_000, { cause: refused }),
      'ConnectTimeoutError',
      'ERR_CONNECT_TIMEOUT',
      'Cannot connect to /run/app.sock: no connection within 30000 ms',
      { address: unix }
    ],
    [
      new ListenError(unix, inUse),
      'ListenError',
      'ERR_LISTEN',
      'Cannot listen on /run/app.sock: address already in use',
      { address: unix }
    ],
    [
      new ListenError({ fd: 3 }, systemError('EBADF')),
      'ListenError',
      'ERR_LISTEN',
      'Cannot listen on descriptor 3: bad file descriptor',
      { address: { fd: 3 } }
    ],
    [new ConnectionClosedError(text, { cause: refused }), 'ConnectionClosedError', 'ERR_CONNECTION_CLOSED', text, {}],
    [new ConnectionResetError(text, { cause: refused }), 'ConnectionResetError', 'ERR_CONNECTION_RESET', text, {}],
    [new BufferAgeLimitError(text, { cause: refused }), 'BufferAgeLimitError', 'ERR_BUFFER_AGE_LIMIT', text, {}],
    [new IdleTimeoutError(text, { cause: refused }), 'IdleTimeoutError', 'ERR_IDLE_TIMEOUT', text, {}],
    [new LimitExceededError(text, { cause: refused }), 'LimitExceededError', 'ERR_LIMIT_EXCEEDED', text, {}],
    [new UnexpectedEndError(text, { cause: refused }), 'UnexpectedEndError', 'ERR_UNEXPECTED_END', text, {}],
    [new DelimiterNotFoundError(text, { cause: refused }), 'DelimiterNotFoundError', 'ERR_DELIMITER_NOT_FOUND', text, {}],
    [new BusyError(text, { cause: refused }), 'BusyError', 'ERR_BUSY', text, {}],
    [new ServerClosedError(text, { cause: refused }), 'ServerClosedError', 'ERR_SERVER_CLOSED', text, {}],
    [new TlsError(text, { cause: refused }), 'TlsError', 'ERR_TLS', text, {}],
    [new HandshakeTimeoutError(text, { cause: refused }), 'HandshakeTimeoutError', 'ERR_HANDSHAKE_TIMEOUT', text, {}],
    [new TruncatedError(text, { cause: refused }), 'TruncatedError', 'ERR_TRUNCATED', text, {}],
    [new ReadTimeoutError(text, { cause: refused }), 'ReadTimeoutError', 'ERR_READ_TIMEOUT', text, {}],
    [new ProxyHeaderError(text, { cause: refused }), 'ProxyHeaderError', 'ERR_PROXY_HEADER', text, {}]
  ] as const) {
    describe(`${name}: ${message}`, () => {
      it('is an Error with its name, code, message and details', () => {
        expect(error).to.be.instanceOf(Error)
        expect(error).to.include({ name, code, message })
        expect(error.constructor.name).to.equal(name)
        for (const [key, value] of Object.entries(rest)) expect(error).to.have.deep.property(key, value)
        expect((error as { errors?: unknown }).errors).to.deep.equal((rest as { errors?: unknown }).errors)
      })

      it('keeps its cause unchanged', () => {
        expect(error.cause)
          .to.be.instanceOf(Error)
          .with.property('code')
          .that.matches(/^E[A-Z]+$/)
      })

      it('says what could not be done, without a full stop', () => {
        expect(error.message).to.match(/^Cannot .*[^.]$/)
        expect(error.stack).to.contain(`${name}: ${message}`)
      })
    })
  }
})

describe('describeSystemError', () => {
  for (const [error, expected] of [
    [systemError('ECONNREFUSED'), 'connection refused'],
    [systemError('ENOENT'), 'no such file or directory'],
    [Object.assign(systemError('EACCES'), { errno: Math.abs(systemError('EACCES').errno as number) }), 'permission denied'],
    [
      Object.assign(new Error('getaddrinfo ENOTFOUND example.invalid'), { code: 'ENOTFOUND', errno: -3008 }),
      /no such host name|unknown node/
    ],
    [Object.assign(new Error('queryA ENOTFOUND example.invalid'), { code: 'ENOTFOUND' }), 'no such host name'],
    [new Error('something else'), 'something else'],
    [Object.assign(new Error('its own words'), { errno: 12_345 }), 'its own words'],
    ['text', 'text'],
    [undefined, 'undefined']
  ] as const) {
    it(`says '${expected}'`, () => {
      if (typeof expected === 'string') expect(describeSystemError(error)).to.equal(expected)
      else expect(describeSystemError(error)).to.match(expected)
    })
  }
})

describe('withOrigin', () => {
  it('notes where an error comes from, without a trace on the error', () => {
    const [origin, other] = [{}, {}]
    const error = new ConnectionResetError(text)
    const keys = Reflect.ownKeys(error)
    expect(isFrom(error, origin)).to.equal(false)
    expect(withOrigin(error, origin)).to.equal(error)
    expect(isFrom(error, origin)).to.equal(true)
    expect(isFrom(error, other)).to.equal(false)
    expect(Reflect.ownKeys(error)).to.deep.equal(keys)
  })
})

function systemError(code: string): NodeJS.ErrnoException {
  const [errno] = [...getSystemErrorMap()].find(([, [name]]) => name === code) ?? []
  return Object.assign(new Error(`${code}: as Node.js words it`), { code, errno })
}
