import { expect } from 'chai'
import { crc32c } from '../../src/proxy/crc32c.ts'

describe('crc32c', () => {
  // RFC 3720, appendix B.4, and the catalogue's check value.
  for (const [name, bytes, expected] of [
    ['nothing', new Uint8Array(), 0],
    ['the digits from 1 to 9', Buffer.from('123456789'), 0xe306_9283],
    ['32 bytes of 0', new Uint8Array(32), 0x8a91_36aa],
    ['32 bytes of 255', new Uint8Array(32).fill(255), 0x62a8_ab43],
    ['32 bytes that go up', Uint8Array.from({ length: 32 }, (_, index) => index), 0x46dd_794e],
    ['32 bytes that go down', Uint8Array.from({ length: 32 }, (_, index) => 31 - index), 0x113f_db5c]
  ] as const) {
    it(`of ${name} is 0x${expected.toString(16)}`, () => {
      expect(crc32c(bytes)).to.equal(expected)
    })
  }

  it('takes four bytes for 0, where it is told to', () => {
    const bytes = new Uint8Array(32)
    bytes.fill(7, 10, 14)
    expect(crc32c(bytes, 10)).to.equal(0x8a91_36aa)
    expect(crc32c(bytes, 9)).to.not.equal(0x8a91_36aa)
  })
})
