import { expect } from 'chai'
import { ChunkQueue } from '../../src/stream/chunk-queue.ts'
import { randomFrom } from '../helpers/random.ts'
import { pace } from '../helpers/until.ts'

const bytes = (text: string): Uint8Array<ArrayBuffer> => new Uint8Array(Buffer.from(text))
const text = (chunk: Uint8Array | undefined): string | undefined => (chunk === undefined ? undefined : Buffer.from(chunk).toString())

function queueOf(...chunks: (string | Uint8Array<ArrayBuffer>)[]): ChunkQueue {
  const queue = new ChunkQueue()
  for (const chunk of chunks) queue.push(typeof chunk === 'string' ? bytes(chunk) : chunk)
  return queue
}

describe('ChunkQueue', () => {
  it('starts empty', () => {
    const queue = new ChunkQueue()
    expect(queue.byteLength).to.equal(0)
    expect(queue.shift()).to.equal(undefined)
    expect(queue.indexOf(bytes('a'), 0)).to.equal(-1)
    expect(queue.take(0)).to.have.length(0)
  })

  describe('shift()', () => {
    it('gives the chunks as they were pushed, without a copy, in order', () => {
      const chunks = [bytes('ab'), bytes('c')] as const
      const queue = new ChunkQueue()
      for (const chunk of chunks) queue.push(chunk)
      expect(queue.byteLength).to.equal(3)
      expect(queue.shift()).to.equal(chunks[0])
      expect(queue.byteLength).to.equal(1)
      expect(queue.shift()).to.equal(chunks[1])
      expect(queue.shift()).to.equal(undefined)
      expect(queue.byteLength).to.equal(0)
    })

    it('gives what is left of a chunk of which some was taken', () => {
      const queue = queueOf('abc', 'd')
      queue.skip(1)
      expect(text(queue.shift())).to.equal('bc')
      expect(text(queue.shift())).to.equal('d')
    })
  })

  describe('take()', () => {
    it('gives a whole chunk as it was pushed, and a part of one as a copy, which shares its memory with nothing', () => {
      const chunk = bytes('abcd')
      const queue = new ChunkQueue()
      queue.push(chunk)
      const part = queue.take(3)
      expect(text(part)).to.equal('abc')
      expect(part.buffer).not.to.equal(chunk.buffer)
      expect(part.buffer.byteLength).to.equal(3)
      queue.push(chunk)
      queue.skip(1)
      expect(queue.take(4)).to.equal(chunk)
    })

    it('joins chunks, and leaves the rest of the last', () => {
      const queue = queueOf('ab', 'c', 'def')
      expect(text(queue.take(4))).to.equal('abcd')
      expect(queue.byteLength).to.equal(2)
      expect(text(queue.take(2))).to.equal('ef')
    })
  })

  describe('copyTo()', () => {
    it('fills the target across chunks and takes nothing', () => {
      const queue = queueOf('ab', 'cd', 'ef')
      const target = new Uint8Array(3)
      expect(queue.copyTo(target)).to.equal(3)
      expect(text(target)).to.equal('abc')
      expect(queue.byteLength).to.equal(6)
    })

    it('fills no more than there is', () => {
      const target = bytes('.....')
      expect(queueOf('ab', 'c').copyTo(target)).to.equal(3)
      expect(text(target)).to.equal('abc..')
    })
  })

  describe('skip()', () => {
    it('throws away across chunks', () => {
      const queue = queueOf('ab', 'cd', 'ef')
      queue.skip(3)
      expect(queue.byteLength).to.equal(3)
      expect(text(queue.take(3))).to.equal('def')
      queue.skip(0)
      expect(queue.byteLength).to.equal(0)
    })
  })

  describe('at()', () => {
    it('gives every byte by its index, also after some are taken', () => {
      const queue = queueOf('xab', 'c', 'def')
      queue.skip(1)
      const all = [...bytes('abcdef')]
      expect(all.map((_, index) => queue.at(index))).to.deep.equal(all)
    })
  })

  describe('indexOf()', () => {
    it('finds what is in one chunk, at its start and at its end', () => {
      const queue = queueOf('abc', 'def')
      expect(['a', 'c', 'd', 'f', 'bc', 'de'].map((wanted) => queue.indexOf(bytes(wanted), 0))).to.deep.equal([0, 2, 3, 5, 1, 3])
    })

    it('finds what spans two chunks, and any number of them', () => {
      expect(queueOf('abc', 'def').indexOf(bytes('cd'), 0)).to.equal(2)
      expect(queueOf('a', 'b', 'c', 'd', 'e').indexOf(bytes('bcde'), 0)).to.equal(1)
    })

    it('finds the first of several, wherever each of them lies', () => {
      expect(queueOf('..a', 'b', '.ab').indexOf(bytes('ab'), 0)).to.equal(2)
      expect(queueOf('.ab', '.a', 'b').indexOf(bytes('ab'), 0)).to.equal(1)
    })

    it('finds what begins inside a false start', () => {
      expect(queueOf('a', 'a', 'a', 'b').indexOf(bytes('aab'), 0)).to.equal(1)
      expect(queueOf('aa', 'ab').indexOf(bytes('aab'), 0)).to.equal(1)
    })

    it('looks at nothing before `from`', () => {
      const queue = queueOf('abab', 'ab')
      expect([0, 1, 2, 3, 4, 5].map((from) => queue.indexOf(bytes('ab'), from))).to.deep.equal([0, 2, 2, 4, 4, -1])
      expect([0, 1, 2, 3, 4, 5, 6].map((from) => queue.indexOf(bytes('b'), from))).to.deep.equal([1, 1, 3, 3, 5, 5, -1])
    })

    it('does not find what was taken', () => {
      const queue = queueOf('ab', 'cd', 'ef')
      queue.shift()
      expect(queue.indexOf(bytes('b'), 0)).to.equal(-1)
      expect(queue.indexOf(bytes('de'), 0)).to.equal(1)
    })

    it('does not find what has come only in part', () => {
      const queue = queueOf('ab', 'c')
      expect(queue.indexOf(bytes('cd'), 0)).to.equal(-1)
      queue.push(bytes('d'))
      expect(queue.indexOf(bytes('cd'), 2)).to.equal(2)
    })
  })

  describe('clear()', () => {
    it('throws everything away, and the queue goes on', () => {
      const queue = queueOf('ab', 'c')
      queue.clear()
      expect(queue.byteLength).to.equal(0)
      expect(queue.shift()).to.equal(undefined)
      queue.push(bytes('d'))
      expect(text(queue.take(1))).to.equal('d')
    })
  })

  it('does as one piece of memory would, whatever is called in whatever order', () => {
    for (let seed = 1; seed <= 200; seed++) compareWithModel(seed)
  })

  // These would take minutes if every call looked at every chunk.
  it('takes many small chunks one by one', async () => {
    const queue = new ChunkQueue()
    for (let i = 0; i < 100_000; i++) queue.push(bytes('a'))
    const breathe = pace()
    for (let i = 0; i < 100_000; i++) {
      if (queue.shift()?.[0] !== 97) expect.fail(`not given at ${i}`)
      await breathe(i)
    }
    expect(queue.byteLength).to.equal(0)
  })

  it('finds each of many delimiters at its head without looking at every chunk', async () => {
    const queue = new ChunkQueue()
    for (let i = 0; i < 100_000; i++) queue.push(bytes('\n'))
    const breathe = pace()
    for (let i = 0; i < 100_000; i++) {
      if (queue.indexOf(bytes('\n'), 0) !== 0 || queue.at(0) !== 10) expect.fail(`not found at ${i}`)
      queue.skip(1)
      await breathe(i)
    }
  })

  it('finds a delimiter behind many chunks without looking at those again', async () => {
    const queue = new ChunkQueue()
    const breathe = pace()
    for (let i = 0; i < 100_000; i++) {
      queue.push(bytes('a'))
      if (queue.indexOf(bytes('\r\n'), Math.max(0, i - 1)) !== -1) expect.fail(`found at ${i}`)
      await breathe(i)
    }
    queue.push(bytes('\r\n'))
    expect(queue.indexOf(bytes('\r\n'), 99_999)).to.equal(100_000)
  })

  it('shiftLine() between reads of another kind does not split the rest of the chunk each time', async () => {
    const queue = queueOf('line\nx'.repeat(100_000))
    const breathe = pace()
    for (let i = 0; i < 100_000; i++) {
      if (queue.shiftLine(100) === undefined) {
        if (text(queue.take(queue.indexOf(bytes('\n'), 0) + 1)) !== 'line\n') expect.fail(`no line at ${i}`)
      }
      if (text(queue.take(1)) !== 'x') expect.fail(`no record at ${i}`)
      await breathe(i)
    }
    expect(queue.byteLength).to.equal(0)
  })

  it('shiftLine() gives ASCII lines of the first chunk, without \\n or \\r\\n, and mixes with everything else', () => {
    const queue = queueOf('x', 'one\ntwo\r\n\nfour\nrest')
    expect(queue.shiftLine(100)).to.equal(undefined)
    queue.skip(1)
    expect(queue.shiftLine(100)).to.equal('one')
    expect(queue.at(0)).to.equal(0x74)
    expect(queue.shiftLine(3)).to.equal('two')
    expect(text(queue.take(1))).to.equal('\n')
    expect(queue.shiftLine(3)).to.equal(undefined)
    expect(queue.shiftLine(4)).to.equal('four')
    expect(queue.shiftLine(100)).to.equal(undefined)
    expect(text(queue.shift())).to.equal('rest')
    expect(queue.byteLength).to.equal(0)
  })

  it('shiftLine() gives lines with other characters, whose limit is one of bytes', () => {
    const queue = queueOf('é\nab\néé\r\n\xff\u20ac\n')
    expect(queue.shiftLine(1)).to.equal(undefined)
    expect(queue.shiftLine(2)).to.equal('é')
    expect(queue.shiftLine(2)).to.equal('ab')
    expect(queue.shiftLine(3)).to.equal(undefined)
    expect(queue.shiftLine(4)).to.equal('éé')
    expect(queue.shiftLine(5)).to.equal('\xff\u20ac')
    expect(queue.byteLength).to.equal(0)
  })

  it('shiftLine() gives lines that are no UTF-8 as a decoder would', () => {
    const queue = queueOf(new Uint8Array([0xc3, 0x0a, 0xe2, 0x82, 0x0d, 0x0a, 0x61, 0x0a]))
    expect(queue.shiftLine(1)).to.equal('\ufffd')
    expect(queue.shiftLine(2)).to.equal('\ufffd')
    expect(queue.shiftLine(1)).to.equal('a')
    expect(queue.byteLength).to.equal(0)
  })

  it('shiftLines() gives the lines that are split, up to the first that is too long', () => {
    const queue = queueOf('one\ntwo\r\n\nseven\nrest')
    expect(queue.shiftLines(2)).to.equal(undefined)
    expect(queue.shiftLines(3)).to.deep.equal(['one', 'two', ''])
    expect(queue.shiftLines(3)).to.equal(undefined)
    expect(queue.shiftLines(5)).to.deep.equal(['seven'])
    expect(queue.shiftLines(100)).to.equal(undefined)
    expect(text(queue.shift())).to.equal('rest')
  })
})

