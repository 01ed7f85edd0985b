import { createHash, randomBytes } from 'node:crypto'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { expect } from 'chai'
import { type Connection, connect, listen, onPortChosenByOs, relay, toHostAndPort } from '../../src/index.ts'
import { type Certificates, useCertificates } from '../helpers/certificates.ts'
import { type Scope, useScope } from '../helpers/scope.ts'
import { VERSIONS, type Version } from '../helpers/tls-ends.ts'
import { clientOptions, plainPair, serverContext } from '../helpers/tls-pair.ts'

describe('Bytes that a sink takes from a reader, and passes on as they arrive, over TLS', () => {
  const scope = useScope()
  let made: Certificates

  before(function () {
    made = useCertificates(this)
  })

  for (const version of VERSIONS) {
    it(`are those that were received, through two sessions of ${version} in a row`, async () => {
      const [near, far] = [await securePair(scope, made, version), await securePair(scope, made, version)]
      const relayed = relay(near.server, far.client)
      const [up, down] = [randomBytes(3_000_000), randomBytes(2_000_000)]
      const results = await Promise.all([sendAndDigest(near.client, up), sendAndDigest(far.server, down)])
      expect(results).to.deep.equal([digest(down), digest(up)])
      expect(await relayed).to.deep.equal({ aToB: up.byteLength, bToA: down.byteLength })
    })
  }

  it('wait until the handshake is done, where it had begun: nothing of them is sent in clear, nor before it', async () => {
    const [source, target] = [await plainPair(scope), await plainPair(scope)]
    const starting = target.client.startTls(clientOptions(made))
    const sinking = target.client.writer(source.server.reader)
    source.client.writer.write('secret')
    await source.client.writer.close()
    await nextTurn()
    await Promise.all([target.server.startTls(serverContext(made)), starting])
    expect(Buffer.from(await target.server.reader.readAll()).toString()).to.equal('secret')
    await sinking
  })

  for (const version of VERSIONS) {
    it(`never reach a peer that is not the one that was meant: ${version}`, async () => {
      const [source, target] = [await plainPair(scope), await plainPair(scope)]
      const starting = Promise.allSettled([
        target.server.startTls(serverContext(made, { version })),
        target.client.startTls({ serverName: 'a.test' })
      ])
      const sinking = Promise.allSettled([target.client.writer(source.server.reader)])
      source.client.writer.write('secret')
      const [, refusal] = await starting
      expect(refusal).to.have.property('status', 'rejected')
      await sinking
      await target.server.reader.ended
      expect(target.server.reader.bytesRead).to.equal(0)
    })
  }
})

async function securePair(scope: Scope, made: Certificates, version: Version): Promise<{ client: Connection; server: Connection }> {
  const listening = scope.open(await listen(onPortChosenByOs({ host: '127.0.0.1' }), { tls: serverContext(made, { version }) }))
  const accepted = listening.accept()
  const client = await connect(toHostAndPort('127.0.0.1', listening.listeningOn), { tls: clientOptions(made) })
  const server = await accepted
  scope.defer(() => {
    client.abort()
    server.abort()
    return Promise.all([client.closed, server.closed])
  })
  return { client, server }
}

/** Sends all, and says what came: taken in turns that leave writes waiting at the other end. */
async function sendAndDigest({ reader, writer }: Connection, bytes: Uint8Array): Promise<string> {
  const sent = writer([bytes])
  const hash = createHash('sha256')
  for await (const chunk of reader) {
    hash.update(chunk)
    await nextTurn()
  }
  await sent
  return hash.digest('hex')
}

function digest(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}
