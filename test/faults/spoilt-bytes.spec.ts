import { expect } from 'chai'
import { ConnectionClosedError } from '../../src/index.ts'
import { rejection } from '../helpers/rejection.ts'
import { useScope } from '../helpers/scope.ts'
import { openEnds, TOO_MUCH, TRANSPORTS } from '../helpers/transports.ts'

function resizable(length: number): ArrayBuffer {
  return new (ArrayBuffer as new (length: number, options: object) => ArrayBuffer)(length, { maxByteLength: length })
}

describe('Bytes that were given to write() and are detached or resized before they have left', () => {
  for (const kind of TRANSPORTS) {
    describe(`to ${kind.name}`, () => {
      const scope = useScope()

      for (const [what, length, spoil] of [
        ['short ones, transferred', 100, (bytes) => structuredClone(bytes.buffer, { transfer: [bytes.buffer] })],
        ['long ones, transferred', 100_000, (bytes) => structuredClone(bytes.buffer, { transfer: [bytes.buffer] })],
        ['very long ones, transferred', 600_000, (bytes) => structuredClone(bytes.buffer, { transfer: [bytes.buffer] })],
        ['shrunk ones', 100, (bytes) => (bytes.buffer as ArrayBuffer & { resize(size: number): void }).resize(10)]
      ] as [string, number, (bytes: Uint8Array<ArrayBuffer>) => unknown][]) {
        it(`${what}: the connection is aborted and says why, and the process goes on`, async () => {
          const { connection, peer } = await openEnds(scope, kind)
          const { writer } = connection
          const bytes = new Uint8Array(resizable(length))
          writer.write(TOO_MUCH)
          // The very long ones go alone.
          if (length < 500_000) writer.write('between')
          writer.write(bytes)
          const flushed = writer.flushed()
          spoil(bytes)
          peer.resume()
          const error = await rejection(flushed)
          expect(error).to.be.instanceOf(ConnectionClosedError)
          expect((error as Error).cause)
            .to.be.instanceOf(TypeError)
            .with.property('message', 'Cannot write as bytes were detached or resized before they had left')
          expect(connection.signal.aborted || (await connection.closed) === undefined).to.equal(true)
        })
      }
    })
  }
})

describe('A signal of the program’s own whose removeEventListener throws', () => {
  const scope = useScope()

  it('still lets the read be told', async () => {
    const { connection, peer } = await openEnds(scope, TRANSPORTS[0] as (typeof TRANSPORTS)[number])
    const signal = Object.assign(new EventTarget(), {
      aborted: false,
      reason: undefined,
      removeEventListener() {
        throw new Error('not off')
      }
    }) as unknown as AbortSignal
    const read = connection.reader.read({ signal })
    peer.write('x')
    expect(await read).to.have.property('byteLength', 1)
  })
})