// Few, so that false starts are frequent.
const LETTERS = Buffer.from('aab\r\né')

// Random calls, each compared with the same on one Buffer.
function compareWithModel(seed: number): void {
  const random = randomFrom(seed)
  const queue = new ChunkQueue()
  let model = Buffer.alloc(0)
  for (let step = 0; step < 300; step++) {
    const what = random(10)
    const length = random(model.byteLength + 1)
    const message = `seed ${seed}, step ${step}`
    if (what <= 1) {
      const chunk = new Uint8Array(1 + random(8)).map(() => LETTERS[random(LETTERS.length)] as number)
      queue.push(chunk)
      model = Buffer.concat([model, chunk])
    } else if (what === 2) {
      const chunk = queue.shift()
      expect(text(chunk) ?? '', message).to.equal(model.subarray(0, chunk?.byteLength ?? 0).toString())
      expect(chunk === undefined, message).to.equal(model.byteLength === 0)
      model = model.subarray(chunk?.byteLength ?? 0)
    } else if (what === 3) {
      expect(text(queue.take(length)), message).to.equal(model.subarray(0, length).toString())
      model = model.subarray(length)
    } else if (what === 4) {
      queue.skip(Math.min(length, 3))
      model = model.subarray(Math.min(length, 3))
    } else if (what === 5) {
      const target = new Uint8Array(random(20))
      const filled = queue.copyTo(target)
      expect(filled, message).to.equal(Math.min(target.byteLength, model.byteLength))
      expect(text(target.subarray(0, filled)), message).to.equal(model.subarray(0, filled).toString())
    } else if (what === 6) {
      const wanted = Buffer.from(Array.from({ length: 1 + random(5) }, () => LETTERS[random(LETTERS.length)] as number))
      expect(queue.indexOf(wanted, length), `${message}: ${wanted} from ${length} in ${model}`).to.equal(indexOf(model, wanted, length))
    } else if (what === 7) {
      const line = queue.shiftLine(4)
      const end = model.indexOf('\n')
      if (line !== undefined) {
        expect(line, message).to.equal(model.subarray(0, end).toString().replace(/\r$/, ''))
        expect(end, message).to.be.at.most(model[end - 1] === 0x0d ? 5 : 4)
        model = model.subarray(end + 1)
      }
    } else if (what === 8) {
      for (const line of queue.shiftLines(4) ?? []) {
        const end = model.indexOf('\n')
        expect(line, message).to.equal(model.subarray(0, end).toString().replace(/\r$/, ''))
        expect(end, message).to.be.at.most(model[end - 1] === 0x0d ? 5 : 4)
        model = model.subarray(end + 1)
      }
    } else if (length < model.byteLength) {
      expect(queue.at(length), message).to.equal(model[length])
    }
    expect(queue.byteLength, message).to.equal(model.byteLength)
  }
}

// Buffer's own, but for `from` at the end, which it takes for a hit of nothing.
function indexOf(model: Buffer, wanted: Uint8Array, from: number): number {
  return from >= model.byteLength ? -1 : model.indexOf(wanted, from)
}
