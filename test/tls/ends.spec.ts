import { expect } from 'chai'
import { type Certificates, useCertificates } from '../helpers/certificates.ts'
import { useScope } from '../helpers/scope.ts'
import { type Relayed, relayed, VERSIONS } from '../helpers/tls-ends.ts'
import { turns, until } from '../helpers/until.ts'

const DATA = Buffer.alloc(3_000, 'd')

/** One way to end. */
interface Kind {
  /** What must be told: an orderly end, a truncation, or that it broke. */
  readonly told: readonly ('orderly' | 'cut' | 'broken')[]
  /** Bytes that must have been delivered before. */
  readonly length?: number
  /** Whether all is in the kernel before the receiver reads on. */
  readonly isTogether?: boolean
  /** Whether the receiver stops after each chunk. */
  readonly isStopping?: boolean
  readonly end: (relay: Relayed) => Promise<unknown> | unknown
}

const closing = async (relay: Relayed): Promise<Buffer> => {
  relay.sender.transport.end()
  return await relay.heldToFin()
}
const sending = async (relay: Relayed, data: Uint8Array): Promise<Buffer> => {
  await relay.sender.write(data)
  return await relay.held()
}

const KINDS: Record<string, Kind> = {
  'close_notify, and FIN later': {
    told: ['orderly'],
    end: async (relay) => {
      await relay.deliver(await closing(relay))
      await until(() => relay.receiver.end)
      await relay.fin()
    }
  },
  'close_notify and FIN at once': {
    told: ['orderly'],
    isTogether: true,
    end: async (relay) => {
      await relay.deliver(await closing(relay))
      await relay.fin()
    }
  },
  'data, close_notify and FIN at once': {
    told: ['orderly'],
    length: 3_000,
    isTogether: true,
    end: async (relay) => {
      await relay.sender.write(DATA)
      await relay.deliver(await closing(relay))
      await relay.fin()
    }
  },
  '1 MB, close_notify and FIN, while the reader stops after each chunk': {
    told: ['orderly'],
    length: 1_000_000,
    isStopping: true,
    end: async (relay) => {
      await relay.sender.write(Buffer.alloc(1_000_000))
      await relay.deliver(await closing(relay))
      await relay.fin()
    }
  },
  '100 KB, close_notify and FIN at once, while the reader stops after each chunk': {
    told: ['orderly'],
    length: 100_000,
    isTogether: true,
    isStopping: true,
    end: async (relay) => {
      await relay.sender.write(Buffer.alloc(100_000))
      await relay.deliver(await closing(relay))
      await relay.fin()
    }
  },
  '100 KB and FIN at once, while the reader stops after each chunk': {
    told: ['cut'],
    length: 100_000,
    isTogether: true,
    isStopping: true,
    end: async (relay) => {
      await relay.deliver(await sending(relay, Buffer.alloc(100_000)))
      await relay.fin()
    }
  },
  'FIN alone': { told: ['cut'], end: (relay) => relay.fin() },
  'data and FIN at once': {
    told: ['cut'],
    length: 3_000,
    isTogether: true,
    end: async (relay) => {
      await relay.deliver(await sending(relay, DATA))
      await relay.fin()
    }
  },
  'half a record and FIN at once': {
    told: ['cut'],
    length: 0,
    isTogether: true,
    end: async (relay) => {
      await relay.deliver((await sending(relay, DATA)).subarray(0, 1_500))
      await relay.fin()
    }
  },
  'half a close_notify and FIN at once': {
    told: ['cut'],
    isTogether: true,
    end: async (relay) => {
      await relay.deliver((await closing(relay)).subarray(0, -3))
      await relay.fin()
    }
  },
  'close_notify and RST at once': {
    told: ['orderly'],
    isTogether: true,
    end: async (relay) => {
      await relay.deliver(await closing(relay))
      relay.rst()
    }
  },
  'close_notify, and RST later': {
    told: ['orderly'],
    end: async (relay) => {
      await relay.deliver(await closing(relay))
      await until(() => relay.receiver.end)
      relay.rst()
    }
  },
  'data and RST at once': {
    told: ['cut', 'broken'],
    length: 3_000,
    isTogether: true,
    end: async (relay) => {
      await relay.deliver(await sending(relay, DATA))
      relay.rst()
    }
  },
  'RST alone': { told: ['broken'], end: (relay) => relay.rst() },
  'a forged close_notify, in clear, and FIN': {
    told: ['broken'],
    isTogether: true,
    end: async (relay) => {
      await relay.deliver(Buffer.from([21, 3, 3, 0, 2, 1, 0]))
      await relay.fin()
    }
  },
  'close_notify, garbage behind it, and FIN': {
    told: ['orderly'],
    isTogether: true,
    end: async (relay) => {
      await relay.deliver(Buffer.concat([await closing(relay), Buffer.alloc(50_000, 7)]))
      await relay.fin()
    }
  },
  'close_notify byte by byte': {
    told: ['orderly'],
    end: async (relay) => {
      for (const byte of await closing(relay)) {
        await relay.deliver(Uint8Array.of(byte))
        await turns(2)
      }
      await relay.fin()
    }
  }
}

const KINDS_OF_CLIENTS = ['handle', 'stream'] as const
const KINDS_OF_SERVERS = ['handle', 'bare', 'stream'] as const
const OVER = { handle: 'the handle of a socket', bare: 'a handle without a socket', stream: 'a transport' }

const SETTINGS = VERSIONS.flatMap((version) =>
  (['client', 'server'] as const).flatMap((to) =>
    (to === 'server' ? KINDS_OF_SERVERS : KINDS_OF_CLIENTS).map((over) => [version, to, over] as const)
  )
)

describe('how a TLS stream ends', () => {
  let made: Certificates

  before(function () {
    made = useCertificates(this)
  })

  const scope = useScope()

  for (const [version, to, over] of SETTINGS) {
    describe(`for the ${to} over ${version}, over ${OVER[over]}`, () => {
      for (const [name, { told, length, isTogether = false, isStopping = false, end }] of Object.entries(KINDS)) {
        it(`is told as ${told.join(' or ')} at ${name}`, async () => {
          const relay = await relayed(scope, made, version, to, over)
          const { receiver } = relay
          receiver.isStopping = isStopping
          relay.hold()
          if (isTogether) relay.freeze()
          await end(relay)
          if (isTogether) await relay.thaw()
          await until(() => receiver.end, 'the end is told')
          const { end: found } = receiver
          const kind = found instanceof Error ? 'broken' : found
          expect(told, String(found)).to.include(kind)
          if (length !== undefined) expect(Buffer.concat(receiver.chunks).byteLength).to.equal(length)
        })
      }
    })
  }
})
