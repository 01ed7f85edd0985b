import { inspect } from 'node:util'
import FakeTimers from '@sinonjs/fake-timers'
import { expect } from 'chai'
import { TlsError } from '../../src/errors.ts'
import { clientTerms } from '../../src/tls/client-options.ts'
import { TlsContext } from '../../src/tls-context.ts'
import { expectRefusal, refuses } from '../helpers/bad-input.ts'
import { type Certificates, useCertificates } from '../helpers/certificates.ts'

const ACTION = 'Cannot connect'

describe('clientTerms', () => {
  let made: Certificates

  before(function () {
    made = useCertificates(this)
  })

  it('fills in the defaults, and verifies the host dialled', () => {
    const terms = clientTerms(ACTION, true, 'A.test.')
    expect(terms).to.deep.include({
      serverName: { name: 'a.test', isAddress: false },
      alpn: undefined,
      verify: true,
      closeNotify: 'required'
    })
    expect(clientTerms(ACTION, {}, '::1').serverName).to.deep.equal({ name: '::1', isAddress: true })
  })

  it('takes the name that is given before the host dialled', () => {
    const tls = { serverName: 'B.test', verify: false, alpn: ['x'], closeNotify: 'optional' as const }
    expect(clientTerms(ACTION, tls, 'a.test')).to.deep.include({
      serverName: { name: 'b.test', isAddress: false },
      verify: false,
      alpn: ['x'],
      closeNotify: 'optional'
    })
    expect(clientTerms(ACTION, tls, undefined).serverName.name).to.equal('b.test')
  })

  it('wants a name where no host is dialled', () => {
    expect(() => clientTerms(ACTION, true, undefined)).to.throw(
      TypeError,
      "Cannot connect as 'serverName' must be a host name where none is dialled"
    )
  })

  it('makes one context for options that say the same, and another for others', () => {
    const one = clientTerms(ACTION, { ca: made.ca.cert }, 'a.test')
    const same = clientTerms(ACTION, { ca: made.ca.cert, serverName: 'c.test' }, 'b.test')
    expect(same.secureContext).to.equal(one.secureContext)
    expect(same.fingerprint).to.equal(one.fingerprint)
    for (const tls of [true, { ca: made.strangersCa.cert }, { ca: made.ca.cert, verify: false }] as const) {
      expect(clientTerms(ACTION, tls, 'a.test').fingerprint).not.to.equal(one.fingerprint)
    }
  })

  it('sees what was changed in options that it has seen before', () => {
    const tls = { ca: made.ca.cert }
    const { fingerprint } = clientTerms(ACTION, tls, 'a.test')
    tls.ca = made.strangersCa.cert
    expect(clientTerms(ACTION, tls, 'a.test').fingerprint).not.to.equal(fingerprint)
  })

  refuses('tls', ACTION, ['yes', 1, null, undefined, false], (tls) => clientTerms(ACTION, tls, 'a.test'))

  it("refuses a server's TlsContext", () => {
    const context = TlsContext.create(made.a)
    expect(() => clientTerms(ACTION, context, 'a.test'))
      .to.throw(TypeError)
      .that.satisfies((error: unknown) => {
        expectRefusal(error, 'tls', ACTION, context)
        return true
      })
  })

  for (const [name, values] of Object.entries({
    serverName: ['a.test..', 'a.test\0', '127.0.0.1', 42],
    verify: ['no', 0, null],
    minVersion: ['TLSv1'],
    closeNotify: ['maybe'],
    alpn: ['imap', []],
    secureContext: ['x', null]
  })) {
    for (const value of values) {
      it(`refuses ${inspect(value)} as ${name}`, () => {
        expect(() => clientTerms(ACTION, { [name]: value }, 'a.test'))
          .to.throw(Error)
          .that.satisfies((error: unknown) => {
            expectRefusal(error, name, ACTION, value)
            return true
          })
      })
    }
  }

  it('refuses a certificate that is no good, each time', () => {
    for (let time = 0; time < 2; time++) {
      expect(() => clientTerms(ACTION, { cert: made.a.cert, key: made.b.key }, 'a.test')).to.throw(
        TlsError,
        "'key' must be the key of 'cert'"
      )
      expect(() => clientTerms(ACTION, made.expired, 'a.test')).to.throw(TlsError, 'expired at 2021')
      expect(() => clientTerms(ACTION, made.notYetValid, 'a.test')).to.throw(TlsError, 'not valid before 2044')
      expect(() => clientTerms(ACTION, { ...made.a, cert: made.a.cert.slice(0, 300) }, 'a.test')).to.throw(
        TlsError,
        'received 300 characters without the END line'
      )
      expect(() => clientTerms(ACTION, { ...made.a, cert: '' }, 'a.test')).to.throw(TlsError, "in PEM: received ''")
      expect(() => clientTerms(ACTION, { ...made.a, key: made.encryptedKey }, 'a.test')).to.throw(
        TlsError,
        "'key' must come with its 'passphrase'"
      )
      for (const ca of ['', made.ca.cert.slice(0, 300)]) {
        expect(() => clientTerms(ACTION, { ca }, 'a.test')).to.throw(TlsError, "'ca' must be whole certificates")
      }
    }
  })

  it('refuses a certificate that was good before and has expired since', () => {
    clientTerms(ACTION, made.a, 'a.test')
    const clock = FakeTimers.install({ now: Date.parse('2045-01-02T00:00:00Z'), toFake: ['Date'] })
    try {
      expect(() => clientTerms(ACTION, made.a, 'a.test')).to.throw(TlsError, 'expired at 2045-01-01')
    } finally {
      clock.uninstall()
    }
    clientTerms(ACTION, made.a, 'a.test')
  })

  it('refuses ALPN names that are empty or have 256 bytes, and takes those of 1 and of 255', () => {
    for (const name of ['', 'x'.repeat(256), 'ü'.repeat(128)]) {
      expect(() => clientTerms(ACTION, { alpn: ['ok', name] }, 'a.test')).to.throw(
        RangeError,
        `${ACTION} as 'alpn' must have names of 1 to 255 bytes: received ${Buffer.byteLength(name)} bytes, ${inspect(name)}`
      )
    }
    clientTerms(ACTION, { alpn: ['x', 'x'.repeat(255)] }, 'a.test')
  })

  it('refuses a certificate without its key, and a key without its certificate', () => {
    expect(() => clientTerms(ACTION, { cert: made.a.cert }, 'a.test')).to.throw(TypeError, "'cert' must come with 'key'")
    expect(() => clientTerms(ACTION, { key: made.a.key }, 'a.test')).to.throw(TypeError, "'key' must come with 'cert'")
  })
})
