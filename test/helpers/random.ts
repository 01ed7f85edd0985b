// Chance that can be repeated, and data to send made with it.

/** Gives a whole number below a bound. */
export type Random = (below: number) => number

/** Whole numbers below a bound, the same for the same seed. */
export function randomFrom(seed: number): Random {
  let state = seed
  return (below) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
    return (state >>> 8) % below
  }
}

/** ASCII: few letters, so that delimiters begin often and end seldom, and lines of both kinds. */
export function randomText(random: Random, length: number): Uint8Array {
  const data = new Uint8Array(length)
  for (let i = 0; i < length; i++) data[i] = random(40) === 0 ? 0x0a : 0x61 + random(3)
  for (let i = 1; i < length; i++) if (data[i] === 0x0a && random(3) === 0) data[i - 1] = 0x0d
  // A carriage return in front of another line end would be part of its line.
  for (let i = 1; i < length; i++) if (data[i] === 0x0d && data[i - 1] === 0x0d) data[i - 1] = 0x61
  return data
}

/** Pieces of random size, most of them small. */
export function* randomPieces(random: Random, data: Uint8Array): Generator<Uint8Array> {
  for (let start = 0; start < data.byteLength; ) {
    const piece = data.subarray(start, start + 1 + random(random(10) === 0 ? 100_000 : 300))
    yield piece
    start += piece.byteLength
  }
}
