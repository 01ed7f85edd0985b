import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { connect, TLSSocket } from 'node:tls'
import { inspect } from 'node:util'
import { expect } from 'chai'
import { TlsError } from '../../src/errors.ts'
import { checkTlsContext, contextForOf, isTlsContext, serverTerms } from '../../src/tls/context.ts'
import type { TlsContextOptions } from '../../src/tls.ts'
import { TlsContext } from '../../src/tls-context.ts'
import { expectRefusal } from '../helpers/bad-input.ts'
import { type Certificates, type Issued, useCertificates } from '../helpers/certificates.ts'
import { runNode } from '../helpers/programs.ts'

const CREATE = 'Cannot create a TLS context'
const REPLACE = 'Cannot replace the certificate'

describe('TlsContext', () => {
  let made: Certificates

  before(function () {
    made = useCertificates(this)
  })

  // What is no good, by what a message must say of it. Functions, since certificates are made when the tests run.
  const bad: Record<string, [() => Partial<TlsContextOptions>, RegExp]> = {
    'the key of another certificate': [
      () => ({ cert: made.a.cert, key: made.b.key }),
      /'key' must be the key of 'cert'.*another.*'CN=a\.test'/
    ],
    'an expired certificate': [
      () => made.expired,
      /'cert' must be valid now: received one for 'CN=a\.test' that expired at 2021-01-01T00:00:00\.000Z/
    ],
    'a certificate that is not valid yet': [() => made.notYetValid, /'cert' must be valid now.*not valid before 2044-01-01T00:00:00\.000Z/],
    'half a certificate': [
      () => ({ ...made.a2, cert: made.a2.cert.slice(0, 300) }),
      /'cert' must be whole.*300 characters without the END line/
    ],
    'half an END line': [() => ({ ...made.a2, cert: made.a2.cert.trimEnd().slice(0, -3) }), /'cert' must be whole.*without the END line/],
    'half a key': [() => ({ ...made.a2, key: made.a2.key.slice(0, 100) }), /'key' must be a private key in PEM: received 100 characters/],
    'an empty certificate': [() => ({ ...made.a, cert: '' }), /'cert' must be whole certificates in PEM: received ''/],
    'a blank certificate': [() => ({ ...made.a, cert: '\n \n' }), /'cert' must be whole certificates in PEM: received ''/],
    'an empty key': [() => ({ ...made.a, key: '' }), /'key' must be a private key in PEM: received ''/],
    'bytes that are no PEM': [
      () => ({ ...made.a, cert: Buffer.from('hello') }),
      /'cert' must be whole certificates in PEM: received 5 characters/
    ],
    'a key where a certificate should be': [() => ({ ...made.a, cert: made.a.key }), /'cert' must be whole certificates in PEM/],
    'an encrypted key without a passphrase': [() => ({ ...made.a, key: made.encryptedKey }), /'key' must come with its 'passphrase'/],
    'an encrypted key with another passphrase': [
      () => ({ ...made.a, key: made.encryptedKey, passphrase: 'wrong' }),
      /'key' must be a private key in PEM that 'passphrase' opens/
    ],
    'a chain that is cut off': [() => ({ ...made.chained, cert: made.chained.cert.trimEnd().slice(0, -40) }), /'cert' must be whole/],
    'a chain cut off in a BEGIN line': [
      () => ({ ...made.a, cert: `${made.a.cert}-----BEGIN CERTIF` }),
      /'cert' must be whole.*end inside '-----BEGIN CERTIF'/
    ],
    'a chain with a second certificate that is garbage': [
      () => ({ ...made.a, cert: `${made.a.cert}-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n` }),
      /certificate 2 cannot be read/
    ],
    'a chain of which an upper part has expired': [() => ({ ...made.a, cert: made.a.cert + made.expired.cert }), /expired at 2021/],
    'authorities that are no certificates': [
      () => ({ ...made.a, ca: 'nobody' }),
      /'ca' must be whole certificates in PEM: received 6 characters/
    ],
    'ciphers that nobody knows': [() => ({ ...made.a, secureContext: { ciphers: 'NO-SUCH' } }), /no cipher match/i]
  }

  describe('create', () => {
    it('takes text and bytes, a chain, an encrypted key, and a certificate with its key in one file', () => {
      for (const options of [
        made.a,
        { cert: Buffer.from(made.a.cert), key: Buffer.from(made.a.key) },
        { cert: new TextEncoder().encode(made.a.cert), key: new TextEncoder().encode(made.a.key) },
        made.chained,
        { cert: made.a.cert, key: made.encryptedKey, passphrase: made.passphrase },
        { cert: made.a.key + made.a.cert, key: made.a.key + made.a.cert },
        { cert: `# of ours\r\n${made.a.cert.replaceAll('\n', '\r\n')}`, key: made.a.key },
        { ...made.rsa, ca: [made.ca.cert, Buffer.from(made.strangersCa.cert)], alpn: ['imap'], minVersion: 'TLSv1.3' as const }
      ]) {
        expect(TlsContext.create(options)).to.have.property('validTo')
      }
    })

    for (const [name, [options, message]] of Object.entries(bad)) {
      it(`refuses ${name}`, () => {
        expect(() => TlsContext.create(options() as TlsContextOptions))
          .to.throw(TlsError, message)
          .with.property('code', 'ERR_TLS')
      })
    }

    it('begins each refusal with what cannot be done, and quotes no key', () => {
      for (const [options] of Object.values(bad)) {
        try {
          TlsContext.create(options() as TlsContextOptions)
        } catch (error) {
          expect((error as Error).message.startsWith(CREATE)).to.equal(true)
          for (const line of made.a.key.split('\n').slice(1, -2)) expect(inspect(error)).not.to.include(line)
        }
      }
    })

    for (const [name, values] of Object.entries({
      minVersion: ['TLSv1.1', '1.3', 42, null],
      clientCert: ['yes', true, null],
      closeNotify: ['never', false],
      contextFor: ['a.test', {}],
      alpn: ['imap', []],
      ca: [[]]
    })) {
      for (const value of values) {
        it(`refuses ${inspect(value)} as ${name}`, () => {
          expect(() => TlsContext.create({ ...made.a, [name]: value }))
            .to.throw(Error)
            .that.satisfies((error: unknown) => {
              expectRefusal(error, name, CREATE, value)
              return true
            })
        })
      }
    }

    it('refuses ALPN names that are empty or have 256 bytes, and takes those of 1 and of 255', () => {
      for (const name of ['', 'x'.repeat(256), 'ü'.repeat(128)]) {
        expect(() => TlsContext.create({ ...made.a, alpn: ['ok', name] })).to.throw(
          RangeError,
          `${CREATE} as 'alpn' must have names of 1 to 255 bytes: received ${Buffer.byteLength(name)} bytes, ${inspect(name)}`
        )
      }
      TlsContext.create({ ...made.a, alpn: ['x', 'x'.repeat(255)] })
    })

    it('refuses what is no PEM at all, without quoting it', () => {
      for (const value of [undefined, null, 42, {}, ['x']]) {
        expect(() => TlsContext.create({ ...made.a, cert: value as never })).to.throw(TypeError, `${CREATE} as 'cert' must be PEM`)
        expect(() => TlsContext.create({ ...made.a, key: value as never })).to.throw(TypeError, `${CREATE} as 'key' must be PEM`)
      }
      expect(() => TlsContext.create({ ...made.a, passphrase: 42 as never })).to.throw(TypeError, 'received a number')
      expect(() => TlsContext.create({ ...made.a, ca: ['', 42] as never })).to.throw(TypeError, 'received a number')
      for (const options of [undefined, null, 42]) expect(() => TlsContext.create(options as never)).to.throw(TypeError, "'options'")
    })

    it("refuses in 'secureContext' what has an option of its own", () => {
      for (const name of ['cert', 'key', 'passphrase', 'ca', 'minVersion', 'ticketKeys', 'pfx']) {
        expect(() => TlsContext.create({ ...made.a, secureContext: { [name]: 'x' } })).to.throw(TypeError, `must not have '${name}'`)
      }
      expect(() => TlsContext.create({ ...made.a, secureContext: 'x' as never })).to.throw(TypeError, "'secureContext' must be an object")
    })
  })

  it('knows the earliest end in the chain', () => {
    const { a } = made
    expect(TlsContext.create(a).validTo).to.deep.equal(new Date('2045-01-01T00:00:00Z'))
    // The CA's certificate, made today, is the first of these to expire.
    const chain = TlsContext.create({ ...a, cert: a.cert + made.ca.cert })
    expect(chain.validTo.getTime()).to.be.lessThan(Date.parse('2045-01-01T00:00:00Z'))
  })

  it('shows users its public members and nothing else', () => {
    const context = TlsContext.create(made.a)
    expect(inspect(context)).to.equal('TlsContext { validTo: 2045-01-01T00:00:00.000Z }')
    const names = [...Object.getOwnPropertyNames(context), ...Object.getOwnPropertyNames(Object.getPrototypeOf(context))]
    expect(names.sort()).to.deep.equal(['constructor', 'replace', 'validTo'])
  })

  it('takes a copy of its options', () => {
    const alpn = ['imap']
    const options = { ...made.a, alpn }
    const context = TlsContext.create(options)
    alpn.push('smtp')
    options.alpn = ['x']
    expect(serverTerms(context).options.ALPNProtocols).to.deep.equal(['imap'])
  })

  it('is told from everything else', () => {
    const context = TlsContext.create(made.a)
    expect(isTlsContext(context)).to.equal(true)
    for (const other of [undefined, null, {}, { replace() {}, validTo: new Date() }, made.a, 'yes']) {
      expect(isTlsContext(other)).to.equal(false)
      expect(() => checkTlsContext('Cannot listen', 'tls', other)).to.throw(
        TypeError,
        "Cannot listen as 'tls' must be made by TlsContext.create"
      )
    }
    expect(() => checkTlsContext('Cannot listen', 'tls', made.a)).to.throw(TypeError, 'received { cert: …, key: … }')
  })

  it('fills in the defaults, and keeps what is given', () => {
    expect(serverTerms(TlsContext.create(made.a))).to.include({ clientCert: 'none', closeNotify: 'required' })
    const contextFor = () => undefined
    const context = TlsContext.create({ ...made.a, clientCert: 'required', closeNotify: 'optional', contextFor })
    expect(serverTerms(context)).to.include({ clientCert: 'required', closeNotify: 'optional' })
    expect(contextForOf(context)).to.equal(contextFor)
  })

  describe('replace', () => {
    for (const [name, [options, message]] of Object.entries(bad)) {
      if (name.startsWith('ciphers')) continue
      it(`throws and changes nothing for ${name}`, () => {
        const context = TlsContext.create(made.b)
        const before = serverTerms(context)
        const { validTo } = context
        expect(() => context.replace(options() as Issued))
          .to.throw(TlsError, message)
          .with.property('message')
          .that.satisfies((text: string) => text.startsWith(REPLACE))
        expect(serverTerms(context).secureContext).to.equal(before.secureContext)
        expect(context.validTo).to.deep.equal(validTo)
      })
    }

    it('throws and changes nothing if an argument has the wrong type', () => {
      const context = TlsContext.create(made.b)
      const { secureContext } = serverTerms(context)
      for (const identity of [undefined, null, 'x', {}, { cert: made.a.cert }]) {
        expect(() => context.replace(identity as never)).to.throw(TypeError, REPLACE)
      }
      expect(serverTerms(context).secureContext).to.equal(secureContext)
    })

    it('forgets the passphrase of the key before', () => {
      const context = TlsContext.create({ cert: made.a.cert, key: made.encryptedKey, passphrase: made.passphrase })
      expect(() => context.replace({ cert: made.a.cert, key: made.encryptedKey })).to.throw(TlsError, 'passphrase')
      context.replace(made.a2)
    })

    // Over Node's own server, whose handshakes take the context that the holder has.
    for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
      describe(`over ${maxVersion}`, () => {
        it('holds for every handshake that starts later, and sessions survive it', async () => {
          const context = TlsContext.create({ ...made.a, secureContext: { maxVersion } })
          const first = await shake(context)
          expect(first).to.include({ isResumed: false, serial: serial(made.a) })
          context.replace(made.a2)
          expect(await shake(context)).to.include({ isResumed: false, serial: serial(made.a2) })
          expect(await shake(context, first.session)).to.include({ isResumed: true })
        })

        it('ends sessions if ca changes, and keeps an omitted one', async () => {
          const context = TlsContext.create({ ...made.a, ca: made.ca.cert, secureContext: { maxVersion } })
          let { session } = await shake(context)
          context.replace({ ...made.a2, ca: Buffer.from(made.ca.cert) })
          const same = await shake(context, session)
          expect(same.isResumed).to.equal(true)
          session = (await shake(context)).session
          context.replace({ ...made.a, ca: made.strangersCa.cert })
          expect(await shake(context, session)).to.include({ isResumed: false })
          session = (await shake(context)).session
          context.replace(made.a2)
          expect(await shake(context, session)).to.include({ isResumed: true })
        })

        it('takes up no session of another context', async () => {
          const { session } = await shake(TlsContext.create({ ...made.a, secureContext: { maxVersion } }))
          const other = TlsContext.create({ ...made.a, clientCert: 'required', secureContext: { maxVersion } })
          expect(await shake(other, session)).to.include({ isResumed: false })
        })
      })
    }

    it('keeps no old context: thousands of replacements take no memory', async function () {
      this.timeout(60_000)
      const { stdout, stderr } = await runNode(['--expose-gc', '--input-type=module', '--eval', REPLACING, made.directory], {
        killAfter: 55_000
      })
      expect(stderr).to.equal('')
      expect(Number(stdout)).to.be.lessThan(20 * 1024 * 1024)
    })
  })

  interface Shaken {
    readonly isResumed: boolean
    readonly serial: string | undefined
    readonly session: Buffer | undefined
  }

  /** A handshake of Node's own client with Node's own server that takes the context as it is now. */
  async function shake(context: TlsContext, session?: Buffer): Promise<Shaken> {
    const { secureContext } = serverTerms(context)
    const server = createServer((raw) => {
      const served = new TLSSocket(raw, { isServer: true, secureContext })
      served.on('error', () => {}).resume()
      served.write('x')
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    const socket = connect({ port, host: '127.0.0.1', servername: 'a.test', ca: made.ca.cert, ...(session && { session }) })
    let fresh: Buffer | undefined
    socket.on('session', (value) => {
      fresh = value
    })
    const data = once(socket, 'data')
    await once(socket, 'secureConnect')
    await data
    const result = { isResumed: socket.isSessionReused(), serial: socket.getPeerX509Certificate()?.serialNumber, session: fresh }
    socket.destroy()
    await once(socket, 'close')
    await new Promise((resolve) => server.close(resolve))
    return result
  }
})

function serial({ cert }: Issued): string {
  // Loaded by Node.js from the certificate itself.
  return new X509Certificate(cert).serialNumber
}

// Prints by how much the resident memory has grown.
const REPLACING = `
  import { readFileSync } from 'node:fs'
  import { TlsContext } from 'it-tcp'
  const directory = process.argv[1]
  const read = (name) => ({ cert: readFileSync(directory + '/' + name + '.pem'), key: readFileSync(directory + '/' + name + '.key') })
  const [a, a2] = [read('a'), read('a2')]
  const context = TlsContext.create(a)
  async function replace(count) {
    for (let index = 0; index < count; index++) {
      context.replace(index % 2 === 0 ? a : a2)
      if (index % 250 !== 0) continue
      gc()
      await new Promise((resolve) => setImmediate(resolve))
    }
    gc()
  }
  await replace(750)
  const before = process.memoryUsage().rss
  await replace(2_000)
  console.log(process.memoryUsage().rss - before)
`
