import type { ByteStream } from '../../src/connection.ts'
import { checkLaw, LAWS } from '../../src/testing/check-connection.ts'
import { connectionPair } from '../../src/testing.ts'
import { type Certificates, useCertificates } from '../helpers/certificates.ts'
import { type Scope, useScope } from '../helpers/scope.ts'
import { secure, tlsPair } from '../helpers/tls-pair.ts'
import { openPair } from '../helpers/transports.ts'

type Pair = readonly [ByteStream, ByteStream]

interface Carrier {
  readonly name: string
  readonly hasResets: boolean
  open(scope: Scope, made: Certificates): Pair | Promise<Pair>
}

const CARRIERS: readonly Carrier[] = [
  { name: 'memory', hasResets: true, open: () => connectionPair() },
  { name: 'memory that takes 1,000 bytes', hasResets: true, open: () => connectionPair({ capacity: 1000 }) },
  { name: 'TCP', hasResets: true, open: (scope) => overSockets(scope, true) },
  { name: 'a unix socket', hasResets: false, open: (scope) => overSockets(scope, false) },
  { name: 'TLS 1.2', hasResets: true, open: (scope, made) => overTls(scope, made, 'TLSv1.2') },
  { name: 'TLS 1.3', hasResets: true, open: (scope, made) => overTls(scope, made, 'TLSv1.3') },
  { name: 'TLS over memory', hasResets: true, open: (_scope, made) => overTlsInMemory(made) }
]

for (const { name, hasResets, open } of CARRIERS) {
  describe(`a connection over ${name}`, () => {
    const scope = useScope()
    let made: Certificates

    before(function () {
      if (name.startsWith('TLS')) made = useCertificates(this)
    })

    for (const law of LAWS) {
      if (!hasResets && law.isOfResets === true) continue
      it(`keeps the law: ${law.name}`, async () => {
        await checkLaw(law, () => open(scope, made), 8_000)
      })
    }
  })
}

async function overSockets(scope: Scope, isTcp: boolean): Promise<Pair> {
  const { client, server } = await openPair(scope, isTcp)
  return [client, server]
}

async function overTls(scope: Scope, made: Certificates, version: 'TLSv1.2' | 'TLSv1.3'): Promise<Pair> {
  const { client, server } = await tlsPair(scope, made, { version })
  return [client, server]
}

async function overTlsInMemory(made: Certificates): Promise<Pair> {
  const [client, server] = connectionPair()
  await secure({ client, server }, made)
  return [client, server]
}
