import { expect } from 'chai'
import { BufferAgeLimitError, IdleTimeoutError, LimitExceededError } from '../../src/errors.ts'
import { type Certificates, useCertificates } from '../helpers/certificates.ts'
import { rejection } from '../helpers/rejection.ts'
import { useScope } from '../helpers/scope.ts'
import { VERSIONS } from '../helpers/tls-ends.ts'
import { plainPair, secure, tlsPair } from '../helpers/tls-pair.ts'
import { turns, until } from '../helpers/until.ts'

for (const version of VERSIONS) {
  describe(`the limits over ${version}`, () => {
    let made: Certificates

    before(function () {
      made = useCertificates(this)
    })

    const scope = useScope()

    it('bytesRead, bytesWritten and bytesPending mean what is encrypted', async () => {
      const { client, server } = await tlsPair(scope, made, { version })
      for (const size of [1, 20_000, 500_000]) client.writer.write(new Uint8Array(size))
      expect(client.writer.bytesWritten + client.writer.bytesPending).to.equal(520_001)
      await client.writer.flushed()
      expect(client.writer).to.include({ bytesWritten: 520_001, bytesPending: 0 })
      await server.reader.readExactly(520_001)
      expect(server.reader.bytesRead).to.equal(520_001)
    })

    it('flushed() waits while the peer does not read', async () => {
      const { client, server } = await tlsPair(scope, made, { version })
      client.writer.write(new Uint8Array(16_000_000))
      let isFlushed = false
      const flushed = client.writer.flushed().then(() => {
        isFlushed = true
      })
      await turns(30)
      expect(isFlushed).to.equal(false)
      expect(client.writer.bytesPending).to.be.greaterThan(0)
      await server.reader.readExactly(16_000_000)
      await flushed
    })

    it('readerBufferSize holds the peer back', async () => {
      const { client, server } = await tlsPair(scope, made, { version, serverSettings: { readerBufferSize: 10_000 } })
      client.writer.write(new Uint8Array(16_000_000))
      await until(() => server.reader.bytesAvailable >= 10_000)
      await turns(30)
      // One chunk, and what came in the same read behind it, have eight full records at most.
      expect(server.reader.bytesAvailable).to.be.lessThan(10_000 + 131_072)
      expect(client.writer.bytesPending).to.be.greaterThan(0)
      expect(await server.reader.discard({ signal: AbortSignal.timeout(1) }).catch(() => 0)).to.equal(0)
      client.abort()
      await until(() => server.signal.aborted || server.reader.bytesAvailable >= 0)
    })

    it('bufferAgeLimit ends a peer that takes nothing', async () => {
      const { client } = await tlsPair(scope, made, {
        version,
        clientSettings: { bufferAgeLimit: 100 },
        serverSettings: { readerBufferSize: 1 }
      })
      client.writer.write(new Uint8Array(32_000_000))
      expect(await rejection(client.writer.flushed())).to.be.instanceOf(BufferAgeLimitError)
      await client.closed
    })

    it('bufferAgeLimit looks at what the carrier took: one large write to a slow peer goes on', async () => {
      const { client, server } = await tlsPair(scope, made, {
        version,
        clientSettings: { bufferAgeLimit: 700 },
        serverSettings: { readerBufferSize: 1 }
      })
      const LENGTH = 48_000_000
      client.writer.write(new Uint8Array(LENGTH))
      const start = performance.now()
      let read = 0
      while (read < LENGTH) {
        const chunk = await server.reader.readExactly(Math.min(1_500_000, LENGTH - read))
        read += (chunk as Uint8Array).byteLength
        const pause = performance.now()
        await until(() => performance.now() - pause > 40)
      }
      expect(performance.now() - start).to.be.greaterThan(1_000)
      await client.writer.flushed()
    })

    it('idleTimeout ends a silent connection, and not a busy one', async () => {
      const pair = await plainPair(scope, { clientSettings: { idleTimeout: 150 } })
      await secure(pair, made, { version })
      const { client, server } = pair
      for (let round = 0; round < 5; round++) {
        const pause = performance.now()
        await until(() => performance.now() - pause > 60)
        server.writer.write('x')
        await client.reader.read()
      }
      expect(await rejection(client.reader.read())).to.be.instanceOf(IdleTimeoutError)
    })

    it('maxLength, readInto, peek and lines work as ever', async () => {
      const { client, server } = await tlsPair(scope, made, { version })
      client.writer.write(`one\ntwo\n${'x'.repeat(100)}`)
      expect(Buffer.from((await server.reader.peek(3)) as Uint8Array).toString()).to.equal('one')
      expect(await server.reader.readLine()).to.equal('one')
      const buffer = Buffer.alloc(4)
      expect(await server.reader.readInto(buffer)).to.equal(4)
      expect(buffer.toString()).to.equal('two\n')
      void client.writer.close()
      expect(await rejection(server.reader.readAll({ maxLength: 50 }))).to.be.instanceOf(LimitExceededError)
      expect(await server.reader.readAll()).to.have.length(100)
    })

    it('what arrives in bulk arrives whole', async () => {
      const { client, server } = await tlsPair(scope, made, { version })
      const LENGTH = 10_000_000
      const data = new Uint8Array(LENGTH).map((_, index) => (index * 31) >> 3)
      void client.writer([data.subarray(0, 3_333_333), data.subarray(3_333_333)]).catch(() => {})
      let at = 0
      for await (const chunk of server.reader) {
        if (Buffer.compare(chunk, data.subarray(at, at + chunk.byteLength)) !== 0) throw new Error(`Other bytes at ${at}`)
        at += chunk.byteLength
      }
      expect(at).to.equal(LENGTH)
    })
  })
}
