import { X509Certificate } from 'node:crypto'
import { expect } from 'chai'
import { sessionKey, sessions } from '../../src/tls/sessions.ts'
import { useCertificates } from '../helpers/certificates.ts'

describe('sessions', () => {
  it('keeps 100, each with its certificate and for one use', function () {
    const certificate = new X509Certificate(useCertificates(this).a.cert)
    const keys = Array.from({ length: 101 }, (_, index) => sessionKey(`host-${index}`, 443, 'x'))
    for (const key of keys) sessions.put(key, { session: Buffer.from(key), certificate })
    expect(sessions.size).to.equal(100)
    const [first, ...rest] = keys.map((key) => sessions.take(key))
    expect(first).to.equal(undefined)
    expect(rest[0]).to.deep.equal({ session: Buffer.from(keys[1] as string), certificate })
    expect(sessions.size).to.equal(0)
  })
})

describe('sessionKey', () => {
  it('differs for each name, port, path and options', () => {
    const keys = [
      sessionKey('a.test', 443, 'x'),
      sessionKey('b.test', 443, 'x'),
      sessionKey('a.test', 44, 'x'),
      sessionKey('a.test', '443', 'x'),
      sessionKey('a.test', 443, 'y'),
      sessionKey('a.test"', 443, 'x'),
      sessionKey('a.test', '/run/443', 'x')
    ]
    expect(new Set(keys).size).to.equal(keys.length)
    expect(sessionKey('a.test', 443, 'x')).to.equal(keys[0])
  })
})
