import { expect } from 'chai'
import type { Reader } from '../../src/index.ts'
import { FedReader } from '../helpers/fed.ts'
import { bytes, KIB, METHODS, MIB, plain, text } from '../helpers/reader-cases.ts'
import { pace } from '../helpers/until.ts'

describe('Reader', () => {
  // What no peer can be made to do reliably: single bytes by the ten thousand, and two events in one turn.
  describe('fed by hand', () => {
    const fed = (bufferSize = MIB): FedReader => new FedReader(bufferSize)
    const feed = (reader: FedReader, data: string): boolean => reader.received(bytes(data))

    it('law 1: a line of 64 MiB that arrives in 65 536 chunks is searched once', async () => {
      const reader = fed()
      const chunk = new Uint8Array(KIB).fill(120)
      const line = reader.readLine({ maxLength: Number.POSITIVE_INFINITY })
      const breathe = pace()
      for (let count = 0; count < 64 * KIB; count++) {
        reader.received(chunk)
        await breathe(count)
      }
      feed(reader, '\n')
      expect(await line).to.have.length(64 * MIB)
    })

    it('law 1: a long delimiter is searched once too', async () => {
      const reader = fed()
      const chunk = new Uint8Array(KIB).fill(120)
      const record = reader.readUntil('\r\n.\r\n', { maxLength: Number.POSITIVE_INFINITY })
      const breathe = pace()
      for (let count = 0; count < 64 * KIB; count++) {
        reader.received(chunk)
        await breathe(count)
      }
      for (const byte of '\r\n.\r\n') feed(reader, byte)
      expect(await record).to.have.length(64 * MIB + 5)
    })

    for (const [name, take] of Object.entries({
      'readLine()': (reader: Reader) => reader.readLine(),
      'readUntil()': (reader: Reader) => reader.readUntil(';\n'),
      'readExactly()': (reader: Reader) => reader.readExactly(3),
      'read()': (reader: Reader) => reader.read()
    })) {
      it(`law 1: reader.${name} takes 200 000 single bytes at a cost that does not grow with what is behind`, async () => {
        const reader = fed()
        for (let count = 0; count < 200_000; count++) feed(reader, 'a;\n'[count % 3] as string)
        const breathe = pace()
        for (let count = 0; reader.bytesAvailable > 2; count++) {
          await take(reader)
          await breathe(count)
        }
      })
    }

    it('law 7: a next() that was settled by return() in the turn in which bytes arrive leaves them', async () => {
      const reader = fed()
      const iterator = reader[Symbol.asyncIterator]()
      const pending = iterator.next()
      void iterator.return?.()
      feed(reader, 'abc')
      expect(await pending).to.deep.equal({ value: undefined, done: true })
      expect(text(await reader.read())).to.equal('abc')
    })

    for (const method of METHODS.filter(({ takesSignal }) => takesSignal)) {
      it(`law 9: ${method.name} gives or leaves every byte when its signal aborts in the turn in which they arrive`, async () => {
        for (const arriveFirst of [true, false]) {
          const reader = fed()
          const controller = new AbortController()
          const settled = method.read(reader, { signal: controller.signal }).then(plain, () => undefined)
          if (!arriveFirst) controller.abort()
          feed(reader, 'abcd\n')
          if (method.name === 'discard()' || method.name === 'readAll()') reader.peerEnded()
          if (arriveFirst) controller.abort()
          expect(await settled).to.equal(arriveFirst ? method.gives : undefined)
          reader.peerEnded()
          expect(text(await reader.readAll())).to.equal(arriveFirst ? method.leaves : 'abcd\n')
        }
      })
    }
  })
})
