import { expect } from 'chai'
import { checkUnixPath, formatAddress, inetAddress } from '../src/address.ts'

const IS_LINUX = process.platform === 'linux'
const LONGEST = IS_LINUX ? 107 : 103

describe('inetAddress', () => {
  for (const [text, expected] of [
    ['127.0.0.1', { family: 'IPv4', address: '127.0.0.1', port: 80 }],
    ['::1', { family: 'IPv6', address: '::1', port: 80 }],
    ['fe80::1%eth0', { family: 'IPv6', address: 'fe80::1%eth0', port: 80 }],
    ['::ffff:192.0.2.1', { family: 'IPv4', address: '192.0.2.1', port: 80 }],
    ['::FFFF:192.0.2.1', { family: 'IPv4', address: '192.0.2.1', port: 80 }],
    ['::ffff:0:192.0.2.1', { family: 'IPv6', address: '::ffff:0:192.0.2.1', port: 80 }]
  ] as const) {
    it(`reports ${text} as ${expected.family}`, () => {
      expect(inetAddress(text, 80)).to.deep.equal(expected)
    })
  }
})

describe('formatAddress', () => {
  for (const [address, expected] of [
    [{ family: 'IPv4', address: '127.0.0.1', port: 80 }, '127.0.0.1:80'],
    [{ family: 'IPv6', address: '::1', port: 80 }, '[::1]:80'],
    [{ host: 'example.com', port: 443 }, 'example.com:443'],
    [{ host: '::1', port: 443 }, '[::1]:443'],
    [{ family: 'unix', path: '/run/app.sock' }, '/run/app.sock'],
    [{ family: 'unix', path: '\0app' }, '@app'],
    [{ family: 'unix', path: '' }, '(unnamed)']
  ] as const) {
    it(`writes ${expected}`, () => {
      expect(formatAddress(address)).to.equal(expected)
    })
  }
})

describe('checkUnixPath', () => {
  const check = (path: unknown): void => checkUnixPath('Cannot do it', path)

  it(`takes a path of ${LONGEST} bytes`, () => {
    check('/run/app.sock')
    check('relative.sock')
    check('x'.repeat(LONGEST))
  })

  it('refuses a longer path, says the limit and quotes the path', () => {
    const path = 'x'.repeat(LONGEST + 1)
    const message = `Cannot do it as 'path' must have at most ${LONGEST} bytes on this system: received ${LONGEST + 1} bytes, '${path}'`
    expect(() => check(path)).to.throw(RangeError, message)
  })

  it('counts bytes, not characters', () => {
    check('é'.repeat(Math.floor(LONGEST / 2)))
    expect(() => check('é'.repeat(Math.floor(LONGEST / 2) + 1))).to.throw(RangeError, `at most ${LONGEST} bytes`)
  })

  it('refuses what is no path', () => {
    expect(() => check('')).to.throw(RangeError, "Cannot do it as 'path' must not be empty: received ''")
    expect(() => check(undefined)).to.throw(TypeError, "Cannot do it as 'path' must be a string: received undefined")
    expect(() => check(42)).to.throw(TypeError, 'received 42')
    expect(() => check(Buffer.from('/run/app.sock'))).to.throw(TypeError, 'received <Buffer')
    expect(() => check('/run/a\0b')).to.throw(RangeError, "must not contain a NUL: received '/run/a\\x00b'")
  })

  if (IS_LINUX) {
    it('takes an abstract name of 108 bytes, its NUL counted', () => {
      check('\0app')
      check(`\0${'x'.repeat(107)}`)
      expect(() => check(`\0${'x'.repeat(108)}`)).to.throw(RangeError, 'must have at most 108 bytes on this system: received 109 bytes')
    })
  } else {
    it('refuses abstract names', () => {
      expect(() => check('\0app')).to.throw(RangeError, "abstract names are for Linux only: received '\\x00app'")
    })
  }
})
