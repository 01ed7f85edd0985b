import { expect } from 'chai'
import { formatAddress, parseConnectAddress, parseListenAddress } from '../../cli/address.ts'
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
    ['unix:/run/app.sock', { kind: 'unix', path: '/run/app.sock' }, { family: 'unix', path: '/run/app.sock' }]
  ] as const) {
    it(`reads ${text}`, () => {
      expect(parseListenAddress(text).target).to.deep.equal(listen)
      expect(parseConnectAddress(text).target).to.deep.equal(connect)
    })
  }

  it('takes port 0 to listen on, which lets the system choose, and not to connect to', () => {
    expect(parseListenAddress('localhost:0').target).to.deep.equal({ kind: 'inet', port: 0, host: 'localhost' })
    expect(() => parseConnectAddress('localhost:0')).to.throw(UsageError, "not a port: '0' in 'localhost:0'; ports here go from 1 to 65535")
  })

  for (const [text, message] of [
    ['', "not an address: ''; write PORT, HOST:PORT, [IPV6]:PORT, or a path with a slash in it"],
    ['localhost', "not an address: 'localhost'; write PORT"],
    ['app.sock', "not an address: 'app.sock'; write PORT"],
    ['localhost:', "not a port: '' in 'localhost:'"],
    ['localhost:http', "not a port: 'http' in 'localhost:http'"],
    ['65536', "not a port: '65536' in '65536'"],
    ['80x', "not a port: '80x' in '80x'"],
    ['1e3', "not a port: '1e3' in '1e3'"],
    [':-1', "not an address: ':-1'"],
    ['[]:80', "not an address: '[]:80'"],
    ['[::1]', "not an address: '[::1]'"],
    ['::1:80', "not an address: '::1:80'; an IPv6 address stands in brackets: [::1]:8080"],
    ['a b:80', "not an address: 'a b:80'"],
    ['unix:', "must not be empty: received ''"],
    [`/${'x'.repeat(200)}`, 'must have at most']
  ] as const) {
    it(`refuses ${JSON.stringify(text.slice(0, 20))}, and says why`, () => {
      expect(() => parseListenAddress(text)).to.throw(UsageError, message)
      expect(() => parseConnectAddress(text)).to.throw(UsageError)
    })
  }

  it('are printed as they can be written', () => {
    expect(formatAddress({ family: 'IPv4', address: '127.0.0.1', port: 80 })).to.equal('127.0.0.1:80')
    expect(formatAddress({ family: 'IPv6', address: '::1', port: 80 })).to.equal('[::1]:80')
    expect(formatAddress({ family: 'unix', path: '/run/app.sock' })).to.equal('/run/app.sock')
    expect(formatAddress({ family: 'unix', path: '' })).to.equal('unix')
  })
})
