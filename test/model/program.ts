// Programs to run against the library: what they consist of, and how they are drawn.

import fc from 'fast-check'

export const READS = ['next', 'read', 'readExactly', 'readUntil', 'peek', 'readLine', 'lines', 'readInto', 'readAll', 'discard'] as const
export type ReadKind = (typeof READS)[number]

export const SHAPES = ['bytes', 'latin1', 'utf8', 'list'] as const
export type Shape = (typeof SHAPES)[number]

export interface ReadRequest {
  readonly kind: ReadKind
  readonly length: number
  readonly maxLength: number
  readonly delimiter: string
  readonly signal: 'none' | 'live' | 'aborted'
}

/** One step. `end` and `link` are counted modulo what is there; a step for which nothing is there does nothing. */
export type Step =
  | { readonly do: 'connect'; readonly by: 'raw' | 'library'; readonly to: 'server' | 'raw'; readonly bufferSize: number }
  | { readonly do: 'dialInVain'; readonly how: 'aborted' | 'aborted soon' | 'refused' }
  | { readonly do: 'accept'; readonly how: 'accept' | 'next'; readonly signal: boolean }
  | { readonly do: 'abortAccept' }
  | { readonly do: 'write'; readonly end: number; readonly size: number; readonly shape: Shape }
  // Byte by byte, so that whatever is looked for lies across chunks.
  | { readonly do: 'dribble'; readonly end: number; readonly size: number }
  | { readonly do: 'flush'; readonly end: number }
  | {
      readonly do: 'pour'
      readonly end: number
      readonly how: 'sink' | 'writeAll'
      readonly source: 'sync' | 'async'
      readonly sizes: readonly number[]
      readonly ending: 'done' | 'throw'
    }
  | { readonly do: 'halfClose'; readonly end: number }
  | { readonly do: 'close'; readonly end: number; readonly how: 'close' | 'dispose' | 'force' }
  | { readonly do: 'abort'; readonly end: number }
  | { readonly do: 'destroy'; readonly end: number }
  // One after the other, as long as they find what they want.
  | { readonly do: 'read'; readonly end: number; readonly requests: readonly ReadRequest[] }
  | { readonly do: 'abortRead'; readonly end: number }
  | { readonly do: 'leave'; readonly end: number }
  | { readonly do: 'endHandler'; readonly end: number; readonly how: 'return' | 'throw' | 'rethrow' }
  | { readonly do: 'setLimit'; readonly limit: number }
  | { readonly do: 'setDropping'; readonly isDropping: boolean }
  | { readonly do: 'closeServer'; readonly how: 'close' | 'connections' | 'force' | 'return' | 'signal' | 'dispose' }
  | { readonly do: 'settle' }
  | { readonly do: 'turns'; readonly count: number }

export interface Timed {
  readonly step: Step
  /** Turns of the event loop after the step. */
  readonly turns: number
}

export interface Program {
  readonly transport: 'tcp' | 'unix'
  readonly gate: 'kernel' | 'userland'
  readonly server: 'listen' | 'raise' | 'ignore' | 'callback'
  readonly maxConnections: number
  readonly bufferSize: number
  /** Whether signals and promises that are made when first asked for are asked for at the start. */
  readonly isWatched: boolean
  /** Clients that are served before the first step. */
  readonly served: readonly ('raw' | 'library')[]
  readonly steps: readonly Timed[]
  /** Whether at the end all who wait are served, or the server closes first. */
  readonly last: 'serve' | 'shut'
}

