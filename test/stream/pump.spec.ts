import { inspect } from 'node:util'
import { expect } from 'chai'
import { Uint8ArrayList } from 'uint8arraylist'
import { Pump, type PumpEnd, type PumpTarget } from '../../src/stream/pump.ts'
import type { Chunk } from '../../src/writer.ts'
import { turns } from '../helpers/until.ts'

describe('Pump', () => {
  describe('pulls and writes', () => {
    it('takes nothing from its source before run()', async () => {
      const { source, lines } = rig()
      await turns()
      expect(source.pulls).to.equal(0)
      expect(lines).to.deep.equal([])
    })

    it('writes the chunks of an async source in order and ends once, as done', async () => {
      const { pump, source, lines } = rig()
      pump.run()
      for (const name of ['a', 'b', 'c']) {
        source.yields(name)
        await turns(1)
      }
      source.ends()
      await turns(1)
      expect(lines).to.deep.equal(['write a', 'write b', 'write c', 'done'])
    })

    it('writes the chunks of a sync source without waiting', () => {
      const { lines, target } = rig()
      pumpFrom([chunk('a'), new Uint8ArrayList(chunk('b')), chunk('c')], target, lines).run()
      expect(lines).to.deep.equal(['write a', 'write b', 'write c', 'done'])
    })

    it('never has more than one pull pending', async () => {
      const { pump, source } = rig()
      pump.run()
      pump.resume()
      pump.resume()
      await turns()
      expect(source.pulls).to.equal(1)
    })

    it('prefers the async iterator of a source that has both', async () => {
      const { lines, target } = rig()
      const both = {
        *[Symbol.iterator]() {
          yield chunk('sync')
        },
        async *[Symbol.asyncIterator]() {
          yield chunk('async')
        }
      }
      pumpFrom(both, target, lines).run()
      await turns(1)
      expect(lines).to.deep.equal(['write async', 'done'])
    })
  })

  describe('only as fast as the target takes', () => {
    it('pulls nothing while the target is full, and goes on after resume()', async () => {
      const { pump, source, lines, target } = rig()
      target.isFull = true
      pump.run()
      await turns()
      expect(source.pulls).to.equal(0)
      target.isFull = false
      pump.resume()
      source.yields('a')
      target.isFull = true
      await turns()
      expect(lines).to.deep.equal(['write a'])
      expect(source.pulls).to.equal(1)
      target.isFull = false
      pump.resume()
      expect(source.pulls).to.equal(2)
    })

    it('stops pulling from a sync source in the middle', () => {
      const { lines, target } = rig()
      const pump = pumpFrom([chunk('a'), chunk('b')], target, lines)
      target.onWrite = () => {
        target.isFull = true
      }
      pump.run()
      expect(lines).to.deep.equal(['write a'])
      target.isFull = false
      pump.resume()
      expect(lines).to.deep.equal(['write a', 'write b'])
      target.isFull = false
      pump.resume()
      expect(lines).to.deep.equal(['write a', 'write b', 'done'])
    })

    it('goes on a few times in a turn of the event loop; hundreds, together no more than sixteen and once more each', async () => {
      const goOn = async (count: number): Promise<number> => {
        const rigs = Array.from({ length: count }, () => {
          const { target, lines } = rig()
          const pump = pumpFrom(forEver(), target, lines)
          // Full with each write, and as often as that it has room again at once.
          target.isFull = true
          target.onWrite = () => {
            target.isFull = true
          }
          pump.run()
          return { pump, target, lines }
        })
        await turns(1)
        for (let times = 0; times < 10; times++) {
          for (const { pump, target } of rigs) {
            target.isFull = false
            pump.resume()
          }
        }
        const written = rigs.map(({ lines }) => lines.length)
        expect(Math.min(...written)).to.be.above(0)
        // In the next turn, each of them.
        for (const { target } of rigs) target.isFull = false
        await turns(2)
        for (const [index, { lines }] of rigs.entries()) expect(lines.length).to.be.above(written[index] as number)
        for (const { pump } of rigs) pump.stop('enough')
        return written.reduce((sum, of) => sum + of)
      }
      expect(await goOn(1)).to.equal(4)
      expect(await goOn(16)).to.equal(64)
      expect(await goOn(500)).to.be.within(500, 564)
    })

    it('resume() of a target that is full again waits on', () => {
      const { pump, source, target } = rig()
      target.isFull = true
      pump.run()
      pump.resume()
      pump.resume()
      expect(source.pulls).to.equal(0)
    })

    it('goes on four times in a turn of the event loop, and then in the next, while a target takes all at once', async () => {
      const { lines, target } = rig()
      const pump = pumpFrom(
        Array.from({ length: 20 }, (_, index) => chunk(String(index))),
        target,
        lines
      )
      target.onWrite = () => {
        target.isFull = true
      }
      pump.run()
      const resume = (): void => {
        target.isFull = false
        pump.resume()
      }
      for (let count = 0; count < 6; count++) resume()
      expect(lines).to.have.length(5)
      await turns(1)
      expect(lines).to.have.length(6)
      for (let count = 0; count < 6; count++) resume()
      expect(lines).to.have.length(10)
    })

    it('resume() after the end does nothing', () => {
      const { pump, source, lines, target } = rig()
      target.isFull = true
      pump.run()
      pump.stop('why')
      target.isFull = false
      pump.resume()
      expect(source.pulls).to.equal(0)
      expect(lines).to.have.members(['return', 'stopped why'])
    })
  })

  describe('ends with the error of its source', () => {
    it('when next() rejects', async () => {
      const { pump, source, lines } = rig()
      pump.run()
      source.fails('why')
      await turns(1)
      expect(lines).to.deep.equal(['source-failed why'])
    })

    for (const [kind, source] of Object.entries({
      'next() throws': { [Symbol.iterator]: () => ({ next: throwing('why') }) },
      '[Symbol.iterator]() throws': { [Symbol.iterator]: throwing('why') },
      '[Symbol.asyncIterator]() throws': { [Symbol.asyncIterator]: throwing('why') }
    })) {
      it(`when ${kind}`, () => {
        const { lines, target } = rig()
        pumpFrom(source, target, lines).run()
        expect(lines).to.deep.equal(['source-failed why'])
      })
    }

    for (const result of [null, undefined, 42]) {
      it(`when next() answers ${inspect(result)}, at once or later`, async () => {
        const { lines, target } = rig()
        pumpFrom({ [Symbol.iterator]: () => ({ next: () => result as never }) }, target, lines).run()
        pumpFrom({ [Symbol.asyncIterator]: () => ({ next: () => Promise.resolve(result as never) }) }, target, lines).run()
        await turns(1)
        expect(lines).to.have.lengthOf(2)
        for (const line of lines) expect(line).to.match(/^source-failed TypeError/)
      })
    }

    it('when the target refuses a chunk with a TypeError; return() is called', async () => {
      const { pump, source, lines, target } = rig()
      target.onWrite = throwing(new TypeError('no data'))
      pump.run()
      source.yields('a')
      await turns(1)
      expect(lines).to.deep.equal(['write a', 'source-failed TypeError: no data', 'return'])
      expect(source.pulls).to.equal(1)
    })
  })

  it('writes strings, too', () => {
    const { lines, target } = rig()
    pumpFrom(['text'], target, lines).run()
    expect(lines).to.deep.equal(['write text', 'done'])
  })

  describe('can be stopped', () => {
    it('stop() ends it at once though the source hangs, and calls return()', async () => {
      const { pump, source, lines } = rig()
      pump.run()
      pump.stop('why')
      expect(lines).to.have.members(['return', 'stopped why'])
      pump.stop('again')
      source.yields('late')
      await turns(1)
      expect(lines).to.have.lengthOf(2)
      expect(source.pulls).to.equal(1)
    })

    it('a rejection after stop() is not unhandled', async () => {
      const { pump, source, lines } = rig()
      pump.run()
      pump.stop('why')
      source.fails('late')
      await turns()
      expect(lines).to.have.members(['return', 'stopped why'])
    })

    it('stop() after the end does nothing', async () => {
      const { pump, source, lines } = rig()
      pump.run()
      source.ends()
      await turns(1)
      pump.stop('late')
      expect(lines).to.deep.equal(['done'])
    })

    it('stop() ignores what return() throws, that it rejects, and that there is none', async () => {
      for (const leave of [throwing('return'), () => Promise.reject('return'), undefined]) {
        const { lines, target } = rig()
        const iterator = { next: () => new Promise<never>(() => {}), ...(leave !== undefined && { return: leave }) }
        const pump = pumpFrom({ [Symbol.asyncIterator]: () => iterator }, target, lines)
        pump.run()
        pump.stop('why')
        await turns(1)
        expect(lines).to.deep.equal(['stopped why'])
      }
    })

    it('stop() before run() leaves the source alone', () => {
      const { pump, source, lines } = rig()
      pump.stop('why')
      pump.run()
      expect(lines.filter((line) => line !== 'return')).to.deep.equal(['stopped why'])
      expect(source.pulls).to.equal(0)
    })

    it('an error of the target other than a TypeError stops it', async () => {
      const { pump, source, lines, target } = rig()
      target.onWrite = throwing('broken')
      pump.run()
      source.yields('a')
      await turns(1)
      expect(lines).to.have.members(['write a', 'stopped broken', 'return'])
    })

    it('stop() inside write() is the end', () => {
      const { lines, target } = rig()
      const pump = pumpFrom([chunk('a'), chunk('b')], target, lines)
      target.onWrite = () => pump.stop('why')
      pump.run()
      expect(lines).to.deep.equal(['write a', 'stopped why'])
    })

    it('stop() by the source itself is the end', () => {
      const { lines, target } = rig()
      const itself: Pump[] = []
      const source = function* (): Generator<Chunk> {
        itself[0]?.stop('why')
        yield chunk('late')
      }
      const pump = pumpFrom(source(), target, lines)
      itself.push(pump)
      pump.run()
      expect(lines).to.deep.equal(['stopped why'])
    })
  })

  for (const source of [42, null, undefined, {}, { [Symbol.iterator]: 'x' }]) {
    it(`refuses ${inspect(source)} as a source`, () => {
      const { lines, target } = rig()
      expect(() => pumpFrom(source as never, target, lines)).to.throw(TypeError, inspect(source))
      expect(lines).to.deep.equal([])
    })
  }
})

