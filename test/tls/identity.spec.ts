import { X509Certificate } from 'node:crypto'
import { inspect } from 'node:util'
import { expect } from 'chai'
import { checkServerName, dateError, identityError, serverNameOf } from '../../src/tls/identity.ts'
import { refuses } from '../helpers/bad-input.ts'
import { type Certificates, useCertificates } from '../helpers/certificates.ts'

const ACTION = 'Cannot connect'

describe('serverNameOf', () => {
  it('gives one normal form for case, one trailing dot and internationalised names', () => {
    for (const [host, name] of [
      ['a.test', 'a.test'],
      ['A.Test', 'a.test'],
      ['a.test.', 'a.test'],
      ['BÜCHER.test.', 'xn--bcher-kva.test'],
      ['xn--bcher-kva.test', 'xn--bcher-kva.test'],
      ['a。test', 'a.test'],
      ['localhost', 'localhost'],
      ['a_b.test', 'a_b.test']
    ] as const) {
      expect(serverNameOf(ACTION, host), host).to.deep.equal({ name, isAddress: false })
    }
  })

  it('knows an address in every spelling that a resolver takes', () => {
    for (const [host, name] of [
      ['127.0.0.1', '127.0.0.1'],
      ['0x7f.1', '127.0.0.1'],
      ['127.1', '127.0.0.1'],
      ['::1', '::1'],
      ['fe80::1%eth0', 'fe80::1']
    ] as const) {
      expect(serverNameOf(ACTION, host), host).to.deep.equal({ name, isAddress: true })
    }
  })

  refuses(
    'host',
    ACTION,
    ['', '.', 'a..test', 'a.test..', '.a.test', 'a.test\0.b.test', 'a.test/b', 'x'.repeat(64), `${'x.'.repeat(127)}xx`],
    (host) => serverNameOf(ACTION, host as string)
  )
})

describe('checkServerName', () => {
  it('takes a host name', () => {
    expect(checkServerName(ACTION, 'MX.example.')).to.deep.equal({ name: 'mx.example', isAddress: false })
  })

  // The last ones are names only for who reads a URL: domainToASCII() would make 'a.test' of them, or 'ab.test'.
  const bad = ['', 'a.test..', 'a.test\0', 'a.test\0.b.test', '127.0.0.1', '::1', '0x7f.1', '127.1', '[::1]', 42, null, {}]
  refuses(
    'serverName',
    ACTION,
    [...bad, 'a.test/b', 'a.test?b', 'a.test#b', 'a.test:443', 'b@a.test', '%61.test', 'a\tb.test', 'a b.test', '*.test'],
    (name) => checkServerName(ACTION, name)
  )
})

describe('identityError', () => {
  let made: Certificates

  before(function () {
    made = useCertificates(this)
  })

  for (const [host, holds] of Object.entries({
    'a.test': true,
    'A.TEST': true,
    'a.test.': true,
    'bücher.test': true,
    'BÜCHER.test.': true,
    'x.wild.test': true,
    'X.WILD.test.': true,
    'x.y.wild.test': false,
    'wild.test': false,
    '127.0.0.1': true,
    '0x7f.1': true,
    '127.0.0.2': false,
    '::1': true,
    '::2': false,
    'b.test': false,
    'xa.test': false
  })) {
    it(`finds that a certificate is ${holds ? '' : 'not '}for ${inspect(host)}`, () => {
      const error = identityError(serverNameOf(ACTION, host), new X509Certificate(made.a.cert))
      if (holds) expect(error).to.equal(undefined)
      else expect(error).to.have.property('code', 'ERR_TLS_CERT_ALTNAME_INVALID')
    })
  }

  it('finds that a certificate has expired since, or is not valid yet', () => {
    const name = serverNameOf(ACTION, 'a.test')
    expect(identityError(name, new X509Certificate(made.expired.cert))).to.have.property('code', 'CERT_HAS_EXPIRED')
    expect(identityError(name, new X509Certificate(made.notYetValid.cert))).to.have.property('code', 'CERT_NOT_YET_VALID')
    expect(dateError(new X509Certificate(made.a.cert))).to.equal(undefined)
  })
})
