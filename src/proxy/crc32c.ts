// The checksum CRC32C (Castagnoli), which Node.js does not have.

const POLYNOMIAL = 0x82f63b78
let table: Int32Array | undefined

/** CRC32C of `bytes`; of those at `hole`, four, as if they were 0. */
export function crc32c(bytes: Uint8Array, hole = bytes.byteLength): number {
  table ??= makeTable()
  let crc = -1
  for (let at = 0; at < bytes.byteLength; at++) {
    const byte = at >= hole && at < hole + 4 ? 0 : (bytes[at] as number)
    crc = (table[(crc ^ byte) & 0xff] as number) ^ (crc >>> 8)
  }
  return ~crc >>> 0
}

function makeTable(): Int32Array {
  return Int32Array.from({ length: 256 }, (_, byte) => {
    let crc = byte
    for (let bit = 0; bit < 8; bit++) crc = (crc & 1) === 1 ? (crc >>> 1) ^ POLYNOMIAL : crc >>> 1
    return crc
  })
}
