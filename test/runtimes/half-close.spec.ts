import { expect } from 'chai'
import { useScope } from '../helpers/scope.ts'
import { closed } from '../helpers/settings.ts'
import { openEnds, TRANSPORTS } from '../helpers/transports.ts'

const MUCH = 16 * 1024 * 1024

describe('half-close on every runtime', () => {
  const scope = useScope()

  for (const transport of TRANSPORTS.filter(({ isTcp }) => isTcp)) {
    // Deno fails writes to such a peer. It must not take what it got until then for the whole.
    it(`a peer of ${transport.name} that ends first and reads later gets all of what was written, or sees a reset`, async () => {
      const { connection, peer } = await openEnds(scope, transport)
      peer.end()
      connection.writer.write(new Uint8Array(MUCH))
      void connection.close().catch(() => {})
      await connection.reader.ended
      let received = 0
      let reset: Error | undefined
      peer.on('error', (error) => {
        reset = error
      })
      peer.on('data', (chunk: Buffer) => {
        received += chunk.byteLength
      })
      peer.resume()
      await closed(peer)
      expect(reset === undefined ? received : MUCH).to.equal(MUCH)
      if (reset !== undefined) expect(connection.signal.reason).to.be.instanceOf(Error).with.property('code', 'ERR_CONNECTION_RESET')
    })
  }
})