/** As `fc.record()`, giving plain objects, which are easier to read. */
function record<T>(fields: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> {
  return fc.record(fields, { noNullPrototype: true }) as fc.Arbitrary<T>
}

const bufferSize = fc.constantFrom(65_536, 1, 10, 1000)
const end = fc.nat({ max: 5 })
const size = fc.oneof(
  { weight: 2, arbitrary: fc.nat({ max: 4 }) },
  { weight: 5, arbitrary: fc.nat({ max: 40 }) },
  { weight: 3, arbitrary: fc.nat({ max: 2100 }) },
  { weight: 2, arbitrary: fc.constantFrom(65_535, 65_536, 65_537, 131_072) },
  { weight: 1, arbitrary: fc.nat({ max: 300_000 }) }
)
const length = fc.oneof(fc.nat({ max: 30 }), fc.nat({ max: 2100 }), fc.constantFrom(65_535, 65_536, 65_537, 200_000))

const request: fc.Arbitrary<ReadRequest> = record({
  kind: fc.constantFrom(...READS, 'readUntil', 'readLine', 'lines'),
  length,
  maxLength: fc.oneof(fc.integer({ min: 1, max: 30 }), fc.constantFrom(500, 65_536, 1_000_000_000)),
  delimiter: fc.constantFrom('\n', '\r\n', 'ab', 'ba', 'abc', 'é'),
  signal: fc.constantFrom('none', 'none', 'none', 'live', 'live', 'aborted')
})

type Do = Step['do']
const WEIGHTS: { readonly [D in Do]: readonly [weight: number, fields: fc.Arbitrary<Omit<Extract<Step, { do: D }>, 'do'>>] } = {
  connect: [6, record({ by: fc.constantFrom('raw', 'library'), to: fc.constantFrom('server', 'server', 'raw'), bufferSize })],
  dialInVain: [1, record({ how: fc.constantFrom('aborted', 'aborted soon', 'refused') })],
  accept: [5, record({ how: fc.constantFrom('accept', 'next'), signal: fc.boolean() })],
  abortAccept: [2, record({})],
  write: [16, record({ end, size, shape: fc.constantFrom(...SHAPES) })],
  dribble: [3, record({ end, size: fc.integer({ min: 2, max: 12 }) })],
  flush: [4, record({ end })],
  pour: [
    3,
    record({
      end,
      how: fc.constantFrom('sink', 'writeAll'),
      source: fc.constantFrom('sync', 'async'),
      sizes: fc.array(size, { maxLength: 8 }),
      ending: fc.constantFrom('done', 'done', 'throw')
    })
  ],
  halfClose: [3, record({ end })],
  close: [3, record({ end, how: fc.constantFrom('close', 'close', 'dispose', 'force') })],
  abort: [3, record({ end })],
  destroy: [1, record({ end })],
  read: [22, record({ end, requests: fc.array(request, { minLength: 1, maxLength: 6, size: 'max' }) })],
  abortRead: [3, record({ end })],
  leave: [2, record({ end })],
  endHandler: [3, record({ end, how: fc.constantFrom('return', 'throw', 'rethrow') })],
  setLimit: [2, record({ limit: fc.integer({ min: 1, max: 4 }) })],
  setDropping: [1, record({ isDropping: fc.boolean() })],
  closeServer: [1, record({ how: fc.constantFrom('close', 'connections', 'force', 'return', 'signal', 'dispose') })],
  settle: [5, record({})],
  turns: [2, record({ count: fc.integer({ min: 1, max: 20 }) })]
}

const step: fc.Arbitrary<Step> = fc.oneof(
  ...(Object.keys(WEIGHTS) as Do[]).map((name) => {
    const [weight, fields] = WEIGHTS[name]
    return { weight, arbitrary: (fields as fc.Arbitrary<object>).map((rest) => ({ do: name, ...rest }) as Step) }
  })
)

/** All programs. */
export const programs: fc.Arbitrary<Program> = record({
  transport: fc.constantFrom('tcp', 'unix'),
  gate: fc.constantFrom('kernel', 'userland'),
  server: fc.constantFrom('listen', 'listen', 'raise', 'ignore', 'callback'),
  maxConnections: fc.integer({ min: 1, max: 4 }),
  bufferSize,
  isWatched: fc.boolean(),
  served: fc.array(fc.constantFrom('raw', 'library'), { maxLength: 2 }),
  steps: fc.array(record({ step, turns: fc.nat({ max: 2 }) }), { maxLength: 40, size: 'max' }),
  last: fc.constantFrom('serve', 'serve', 'shut')
})
