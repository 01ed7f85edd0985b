import { expect } from 'chai'
import { toFile, toHostAndPort, toInetAddress, toUnixAddress } from '../src/where-to-connect.ts'
import { BAD_HOSTS, BAD_PATHS, BAD_PORTS, NO_OPTIONS, refuses } from './helpers/bad-input.ts'

const ACTION = 'Cannot describe where to connect'
const LOCALHOST = { family: 'IPv4', address: '127.0.0.1', port: 80 } as const

describe('toHostAndPort', () => {
  it('describes a host and a port', () => {
    expect(toHostAndPort('example.com', 80)).to.deep.equal({ target: { host: 'example.com', port: 80 }, bind: {} })
  })

  it('takes the first and the last port', () => {
    expect(toHostAndPort('localhost', 1).target).to.have.property('port', 1)
    expect(toHostAndPort('localhost', 65_535).target).to.have.property('port', 65_535)
  })

  it('keeps where to connect from', () => {
    const bind = { localAddress: '127.0.0.2', localPort: 0 }
    expect(toHostAndPort('localhost', 80, bind).bind).to.deep.equal(bind)
    expect(toHostAndPort('localhost', 80, { localAddress: '::1' }).bind).to.deep.equal({ localAddress: '::1' })
  })

  it('is a value that nobody can change', () => {
    const bind = { localPort: 4_000 }
    const where = toHostAndPort('localhost', 80, bind)
    bind.localPort = 5_000
    expect(where.bind.localPort).to.equal(4_000)
    for (const part of [where, where.target, where.bind]) expect(part).to.be.frozen
  })

  it('takes an IPv6 address with a zone, and one in brackets as it stands in URLs', () => {
    expect(toHostAndPort('fe80::1%eth0', 80).target).to.deep.equal({ host: 'fe80::1%eth0', port: 80 })
    expect(toHostAndPort('[::1]', 80).target).to.deep.equal({ host: '::1', port: 80 })
    expect(toHostAndPort('[fe80::1%eth0]', 80).target).to.deep.equal({ host: 'fe80::1%eth0', port: 80 })
  })

  it('refuses brackets and zones of anything else in words', () => {
    for (const host of ['[localhost]', '[127.0.0.1]', '[::1', '::1]', '[::1]:80', '[]', 'eth0%1', '127.0.0.1%lo']) {
      expect(() => toHostAndPort(host, 80), host).to.throw(RangeError, `as 'host' must be a name or a numeric address, without a port`)
    }
  })

  it('refuses a NUL, behind which the resolver would not look', () => {
    for (const host of ['127.0.0.1\0.example.com', '\0', 'localhost\0']) {
      expect(() => toHostAndPort(host, 80)).to.throw(RangeError, "as 'host' must not contain a NUL: received '")
    }
  })

  refuses('options', ACTION, NO_OPTIONS, (options) => toHostAndPort('localhost', 80, options as object))
  refuses('port', ACTION, [...BAD_PORTS, 0], (port) => toHostAndPort('localhost', port as number))
  refuses('host', ACTION, BAD_HOSTS, (host) => toHostAndPort(host as string, 80))
  refuses(
    'localPort',
    ACTION,
    BAD_PORTS.filter((port) => port !== undefined),
    (localPort) => toHostAndPort('localhost', 80, { localPort: localPort as number })
  )
  refuses('localAddress', ACTION, ['', 'localhost', '127.0.0', 42, null], (localAddress) =>
    toHostAndPort('localhost', 80, { localAddress: localAddress as string })
  )
})

describe('toInetAddress', () => {
  it('describes an address', () => {
    expect(toInetAddress(LOCALHOST)).to.deep.equal({ target: LOCALHOST, bind: {} })
    const v6 = { family: 'IPv6', address: '::1', port: 80 } as const
    expect(toInetAddress(v6, { localPort: 4_000 })).to.deep.equal({ target: v6, bind: { localPort: 4_000 } })
  })

  it('takes a copy of the address', () => {
    const address = { ...LOCALHOST }
    const where = toInetAddress(address)
    Object.assign(address, { port: 81 })
    expect(where.target).to.deep.equal(LOCALHOST)
    expect(where.target).to.be.frozen
  })

  refuses('port', ACTION, [...BAD_PORTS, 0], (port) => toInetAddress({ ...LOCALHOST, port: port as number }))
  refuses(
    'address',
    ACTION,
    [
      undefined,
      null,
      '127.0.0.1:80',
      { family: 'IPv4', address: 'localhost', port: 80 },
      { family: 'IPv4', address: '::1', port: 80 },
      { family: 'IPv6', address: '127.0.0.1', port: 80 },
      { family: 'IPv4', address: 42, port: 80 },
      { family: 'unix', path: '/run/app.sock' },
      { address: '127.0.0.1', port: 80 }
    ],
    (address) => toInetAddress(address as never)
  )
})

describe('toFile', () => {
  it('describes a path', () => {
    const where = toFile('/run/app.sock')
    expect(where).to.deep.equal({ target: { family: 'unix', path: '/run/app.sock' }, bind: {} })
    for (const part of [where, where.target, where.bind]) expect(part).to.be.frozen
  })

  refuses('path', ACTION, BAD_PATHS, (path) => toFile(path as string))
})

describe('toUnixAddress', () => {
  it('describes an address', () => {
    expect(toUnixAddress({ family: 'unix', path: '/run/app.sock' })).to.deep.equal(toFile('/run/app.sock'))
  })

  refuses('path', ACTION, BAD_PATHS, (path) => toUnixAddress({ family: 'unix', path: path as string }))
  refuses('address', ACTION, [undefined, null, '/run/app.sock', LOCALHOST], (address) => toUnixAddress(address as never))
})
