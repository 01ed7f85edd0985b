import { Duplex } from 'node:stream'
import { type ConnectionOptions, connect } from 'node:tls'
import { expect } from 'chai'
import { type ClientHello, ClientHelloParser } from '../../src/tls/client-hello.ts'
import { randomFrom } from '../helpers/random.ts'

describe('ClientHelloParser', () => {
  it('reads the name and the protocols of what OpenSSL writes', async () => {
    expect(parse(await helloOf({ servername: 'Mx.Example.test', ALPNProtocols: ['imap', 'h2'] }))).to.deep.equal({
      serverName: 'mx.example.test',
      alpn: ['imap', 'h2']
    })
    expect(parse(await helloOf({ maxVersion: 'TLSv1.2' }))).to.deep.equal({ serverName: undefined, alpn: [] })
  })

  it('reads a hello that comes byte by byte, and asks for more before', async () => {
    const parser = new ClientHelloParser()
    const bytes = await helloOf({ servername: 'a.test' })
    for (const byte of bytes.subarray(0, -1)) expect(parser.push(Uint8Array.of(byte))).to.equal('more')
    expect(parser.push(bytes.subarray(-1))).to.deep.equal({ serverName: 'a.test', alpn: [] })
  })

  for (const size of [1, 3, 40, 300]) {
    it(`reads a hello in records of ${size} bytes`, async () => {
      const bytes = inRecords(await helloOf({ servername: 'a.test', ALPNProtocols: ['x'] }), size)
      expect(parse(bytes)).to.deep.equal({ serverName: 'a.test', alpn: ['x'] })
      const random = randomFrom(size)
      const parser = new ClientHelloParser()
      let result: ReturnType<ClientHelloParser['push']> = 'more'
      for (let at = 0; at < bytes.length; ) {
        const end = at + random(60)
        result = parser.push(bytes.subarray(at, end))
        at = end
      }
      expect(result).to.deep.equal({ serverName: 'a.test', alpn: ['x'] })
    })
  }

  it('takes what comes behind the hello for no part of it', async () => {
    const bytes = Buffer.concat([await helloOf({ servername: 'a.test' }), Buffer.alloc(100, 0xff)])
    expect(parse(bytes)).to.deep.equal({ serverName: 'a.test', alpn: [] })
  })

  for (const [name, bytes] of Object.entries({
    HTTP: Buffer.from('GET / HTTP/1.0\r\n\r\n'),
    'bytes of 0xee': Buffer.alloc(300, 0xee),
    'an application record': Buffer.from('1703030005', 'hex'),
    'SSL 2': Buffer.from('802e0100020015000000100100800200800300', 'hex'),
    'an empty record': Buffer.from('1603010000', 'hex'),
    'a record of 16,385 bytes': Buffer.from('1603014001', 'hex'),
    'another message of the handshake': Buffer.from('160301000402000000', 'hex'),
    'a message of 16 MB': Buffer.from('160301400001ffffff', 'hex'),
    'an extension that is cut off': hello('0000000a0010')
  })) {
    it(`leaves to OpenSSL: ${name}`, () => {
      expect(parse(bytes)).to.equal(undefined)
    })
  }

  it('knows at the first wrong byte that it is no hello', () => {
    expect(new ClientHelloParser().push(Buffer.from('G'))).to.equal(undefined)
    expect(new ClientHelloParser().push(Buffer.from('1602', 'hex'))).to.equal(undefined)
  })

  it('knows no name where a hello has one that no host can have', () => {
    for (const [name, expected] of [
      ['a.test', 'a.test'],
      ['A.TEST.', 'a.test'],
      ['a_b.test', 'a_b.test'],
      ['a.test..', undefined],
      ['a.test\0b.test', undefined],
      ['', undefined],
      ['.', undefined],
      ['127.0.0.1', undefined],
      ['::1', undefined],
      ['a b', undefined],
      ['b\xfccher.test', undefined],
      ['*.test', undefined]
    ] as const) {
      expect(parse(hello(serverName(name))), JSON.stringify(name)).to.deep.equal({ serverName: expected, alpn: [] })
    }
  })

  it('takes a hello without extensions', () => {
    expect(parse(hello())).to.deep.equal({ serverName: undefined, alpn: [] })
  })

  it('takes every cut and every wrong byte without throwing', async () => {
    const bytes = await helloOf({ servername: 'a.test', ALPNProtocols: ['x'] })
    const random = randomFrom(1)
    for (let round = 0; round < 3_000; round++) {
      const damaged = Uint8Array.from(bytes.subarray(0, 1 + random(bytes.length)))
      for (let count = random(4); count > 0; count--) damaged[random(damaged.length)] = random(256)
      const result = new ClientHelloParser().push(damaged)
      if (typeof result === 'object') expect(result).to.have.all.keys('serverName', 'alpn')
    }
  })

  it('looks at each byte once: 16 KiB in records of one byte', () => {
    const message = Buffer.alloc(16_384)
    message.set([1, 0, 0x3f, 0xfc])
    const bytes = inRecords(Buffer.concat([Buffer.from('1603010000', 'hex'), message]), 1)
    const parser = new ClientHelloParser()
    const start = performance.now()
    let result: unknown
    for (const byte of bytes) result = parser.push(Uint8Array.of(byte))
    expect(result).to.deep.equal({ serverName: undefined, alpn: [] })
    expect(performance.now() - start).to.be.lessThan(2_000)
  })
})

function parse(bytes: Uint8Array): ClientHello | 'more' | undefined {
  return new ClientHelloParser().push(bytes)
}

/** The first bytes that Node's client sends. */
function helloOf(options: ConnectionOptions): Promise<Buffer> {
  return new Promise((resolve) => {
    const socket = new Duplex({
      read() {},
      write(chunk: Buffer) {
        resolve(chunk)
        setImmediate(() => client.destroy())
      }
    })
    const client = connect({ socket, ...options }).on('error', () => {})
  })
}

/** The same message in records of `size` bytes. */
function inRecords(bytes: Buffer, size: number): Buffer {
  const message = bytes.subarray(5)
  const records: Buffer[] = []
  for (let at = 0; at < message.length; at += size) {
    const part = message.subarray(at, at + size)
    records.push(Buffer.from([22, 3, 1, part.length >> 8, part.length & 0xff]), part)
  }
  return Buffer.concat(records)
}

/** A hello with these extensions, in hexadecimal. */
function hello(extensions?: string): Buffer {
  const tail = extensions === undefined ? '' : vector(extensions, 2)
  const body = `0303${'00'.repeat(32)}00${vector('1301', 2)}${vector('00', 1)}${tail}`
  return Buffer.from(`160301${vector(`01${vector(body, 3)}`, 2)}`, 'hex')
}

function serverName(name: string): string {
  return `0000${vector(vector(`00${vector(Buffer.from(name, 'latin1').toString('hex'), 2)}`, 2), 2)}`
}

function vector(hex: string, size: number): string {
  return (hex.length / 2).toString(16).padStart(2 * size, '0') + hex
}
