import { setTimeout as wait } from 'node:timers/promises'
import { expect } from 'chai'
import { type Reader, type ReadOptions, ReadTimeoutError } from '../../src/index.ts'
import { BAD_DURATIONS, expectRefusal } from '../helpers/bad-input.ts'
import { FedReader } from '../helpers/fed.ts'
import { rejection } from '../helpers/rejection.ts'

const READS: Record<string, (reader: Reader, options: ReadOptions) => Promise<unknown>> = {
  'read()': (reader, options) => reader.read(options),
  'readExactly()': (reader, options) => reader.readExactly(100, options),
  'readUntil()': (reader, options) => reader.readUntil(';', options),
  'peek()': (reader, options) => reader.peek(100, options),
  'readLine()': (reader, options) => reader.readLine(options),
  'next() of lines()': (reader, options) => reader.lines(options).next(),
  'next() of lineBatches()': (reader, options) => reader.lineBatches(options).next(),
  'next() of chunks()': (reader, options) => reader.chunks(options).next(),
  'readAll()': (reader, options) => reader.readAll(options),
  'readInto()': (reader, options) => reader.readInto(new Uint8Array(10), options),
  'discard()': (reader, options) => reader.discard(options)
}

describe('The timeout of a read', () => {
  for (const [name, read] of Object.entries(READS)) {
    it(`${name} rejects with ReadTimeoutError when it has passed, has taken nothing, and the next read goes on`, async () => {
      const reader = new FedReader(1024)
      const error = await rejection(read(reader, { timeout: 5 }))
      expect(error).to.be.instanceOf(ReadTimeoutError).with.property('code', 'ERR_READ_TIMEOUT')
      expect((error as Error).message).to.equal('Cannot read as not enough arrived within 5 ms')
      reader.received(Buffer.from('abc;\n'))
      expect(Buffer.from((await reader.read()) as Uint8Array).toString()).to.equal('abc;\n')
    })

    it(`${name} is not ended by it once it is done, nor by that of Infinity`, async () => {
      const reader = new FedReader(1024)
      const settled = read(reader, { timeout: 5 })
      reader.received(Buffer.from(`abc;\n${'x'.repeat(200)}`))
      reader.peerEnded()
      await settled
      await wait(10)
      await read(reader, { timeout: Number.POSITIVE_INFINITY })
    })

    it(`${name} refuses what is no time before anything happens`, async () => {
      for (const value of BAD_DURATIONS) {
        const reader = new FedReader(1024)
        reader.received(Buffer.from('abc;\n'))
        const refused = await rejection(Promise.resolve().then(() => read(reader, { timeout: value as number })))
        expectRefusal(refused, 'timeout', 'Cannot read', value)
        expect(reader.bytesAvailable).to.equal(5)
      }
    })
  }

  it('is for the whole read: bytes that arrive do not prolong it', async () => {
    const reader = new FedReader(1024)
    let isOver = false
    const read = rejection(reader.readLine({ timeout: 30 })).finally(() => {
      isOver = true
    })
    while (!isOver) {
      reader.received(Buffer.from('x'))
      await wait(1)
    }
    expect(await read).to.be.instanceOf(ReadTimeoutError)
    expect(reader.bytesAvailable).to.be.greaterThan(1)
  })

  it('goes with a signal: whichever is first ends the read, and neither is left behind', async () => {
    const reader = new FedReader(1024)
    const reason = new Error('enough')
    expect(await rejection(reader.read({ timeout: 10_000, signal: AbortSignal.abort(reason) }))).to.equal(reason)
    const controller = new AbortController()
    const read = rejection(reader.read({ timeout: 10_000, signal: controller.signal }))
    controller.abort(reason)
    expect(await read).to.equal(reason)
    expect(await rejection(reader.read({ timeout: 5, signal: new AbortController().signal }))).to.be.instanceOf(ReadTimeoutError)
  })

  it('chunks({ timeout }) has it for each turn of the loop, and a loop without it goes on for ever', async () => {
    const reader = new FedReader(1024)
    const seen: string[] = []
    const error = await rejection(
      (async () => {
        reader.received(Buffer.from('a'))
        for await (const chunk of reader.chunks({ timeout: 20 })) {
          seen.push(`${Buffer.from(chunk)}`)
          if (seen.length < 4) reader.received(Buffer.from('b'))
        }
      })()
    )
    expect(error).to.be.instanceOf(ReadTimeoutError)
    expect(seen.join('')).to.equal('abbb')
  })
})
