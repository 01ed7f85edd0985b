import { expect } from 'chai'
import {
  formatAddress,
  formatTarget,
  parseConnectAddress,
  parseListenAddress,
  parseNumericAddress,
  withMode,
  withSource
} from '../../cli/address.ts'
import { UsageError } from '../../cli/failure.ts'

describe('addresses on the command line', () => {
  for (const [text, listen, connect] of [
    ['8080', { kind: 'inet', port: 8080 }, { host: 'localhost', port: 8080 }],
    [':8080', { kind: 'inet', port: 8080 }, { host: 'localhost', port: 8080 }],
    ['example.com:80', { kind: 'inet', port: 80, host: 'example.com' }, { host: 'example.com', port: 80 }],
    ['10.0.0.1:1', { kind: 'inet', port: 1, host: '10.0.0.1' }, { host: '10.0.0.1', port: 1 }],
    ['[::1]:65535', { kind: 'inet', port: 65_535, host: '::1' }, { host: '::1', port: 65_535 }],
    ['./app.sock', { kind: 'unix', path: './app.sock' }, { family: 'unix', path: './app.sock' }],
    ['/run/app:80', { kind: 'unix', path: '/run/app:80' }, { family: 'unix', path: '/run/app:80' }],
    ['unix:app.sock', { kind: 'unix', path: 'app.sock' }, { family: 'unix', path: 'app.sock' }],
    ['[fe80::1%lo]:80', { kind: 'inet', port: 80, host: 'fe80::1%lo' }, { host: 'fe80::1%lo', port: 80 }],
    ['unix:///run/app.sock', { kind: 'unix', path: '/run/app.sock' }, { family: 'unix', path: '/run/app.sock' }],
    ['unix:/run/app.sock', { kind: 'unix', path: '/run/app.sock' }, { family: 'unix', path: '/run/app.sock' }]
  ] as const) {
    it(`reads ${text}`, () => {
      expect(parseListenAddress(text).target).to.deep.equal(listen)
      expect(parseConnectAddress(text).target).to.deep.equal(connect)
    })
  }

  it('takes port 0 to listen on, which lets the system choose, and not to connect to', () => {
    expect(parseListenAddress('localhost:0').target).to.deep.equal({ kind: 'inet', port: 0, host: 'localhost' })
    expect(() => parseConnectAddress('localhost:0')).to.throw(UsageError, "must have a port from 1 to 65535: received 'localhost:0'")
  })

  it('takes an inherited descriptor to listen on, and not to connect to', () => {
    expect(parseListenAddress('fd:3').target).to.deep.equal({ kind: 'descriptor', fd: 3 })
    for (const text of ['fd:', 'fd:x', 'fd:-1', 'fd:1.5', 'fd:99999999999']) {
      expect(() => parseListenAddress(text)).to.throw(
        UsageError,
        `must be fd: and the number of a descriptor, such as fd:3: received '${text}'`
      )
    }
    expect(() => parseConnectAddress('fd:3')).to.throw(UsageError, 'must be an address to connect to')
  })

  it('takes what systemd has handed over to listen on, and says that it has handed over nothing', () => {
    for (const text of ['inherited', 'inherited:web']) {
      expect(() => parseListenAddress(text)).to.throw(UsageError, 'must be where to listen: systemd has handed over no socket')
      expect(() => parseConnectAddress(text)).to.throw(UsageError, 'must be an address to connect to')
    }
  })

  const FORMS = 'must be PORT, HOST:PORT, [IPV6]:PORT, or a path with a slash in it'
  for (const [text, message] of [
    ['', `${FORMS}: received ''`],
    ['localhost', `${FORMS}: received 'localhost'`],
    ['app.sock', `${FORMS}: received 'app.sock'`],
    ['localhost:', "must have a port from 0 to 65535: received 'localhost:'"],
    ['localhost:http', "must have a port from 0 to 65535: received 'localhost:http'"],
    ['65536', "must have a port from 0 to 65535: received '65536'"],
    ['80x', "must have a port from 0 to 65535: received '80x'"],
    ['1e3', "must have a port from 0 to 65535: received '1e3'"],
    [':-1', `${FORMS}: received ':-1'`],
    ['[]:80', `${FORMS}: received '[]:80'`],
    ['[::1]', `${FORMS}: received '[::1]'`],
    ['::1', "must have a port, with the IPv6 address in brackets, [::1]:8080: received '::1'"],
    ['1:2:3:80', "must have the IPv6 address in brackets, [::1]:8080: received '1:2:3:80'"],
    ['a b:80', `${FORMS}: received 'a b:80'`],
    ['http://localhost:8080/', "must be HOST:PORT, here localhost:8080, not a URL: received 'http://localhost:8080/'"],
    ['https://example.com/a/b', "must be HOST:PORT, here example.com:443, not a URL: received 'https://example.com/a/b'"],
    ['tcp://db:5432', "must be HOST:PORT, here db:5432, not a URL: received 'tcp://db:5432'"],
    ['tcp://db', "must be HOST:PORT, not a URL: received 'tcp://db'"],
    ['http://', "must be HOST:PORT, not a URL: received 'http://'"],
    ['unix://run/app.sock', "must be HOST:PORT, not a URL: received 'unix://run/app.sock'"],
    ['unix:', "must not be empty: received ''"],
    [`/${'x'.repeat(200)}`, 'must have at most']
  ] as const) {
    it(`refuses ${JSON.stringify(text.slice(0, 40))}, and says why`, () => {
      expect(() => parseListenAddress(text)).to.throw(UsageError, message)
      expect(() => parseConnectAddress(text)).to.throw(UsageError, message.replace('0 to', '1 to'))
    })
  }

  it('take a mode where there is a file', () => {
    expect(withMode(parseListenAddress('/run/app.sock'), 0o660).target).to.deep.equal({ kind: 'unix', path: '/run/app.sock', mode: 0o660 })
    for (const text of ['8080', 'fd:3'])
      expect(() => withMode(parseListenAddress(text), 0o660)).to.throw(UsageError, '--mode is only for Unix sockets')
  })

  it('take an address to connect from where there is one', () => {
    const { target, bind } = withSource(parseConnectAddress('db:1'), parseNumericAddress('127.0.0.2'))
    expect([target, bind]).to.deep.equal([{ host: 'db', port: 1 }, { localAddress: '127.0.0.2' }])
    expect(() => withSource(parseConnectAddress('/run/app.sock'), '::1')).to.throw(UsageError, '--source is only for TCP')
    for (const text of ['', 'lo', 'localhost', '127.0.0.1:80', '[::1]', '10.0.0.0/8']) {
      expect(() => parseNumericAddress(text)).to.throw(UsageError, `must be a numeric address without a port: received '${text}'`)
    }
  })

  it('are printed as they can be written', () => {
    expect(formatAddress({ family: 'IPv4', address: '127.0.0.1', port: 80 })).to.equal('127.0.0.1:80')
    expect(formatAddress({ family: 'IPv6', address: '::1', port: 80 })).to.equal('[::1]:80')
    expect(formatAddress({ family: 'unix', path: '/run/app.sock' })).to.equal('/run/app.sock')
    expect(formatAddress({ family: 'unix', path: '' })).to.equal('unix')
    for (const text of ['localhost:80', '[::1]:80', '/run/app.sock']) expect(formatTarget(parseConnectAddress(text))).to.equal(text)
  })
})
