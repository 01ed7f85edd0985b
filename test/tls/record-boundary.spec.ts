import { expect } from 'chai'
import { RecordBoundary } from '../../src/tls/record-boundary.ts'

describe('RecordBoundary', () => {
  const record = (length: number): Buffer =>
    Buffer.concat([Buffer.from([23, 3, 3, length >> 8, length & 0xff]), Buffer.alloc(length, 0xff)])

  it('is reached before the first record and behind each, and nowhere else', () => {
    const bytes = Buffer.concat([record(1), record(0x1234), record(255)])
    const ends = [0, 6, 6 + 5 + 0x1234, bytes.length]
    const boundary = new RecordBoundary()
    const found = boundary.isReached ? [0] : []
    for (const [index, byte] of bytes.entries()) {
      boundary.push(Uint8Array.of(byte))
      if (boundary.isReached) found.push(index + 1)
    }
    expect(found).to.deep.equal(ends)
  })

  it('takes any number of records and parts of them at once', () => {
    const bytes = Buffer.concat([record(300), record(2), record(16_401)])
    for (const cut of [0, 3, 5, 304, 305, 309, 312, 400]) {
      const boundary = new RecordBoundary()
      boundary.push(bytes.subarray(0, cut))
      expect(boundary.isReached, String(cut)).to.equal([0, 305, 312].includes(cut))
      boundary.push(bytes.subarray(cut))
      expect(boundary.isReached).to.equal(true)
    }
  })
})
