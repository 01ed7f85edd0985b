import { expect } from 'chai'
import { onFile, onFileDescriptor, onInherited, onPort, onPortChosenByOs, WhereToListen } from '../src/where-to-listen.ts'
import { BAD_HOSTS, BAD_PATHS, BAD_PORTS, NO_OPTIONS, refuses } from './helpers/bad-input.ts'

const ACTION = 'Cannot describe where to listen'
const BAD_BOOLEANS = [1, 'true', null]

describe('onPort', () => {
  it('describes a port of all addresses', () => {
    expect(onPort(8_080).target).to.deep.equal({ kind: 'inet', port: 8_080 })
    expect(onPort(0).target).to.deep.equal({ kind: 'inet', port: 0 })
    expect(onPort(65_535).target).to.have.property('port', 65_535)
  })

  it('keeps its options', () => {
    const options = { host: '::1', ipv6Only: true, reusePort: false }
    expect(onPort(8_080, options).target).to.deep.equal({ kind: 'inet', port: 8_080, ...options })
  })

  it('makes listeningOn the port that is bound', () => {
    expect(onPort(0).listeningOn({ family: 'IPv4', address: '0.0.0.0', port: 4_711 } as never)).to.equal(4_711)
  })

  it('is a value that nobody can change', () => {
    expect(onPort(0)).to.be.frozen
    expect(onPort(0).target).to.be.frozen
  })

  refuses('port', ACTION, BAD_PORTS, (port) => onPort(port as number))
  refuses('options', ACTION, NO_OPTIONS, (options) => onPort(0, options as object))
  refuses(
    'host',
    ACTION,
    BAD_HOSTS.filter((host) => host !== undefined),
    (host) => onPort(0, { host: host as string })
  )
  refuses('ipv6Only', ACTION, BAD_BOOLEANS, (ipv6Only) => onPort(0, { ipv6Only: ipv6Only as boolean }))
  refuses('reusePort', ACTION, BAD_BOOLEANS, (reusePort) => onPort(0, { reusePort: reusePort as boolean }))
})

describe('onPortChosenByOs', () => {
  it('describes port 0', () => {
    expect(onPortChosenByOs().target).to.deep.equal(onPort(0).target)
    expect(() => onPortChosenByOs('127.0.0.1' as never)).to.throw(TypeError, "as 'options' must be an object: received '127.0.0.1'")
    expect(onPortChosenByOs({ host: '127.0.0.1' }).target).to.deep.equal(onPort(0, { host: '127.0.0.1' }).target)
  })
})

describe('onFile', () => {
  it('describes a path', () => {
    expect(onFile('/run/app.sock').target).to.deep.equal({ kind: 'unix', path: '/run/app.sock' })
    expect(onFile('/run/app.sock')).to.be.frozen
  })

  it('keeps its mode', () => {
    expect(onFile('/run/app.sock', { mode: 0o600 }).target).to.have.property('mode', 0o600)
    expect(onFile('/run/app.sock', { mode: 0 }).target).to.have.property('mode', 0)
  })

  it('makes listeningOn the path', () => {
    expect(onFile('/run/app.sock').listeningOn({ family: 'unix', path: '/run/app.sock' } as never)).to.equal('/run/app.sock')
  })

  refuses('path', ACTION, BAD_PATHS, (path) => onFile(path as string))
  refuses('options', ACTION, NO_OPTIONS, (options) => onFile('/run/app.sock', options as never))
  refuses('mode', ACTION, [-1, 0o1000, 1.5, Number.NaN, '600', null], (mode) => onFile('/run/app.sock', { mode: mode as number }))

  if (process.platform === 'linux') {
    it('refuses the mode of an abstract name, which has no file', () => {
      const message = "Cannot describe where to listen as an abstract name has no file to set 'mode' of: received 384"
      expect(() => onFile('\0app', { mode: 0o600 })).to.throw(TypeError, message)
    })
  }
})

describe('onFileDescriptor', () => {
  it('describes a descriptor', () => {
    expect(onFileDescriptor(3).target).to.deep.equal({ kind: 'descriptor', fd: 3 })
  })

  it('makes listeningOn the address', () => {
    const address = { family: 'unix', path: '/run/app.sock' } as const
    expect(onFileDescriptor(3).listeningOn(address as never)).to.equal(address)
  })

  it('keeps whether to duplicate it', () => {
    expect(onFileDescriptor(3, { duplicate: true }).target).to.deep.equal({ kind: 'descriptor', fd: 3, duplicate: true })
    expect(onFileDescriptor(2 ** 31 - 1).target).to.have.property('fd', 2 ** 31 - 1)
  })

  refuses('fd', ACTION, [-1, 1.5, 2 ** 31, 2 ** 40, Number.NaN, '3', null, undefined], (fd) => onFileDescriptor(fd as number))
  refuses('options', ACTION, NO_OPTIONS, (options) => onFileDescriptor(3, options as never))
  refuses('duplicate', ACTION, BAD_BOOLEANS, (duplicate) => onFileDescriptor(3, { duplicate: duplicate as boolean }))
})

describe('onInherited', () => {
  it('is undefined where nothing was inherited', () => {
    expect(onInherited()).to.equal(undefined)
    expect(onInherited('web')).to.equal(undefined)
  })

  refuses('name', ACTION, ['', 3, null, {}], (name) => onInherited(name as string))
})

describe('WhereToListen.create', () => {
  const inet = { family: 'IPv4', address: '127.0.0.1', port: 0 } as const
  const unix = { family: 'unix', path: '/run/app.sock' } as const
  const listeningOn = (): string => 'mine'

  it('describes an internet address', () => {
    expect(WhereToListen.create({ address: inet, listeningOn }).target).to.deep.equal({ kind: 'inet', host: '127.0.0.1', port: 0 })
  })

  it('describes a unix address', () => {
    expect(WhereToListen.create({ address: unix, listeningOn }).target).to.deep.equal({ kind: 'unix', path: '/run/app.sock' })
  })

  it('leaves listeningOn to its caller, and does not call it', () => {
    const where = WhereToListen.create({ address: inet, listeningOn: () => expect.fail('called') })
    expect(where.listeningOn).to.be.a('function')
    expect(WhereToListen.create({ address: inet, listeningOn }).listeningOn(inet as never)).to.equal('mine')
  })

  refuses('port', ACTION, BAD_PORTS, (port) => WhereToListen.create({ address: { ...inet, port: port as number }, listeningOn }))
  refuses('path', ACTION, BAD_PATHS, (path) => WhereToListen.create({ address: { ...unix, path: path as string }, listeningOn }))
  refuses('address', ACTION, [undefined, null, 'localhost', { ...inet, address: 'localhost' }], (address) =>
    WhereToListen.create({ address: address as never, listeningOn })
  )
  refuses('listeningOn', ACTION, [undefined, null, 8_080], (value) => WhereToListen.create({ address: inet, listeningOn: value as never }))
})
