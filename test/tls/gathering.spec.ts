import { randomBytes } from 'node:crypto'
import { expect } from 'chai'
import { connect, listen, onPortChosenByOs, toHostAndPort } from '../../src/index.ts'
import { type Certificates, useCertificates } from '../helpers/certificates.ts'
import { useScope } from '../helpers/scope.ts'
import { type Relayed, relayed, type TlsEnd, VERSIONS } from '../helpers/tls-ends.ts'
import { clientOptions, serverContext } from '../helpers/tls-pair.ts'
import { turns, until } from '../helpers/until.ts'

const RECORD = 16_384
const CHUNK = 5 * RECORD

describe('Full records that come one after the other', () => {
  const scope = useScope()
  let made: Certificates

  before(function () {
    made = useCertificates(this)
  })

  const sides = (['client', 'server'] as const).flatMap((to) => (['handle', 'bare'] as const).map((kind) => [to, kind] as const))

  for (const version of VERSIONS) {
    for (const [to, kind] of sides) {
      describe(`over ${version}, to a ${to}${kind === 'bare' ? ', the server without a socket' : ''}`, () => {
        const open = (): Promise<Relayed> => relayed(scope, made, version, to, kind)
        /** What the sender makes of `bytes`, and perhaps its end. */
        const encrypted = async (relay: Relayed, bytes: Uint8Array, ends = false): Promise<Buffer> => {
          relay.hold()
          await relay.sender.write(bytes)
          if (!ends) return await relay.held()
          relay.sender.transport.end()
          return await relay.heldToFin()
        }

        it('are told of together, 80 KiB at once at most, and each chunk has memory of its own', async () => {
          const relay = await open()
          const bytes = randomBytes(40 * RECORD + 7)
          relay.freeze()
          await relay.deliver(await encrypted(relay, bytes))
          await relay.thaw()
          const { receiver } = relay
          await until(() => receiver.length === bytes.length + 1, 'all is there')
          const lengths = receiver.chunks.map(({ byteLength }) => byteLength)
          expect(Math.max(...lengths)).to.equal(CHUNK)
          expect(lengths.length).to.be.below(20)
          expect(new Set(receiver.chunks.map(({ buffer }) => buffer)).size).to.equal(lengths.length)
          expect(Buffer.concat(receiver.chunks).equals(bytes)).to.equal(true)
        })

        it('are what was sent, however many come in a turn', async () => {
          const relay = await open()
          const { receiver } = relay
          const sent: Buffer[] = []
          const memories: Buffer[] = []
          receiver.onReceived = () => memories.push(memoryOf(receiver))
          for (const records of [3, 1, 2, 3, 5, 1, 1, 2, 9, 4, 1]) {
            sent.push(randomBytes(records * RECORD))
            const expected = receiver.length + records * RECORD
            relay.freeze()
            await relay.deliver(await encrypted(relay, sent.at(-1) as Buffer))
            await relay.thaw()
            await until(() => receiver.length === expected, `${records} records are there`)
          }
          // Nothing was written to what had been given away.
          for (const [index, { buffer }] of receiver.chunks.entries()) {
            expect(memories[index]?.equals(Buffer.from(buffer as ArrayBuffer)), `the memory of chunk ${index} is as it was`).to.equal(true)
          }
          expect(Buffer.concat(receiver.chunks).equals(Buffer.concat(sent))).to.equal(true)
        })

        it('come before the end that is right behind them', async () => {
          for (const records of [2, 3, 4, 5, 6, 7]) {
            const relay = await open()
            const { receiver } = relay
            const bytes = randomBytes(records * RECORD)
            relay.freeze()
            await relay.deliver(await encrypted(relay, bytes, true))
            await relay.fin()
            await relay.thaw()
            await until(() => receiver.end, 'the end is told')
            expect(receiver.end).to.equal('orderly')
            expect(receiver.lengthAtEnd).to.equal(bytes.length + 1)
          }
        })

        it('come before a FIN in the place of an end, and before a broken record', async () => {
          for (const [index, behind] of [Buffer.alloc(0), Buffer.from('17030300ff', 'hex'), Buffer.from('this is no record')].entries()) {
            const relay = await open()
            const { receiver } = relay
            const bytes = randomBytes((3 + index) * RECORD)
            relay.freeze()
            await relay.deliver(Buffer.concat([await encrypted(relay, bytes), behind]))
            await relay.fin()
            await relay.thaw()
            await until(() => receiver.end, 'the end is told')
            expect(receiver.end).not.to.equal('orderly')
            expect(receiver.lengthAtEnd).to.equal(bytes.length + 1)
          }
        })

        it('come before a FIN in the place of an end, which is no end either if they leave the reader no room', async () => {
          for (const reads of [1, 2, 3]) {
            const relay = await open()
            const { receiver } = relay
            const one = await encrypted(relay, randomBytes(RECORD))
            await relay.deliver(one)
            const sealed = one.byteLength
            await until(() => receiver.length === RECORD + 1, 'it is there')
            // Reads that are full go on in the same turn, and so come to the FIN.
            const space = reads * 65_536
            const records = Math.floor(space / sealed)
            const first = (space % sealed) - (sealed - RECORD)
            const expected = receiver.length + first + records * RECORD
            receiver.onReceived = () => {
              if (receiver.length === expected) receiver.isStopping = 'for good'
            }
            relay.freeze()
            await relay.deliver(
              Buffer.concat([await encrypted(relay, randomBytes(first)), await encrypted(relay, randomBytes(records * RECORD))])
            )
            await relay.fin()
            await relay.thaw()
            await until(() => receiver.length === expected, 'all is there')
            await turns(5)
            receiver.transport.resume()
            await until(() => receiver.end, 'the end is told')
            expect(receiver.end, `at the end of ${reads} full reads`).to.equal('cut')
          }
        })

        it('wait in the kernel for a reader that has no room, and all of them come', async () => {
          const relay = await open()
          const { receiver } = relay
          receiver.isStopping = true
          const bytes = randomBytes(100 * RECORD)
          void encrypted(relay, bytes).then(relay.deliver)
          await until(() => receiver.length === bytes.length + 1, 'all is there')
          expect(Buffer.concat(receiver.chunks).equals(bytes)).to.equal(true)
        })

        it('leave a reader no more than 128 KiB above what it has room for', async () => {
          for (const before of [0, 1, 2, 3]) {
            const relay = await open()
            const { receiver } = relay
            if (before > 0) await relay.deliver(await encrypted(relay, randomBytes(before * RECORD)))
            await until(() => receiver.length === before * RECORD + 1, 'the first are there')
            receiver.onReceived = () => {
              if (receiver.length >= 65_536) receiver.isStopping = 'for good'
            }
            relay.freeze()
            await relay.deliver(await encrypted(relay, randomBytes(40 * RECORD)))
            await relay.thaw()
            await until(() => receiver.isStopping, 'there is no more room')
            await turns(20)
            expect(receiver.length).to.be.below(65_536 + 131_072)
          }
        })

        it('leave a FIN behind them in the kernel for a reader that has no room, and it is not taken for an end later', async () => {
          const relay = await open()
          const { receiver } = relay
          relay.freeze()
          await relay.deliver(await encrypted(relay, randomBytes(2 * RECORD)))
          await relay.thaw()
          await until(() => receiver.length === 2 * RECORD + 1, 'both are there')
          receiver.isStopping = 'for good'
          relay.freeze()
          await relay.deliver(await encrypted(relay, randomBytes(2 * RECORD)))
          await relay.thaw()
          await until(() => receiver.length === 4 * RECORD + 1, 'so are two more')
          await relay.fin()
          await turns(20)
          expect(receiver.end).to.equal(undefined)
          receiver.transport.resume()
          await until(() => receiver.end, 'the end is told')
          expect(receiver.end).to.equal('cut')
        })

        it('go with the socket when that is asked for in between', async () => {
          const relay = await open()
          const { receiver } = relay
          const bytes = randomBytes(8 * RECORD)
          // Before the immediate that ends the turn.
          receiver.onReceived = () => {
            if (receiver.chunks.length === 2) setImmediate(() => receiver.transport.socket)
          }
          relay.freeze()
          await relay.deliver(await encrypted(relay, bytes))
          await relay.thaw()
          await until(() => receiver.length === bytes.length + 1, 'all is there')
          expect(Buffer.concat(receiver.chunks).equals(bytes)).to.equal(true)
        })
      })
    }

    it(`are none of them lost when a socket is detached in between: ${version}`, async () => {
      const listening = scope.open(await listen(onPortChosenByOs({ host: '127.0.0.1' }), { tls: serverContext(made, { version }) }))
      const accepted = listening.accept()
      const client = await connect(toHostAndPort('127.0.0.1', listening.listeningOn), { tls: clientOptions(made) })
      scope.defer(() => client.abort())
      const server = await accepted
      const bytes = new Uint8Array(randomBytes(4 * RECORD))
      const detaching = (async () => {
        const chunks = [await server.reader.read(), await server.reader.read()]
        // Before the immediate that ends the turn.
        await new Promise((resolve) => setImmediate(resolve))
        return { chunks, socket: await server.detach() }
      })()
      client.writer.write(bytes)
      const { chunks, socket } = await detaching
      scope.defer(() => void socket.destroy())
      const rest = chunks.map((chunk) => Buffer.from(chunk as Uint8Array))
      socket.on('data', (chunk: Uint8Array) => rest.push(Buffer.from(chunk)))
      await until(() => Buffer.concat(rest).length === bytes.length, 'all is there')
      expect(Buffer.concat(rest).equals(bytes)).to.equal(true)
    })
  }
})

/** A copy of all the memory of the last chunk. */
function memoryOf({ chunks }: TlsEnd): Buffer {
  return Buffer.from((chunks.at(-1) as Uint8Array<ArrayBuffer>).buffer.slice(0))
}
