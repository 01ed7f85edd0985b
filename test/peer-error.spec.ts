import { runInNewContext } from 'node:vm'
import { expect } from 'chai'
import * as errors from '../src/errors.ts'
import { connect, onPort, Server, TlsContext, toHostAndPort } from '../src/index.ts'
import { isPeerError } from '../src/peer-error.ts'
import { useCertificates } from './helpers/certificates.ts'
import { rejection } from './helpers/rejection.ts'

const ADDRESS = { host: 'example.com', port: 80 }
const reset = new errors.ConnectionResetError('broke')
const mine = new Error('of the program')

describe('isPeerError', () => {
  for (const error of [
    reset,
    new errors.BufferAgeLimitError('too old'),
    new errors.IdleTimeoutError('idle'),
    new errors.ReadTimeoutError('slow'),
    new errors.LimitExceededError('too long'),
    new errors.DelimiterNotFoundError('no delimiter'),
    new errors.UnexpectedEndError('an end'),
    new errors.ConnectError(ADDRESS, systemError('ECONNREFUSED')),
    new errors.ConnectError(ADDRESS, systemError('ENOTFOUND')),
    new errors.ConnectTimeoutError(ADDRESS, 5_000)
  ]) {
    it(`is true for ${error.name}${error.cause === undefined ? '' : ` with ${(error.cause as NodeJS.ErrnoException).code}`}`, () => {
      expect(isPeerError(error)).to.equal(true)
    })
  }

  for (const error of [
    new errors.ConnectionClosedError('closed'),
    new errors.BusyError('busy'),
    new errors.ServerClosedError('closed'),
    new errors.ListenError({ family: 'unix', path: '/run/app.sock' }, systemError('EADDRINUSE')),
    mine,
    systemError('ECONNRESET')
  ]) {
    it(`is false for ${error.name}: ${error.message}`, () => {
      expect(isPeerError(error)).to.equal(false)
    })
  }

  it('is false for a dial that failed on this side', () => {
    for (const code of ['EMFILE', 'ENFILE', 'ENOBUFS', 'ENOMEM', 'EADDRNOTAVAIL', 'EADDRINUSE', 'EACCES']) {
      expect(isPeerError(new errors.ConnectError(ADDRESS, systemError(code))), code).to.equal(false)
    }
  })

  it('is false for a certificate, a key or an authority of one’s own that is no good, and true for a handshake that failed', async function () {
    const made = useCertificates(this)
    const own: (() => unknown)[] = [
      () => TlsContext.create({ ...made.a, key: made.b.key }),
      () => TlsContext.create(made.expired),
      () => TlsContext.create({ ...made.a, cert: made.a.cert.slice(0, 200) }),
      () => TlsContext.create({ ...made.a, ca: 'none' }),
      () => TlsContext.create(made.a).replace(made.notYetValid),
      () => connect(toHostAndPort('127.0.0.1', 9), { tls: { ...made.expired } }),
      () => connect(toHostAndPort('127.0.0.1', 9), { tls: { secureContext: { ciphers: 'none of them' } } })
    ]
    for (const cause of own) {
      const error = await rejection((async () => cause())())
      expect(error, String(cause)).to.be.instanceOf(errors.TlsError)
      expect(isPeerError(error), String(error)).to.equal(false)
      expect(isPeerError(new Error('wrapped', { cause: error }))).to.equal(false)
    }
    await using server = await Server.create(onPort(0, { host: '127.0.0.1' }), { tls: TlsContext.create(made.a) }, () => {})
    const stranger = await rejection(connect(toHostAndPort('127.0.0.1', server.listeningOn), { tls: true }))
    expect(stranger).to.be.instanceOf(errors.TlsError)
    expect(isPeerError(stranger)).to.equal(true)
  })

  it('looks at the class, and not at the code or the name', () => {
    expect(isPeerError(Object.assign(new Error('x'), { code: 'ERR_CONNECTION_RESET', name: 'ConnectionResetError' }))).to.equal(false)
  })

  it('follows causes, however deep, and those of errors of another realm', () => {
    let error: unknown = reset
    for (let depth = 0; depth < 100; depth++) error = new Error(`wrapped ${depth}`, { cause: error })
    expect(isPeerError(error)).to.equal(true)
    const foreign = runInNewContext('(cause) => Object.assign(new Error("foreign"), { cause })') as (cause: unknown) => unknown
    expect(isPeerError(foreign(reset))).to.equal(true)
    expect(isPeerError(foreign(mine))).to.equal(false)
    // A plain object may be thrown too.
    expect(isPeerError({ cause: reset })).to.equal(true)
  })

  it('of several errors all have to be the peer’s, also one error several times', () => {
    const timeout = new errors.IdleTimeoutError('idle')
    expect(isPeerError(new AggregateError([reset, timeout]))).to.equal(true)
    expect(isPeerError(new AggregateError([reset, reset]))).to.equal(true)
    expect(isPeerError(new AggregateError([new Error('x', { cause: reset }), new AggregateError([timeout])]))).to.equal(true)
    expect(isPeerError(new AggregateError([reset, mine]))).to.equal(false)
    expect(isPeerError(new AggregateError([mine, reset]))).to.equal(false)
    expect(isPeerError(new AggregateError([]))).to.equal(false)
  })

  it('looks at both of what a SuppressedError has', () => {
    const suppressed = (error: unknown, suppressed: unknown): unknown => Object.assign(new Error('x'), { error, suppressed })
    expect(isPeerError(suppressed(reset, reset))).to.equal(true)
    expect(isPeerError(suppressed(reset, mine))).to.equal(false)
    expect(isPeerError(suppressed(mine, reset))).to.equal(false)
  })

  it('ends on circles and on chains without an end', () => {
    const circle = new AggregateError([])
    circle.cause = circle
    circle.errors.push(circle, reset)
    expect(isPeerError(circle)).to.equal(false)
    const other = new Error('round', { cause: new Error('about') })
    ;(other.cause as Error).cause = other
    expect(isPeerError(other)).to.equal(false)
    class Endless extends Error {
      override get cause(): unknown {
        return new Endless()
      }
    }
    expect(isPeerError(new Endless())).to.equal(false)
    expect(isPeerError(new AggregateError(Array.from({ length: 1_000_000 }, () => mine)))).to.equal(false)
  })

  it('takes anything, and never throws', () => {
    const throwing = (): never => {
      throw new Error('do not touch')
    }
    const hostile = new Proxy(new Error('x'), { get: throwing, getPrototypeOf: throwing, has: throwing, ownKeys: throwing })
    const getters = Object.defineProperties(new Error('x'), {
      cause: { get: throwing },
      errors: { get: throwing },
      suppressed: { get: throwing }
    })
    for (const value of [undefined, null, 42, 'reset', Symbol('x'), 1n, true, () => {}, [], {}, hostile, getters]) {
      expect(isPeerError(value)).to.equal(false)
      expect(isPeerError(new Error('x', { cause: value }))).to.equal(false)
    }
    expect(isPeerError(Object.defineProperty(new Error('x', { cause: reset }), 'errors', { get: throwing }))).to.equal(true)
  })
})

describe('ItTcpError', () => {
  it('is the class of every error of this library', () => {
    const classes = Object.values(errors).filter((value) => typeof value === 'function' && value.prototype instanceof Error)
    expect(classes.length).to.be.greaterThan(12)
    for (const Class of classes) {
      expect(Class === errors.ItTcpError || (Class as { prototype: unknown }).prototype instanceof errors.ItTcpError).to.equal(true)
    }
  })
})

function systemError(code: string): Error {
  return Object.assign(new Error(code), { code })
}