interface Target extends PumpTarget {
  isFull: boolean
  onWrite: () => void
}

interface Source {
  pulls: number
  yields(name: string): void
  ends(): void
  fails(error: unknown): void
}

/** A pump whose source and target are moved by the test. */
function rig(): { pump: Pump; source: Source; target: Target; lines: string[] } {
  const lines: string[] = []
  let settle: { resolve(next: IteratorResult<Chunk>): void; reject(error: unknown): void } | undefined
  const iterator = {
    next(): Promise<IteratorResult<Chunk>> {
      source.pulls++
      return new Promise((resolve, reject) => {
        settle = { resolve, reject }
      })
    },
    return(): Promise<IteratorResult<Chunk>> {
      lines.push('return')
      return new Promise(() => {})
    }
  }
  const source: Source = {
    pulls: 0,
    yields: (name) => settle?.resolve({ done: false, value: chunk(name) }),
    ends: () => settle?.resolve({ done: true, value: undefined }),
    fails: (error) => settle?.reject(error)
  }
  const target: Target = {
    isFull: false,
    onWrite() {},
    write(data) {
      lines.push(`write ${typeof data === 'string' ? data : Buffer.from(data.subarray())}`)
      target.onWrite()
    }
  }
  return { pump: pumpFrom({ [Symbol.asyncIterator]: () => iterator }, target, lines), source, target, lines }
}

function pumpFrom(source: AsyncIterable<Chunk | string> | Iterable<Chunk | string>, target: PumpTarget, lines: string[]): Pump {
  return new Pump(source, target, (end: PumpEnd) => lines.push(end.kind === 'done' ? 'done' : `${end.kind} ${end.error}`))
}

function* forEver(): Generator<Uint8Array> {
  for (;;) yield chunk('a')
}

function chunk(name: string): Uint8Array {
  return Buffer.from(name)
}

function throwing(error: unknown): () => never {
  return () => {
    throw error
  }
}
