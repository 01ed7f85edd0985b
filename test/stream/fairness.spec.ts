import { setImmediate as nextTurn } from 'node:timers/promises'
import { expect } from 'chai'
import { Pump, type PumpTarget } from '../../src/stream/pump.ts'
import type { WriteEntry } from '../../src/stream/transport.ts'
import { WriteQueue } from '../../src/stream/write-queue.ts'
import { FedReader } from '../helpers/fed.ts'

/** What one loop may do in a turn: before its immediates, among them, and one more for whoever was woken. */
const STEPS = 2 * 512 + 1

describe('Fairness: no turn of the event loop is longer than a bounded amount of work, whatever a peer sends and however it is read or written', () => {
  for (const [name, loop] of Object.entries<(reader: FedReader, step: () => void) => Promise<void>>({
    'lines()': async (reader, step) => {
      for await (const _ of reader.lines()) step()
    },
    'readLine()': async (reader, step) => {
      while ((await reader.readLine()) !== null) step()
    },
    'readExactly(1)': async (reader, step) => {
      while ((await reader.readExactly(1)) !== null) step()
    },
    'readInto() a byte': async (reader, step) => {
      const buffer = new Uint8Array(1)
      while ((await reader.readInto(buffer)) !== null) step()
    },
    "readUntil('\\n')": async (reader, step) => {
      while ((await reader.readUntil('\n')) !== null) step()
    }
  })) {
    it(`${name} through 20 000 line feeds that are there already`, async () => {
      const reader = new FedReader(1024 * 1024)
      reader.received(Buffer.alloc(20_000, '\n'))
      reader.peerEnded()
      const { total, most } = await counted((step) => loop(reader, step))
      expect(total).to.equal(20_000)
      expect(most).to.be.at.most(STEPS)
    })
  }

  it('a read that waits for its turn keeps its place before bytes that arrive meanwhile', async () => {
    const reader = new FedReader(1024 * 1024)
    reader.received(Buffer.alloc(5000, 'a'))
    const taken: string[] = []
    const read = async (): Promise<void> => {
      while (taken.length < 5001) taken.push(`${Buffer.from((await reader.readExactly(1)) as Uint8Array)}`)
    }
    const reading = read()
    for (let count = 0; count < 600; count++) await Promise.resolve()
    reader.received(Buffer.from('b'))
    await reading
    expect(taken.join('')).to.equal(`${'a'.repeat(5000)}b`)
  })

  it('a read that waits for its turn can be aborted, and then takes nothing', async () => {
    const reader = new FedReader(1024 * 1024)
    reader.received(Buffer.alloc(2000, 'a'))
    const controller = new AbortController()
    let taken = 0
    const reading = (async () => {
      for (;;) {
        await reader.readExactly(1, { signal: controller.signal })
        taken++
      }
    })().catch((error: unknown) => error)
    while (taken < 512) await Promise.resolve()
    controller.abort(new Error('enough'))
    expect(await reading).to.have.property('message', 'enough')
    expect(reader.bytesAvailable).to.equal(2000 - taken)
  })

  for (const [name, source] of Object.entries<() => Iterable<Uint8Array> | AsyncIterable<Uint8Array>>({
    'an array': () => Array.from({ length: 20_000 }, () => new Uint8Array(1)),
    'an async generator': async function* () {
      for (let count = 0; count < 20_000; count++) yield new Uint8Array(1)
    }
  })) {
    it(`a sink of 20 000 single bytes from ${name}, into a target that is never full`, async () => {
      const { total, most } = await counted(
        (step) =>
          new Promise((resolve) => {
            const target: PumpTarget = { isFull: false, write: step }
            new Pump(source(), target, () => resolve()).run()
          })
      )
      expect(total).to.equal(20_000)
      expect(most).to.be.at.most(STEPS)
    })
  }

  it('the queue of writes moves each of them a bounded number of times, with a flush for each', () => {
    const COUNT = 20_000
    let moved = 0
    const { splice, slice, shift } = Array.prototype
    const queue = new WriteQueue()
    const entry: WriteEntry = { chunk: 'x', encoding: 'latin1', byteLength: 1 }
    Array.prototype.splice = function (this: unknown[], ...args: unknown[]) {
      moved += this.length
      return splice.apply(this, args as never)
    } as never
    Array.prototype.slice = function (this: unknown[], from = 0, to = this.length) {
      moved += to - from
      return slice.call(this, from, to)
    } as never
    Array.prototype.shift = function (this: unknown[]) {
      moved += this.length
      return shift.call(this)
    } as never
    try {
      for (let count = 1; count <= COUNT; count++) {
        queue.push(entry)
        void queue.flushedAt(count)
      }
      for (let written = 1; queue.length > 0; written++) {
        expect(queue.gather(65_536, COUNT)).to.have.length(1)
        queue.settleUpTo(written)
      }
    } finally {
      Object.assign(Array.prototype, { splice, slice, shift })
    }
    expect(moved).to.be.at.most(6 * COUNT)
  })
})

/** How many steps `loop` takes, and how many at most in one turn. */
async function counted(loop: (step: () => void) => Promise<void>): Promise<{ total: number; most: number }> {
  let total = 0
  let inTurn = 0
  let most = 0
  let isDone = false
  const done = loop(() => {
    total++
    most = Math.max(most, ++inTurn)
  }).then(() => {
    isDone = true
  })
  while (!isDone) {
    await nextTurn()
    inTurn = 0
  }
  await done
  return { total, most }
}
