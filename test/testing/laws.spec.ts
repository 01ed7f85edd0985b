import type { ByteStream } from '../../src/connection.ts'
import { checkLaw, LAWS } from '../../src/testing/check-connection.ts'
import { connectionPair } from '../../src/testing.ts'
import { type Scope, useScope } from '../helpers/scope.ts'
import { openPair } from '../helpers/transports.ts'

type Pair = readonly [ByteStream, ByteStream]

interface Carrier {
  readonly name: string
  readonly hasResets: boolean
  open(scope: Scope): Pair | Promise<Pair>
}

const CARRIERS: readonly Carrier[] = [
  { name: 'memory', hasResets: true, open: () => connectionPair() },
  { name: 'memory that takes 1,000 bytes', hasResets: true, open: () => connectionPair({ capacity: 1000 }) },
  { name: 'TCP', hasResets: true, open: (scope) => overSockets(scope, true) },
  { name: 'a unix socket', hasResets: false, open: (scope) => overSockets(scope, false) }
]

for (const { name, hasResets, open } of CARRIERS) {
  describe(`a connection over ${name}`, () => {
    const scope = useScope()

    for (const law of LAWS) {
      if (!hasResets && law.isOfResets === true) continue
      it(`keeps the law: ${law.name}`, async () => {
        await checkLaw(law, () => open(scope), 8_000)
      })
    }
  })
}

async function overSockets(scope: Scope, isTcp: boolean): Promise<Pair> {
  const { client, server } = await openPair(scope, isTcp)
  return [client, server]
}
