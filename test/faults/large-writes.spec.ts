import { expect } from 'chai'
import { Uint8ArrayList } from 'uint8arraylist'
import { ByteWriter } from '../../src/stream/byte-writer.ts'
import type { Outgoing } from '../../src/stream/outgoing.ts'
import type { OutgoingOwner } from '../../src/stream/outgoing-owner.ts'
import { WriteQueue } from '../../src/stream/write-queue.ts'

const GIB = 2 ** 30

/** What a writer hands on of `data`, which nobody ever looks into: the system gives its pages to nobody. */
function partsOf(data: Uint8Array | Uint8ArrayList): { readonly sizes: number[]; readonly isInOrder: boolean } {
  const parts: Uint8Array[] = []
  const outgoing = {
    refusal: () => undefined,
    put: (chunk: Uint8Array, _encoding: string, byteLength: number) => {
      expect(byteLength).to.equal(chunk.byteLength)
      parts.push(chunk)
    }
  }
  new ByteWriter(outgoing as unknown as Outgoing, {} as OutgoingOwner).write(data)
  const sizes = parts.map(({ byteLength }) => byteLength)
  let at = 0
  const isInOrder = parts.every(({ byteOffset, byteLength }) => {
    const isNext = byteOffset === at
    at += byteLength
    return isNext
  })
  return { sizes, isInOrder }
}

describe('Writes beyond 4 GiB: a handle counts the bytes of one in 32 bits', () => {
  it('a longer buffer goes in parts of 1 GiB, in order, none left out', () => {
    expect(partsOf(new Uint8Array(2 * GIB + 5))).to.deep.equal({ sizes: [GIB, GIB, 5], isInOrder: true })
    expect(partsOf(new Uint8Array(GIB))).to.deep.equal({ sizes: [GIB], isInOrder: true })
  })

  it('so do those of a list', () => {
    const { sizes } = partsOf(new Uint8ArrayList(new Uint8Array(3), new Uint8Array(GIB + 1), new Uint8Array(2)))
    expect(sizes).to.deep.equal([3, GIB, 1, 2])
  })

  it('parts are never gathered into more than a buffer alone, or the limit', () => {
    const queue = new WriteQueue()
    // Of strings only the length counts here.
    const chunk = ''
    const sizes = [GIB, GIB, 10, 20, GIB, 524_288, 1]
    for (const byteLength of sizes) queue.push({ chunk, encoding: 'latin1', byteLength })
    const accepted = sizes.reduce((sum, size) => sum + size)
    const gathered: number[] = []
    while (queue.length > 0) {
      queue.gather(524_288, accepted)
      gathered.push(queue.gathered)
    }
    expect(gathered).to.deep.equal([GIB, GIB, 30, GIB, 524_288, 1])
  })

  it('no string is as long as what its bytes are counted in', () => {
    // In three bytes for each of its units at most.
    const { MAX_STRING_LENGTH } = process.getBuiltinModule('node:buffer').constants
    expect(MAX_STRING_LENGTH * 3).to.be.below(2 ** 32)
  })
})
