import { mock } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { expect } from 'chai'
import { formatAddress } from '../../src/address.ts'
import { listen } from '../../src/listen.ts'
import { GatedListener } from '../../src/server/listening-socket.ts'
import { onPort } from '../../src/where-to-listen.ts'
import { inEverySetting } from '../helpers/settings.ts'

describe('Server: what its gatekeeper says', () => {
  inEverySetting((setting) => {
    const { clients, turns } = setting

    describe('at the limit, one warning at most per minute names the address and the limit', () => {
      it('the second time within a minute nothing is said, after a minute again', async () => {
        const limitWarnings = (): string[] =>
          setting.warnings.filter(({ code }) => code === 'IT_TCP_AT_LIMIT').map(({ message }) => message)
        const server = await setting.listen({ maxConnections: 1 })
        const hitLimit = async (): Promise<void> => {
          const [socket] = await clients(server, 1)
          const connection = await server.accept()
          await turns(2)
          connection.abort()
          await connection.closed
          socket?.destroy()
        }
        await hitLimit()
        expect(limitWarnings()).to.have.lengthOf(1)
        expect(limitWarnings()[0]).to.include(formatAddress(server.address)).and.to.match(/\b1\b/)
        await hitLimit()
        expect(limitWarnings()).to.have.lengthOf(1)
        const now = performance.now()
        for (const [passed, count] of [
          [59_000, 1],
          [61_000, 2],
          [61_001, 2]
        ] as const) {
          const clock = mock.method(performance, 'now', () => now + passed)
          try {
            await hitLimit()
          } finally {
            clock.mock.restore()
          }
          expect(limitWarnings()).to.have.lengthOf(count)
        }
      })

      it('below the limit nothing is said', async () => {
        const server = await setting.listen({ maxConnections: 2 })
        await clients(server, 1)
        await server.accept()
        await turns(2)
        expect(setting.warnings).to.deep.equal([])
      })
    })
  })

  it('a listening socket that fails to close is told by a warning, and its server has closed all the same', async () => {
    const warnings: Error[] = []
    const note = (warning: Error): void => void warnings.push(warning)
    const server = await listen(onPort(0, { host: '127.0.0.1' }))
    const close = GatedListener.prototype.close
    GatedListener.prototype.close = async function (this: GatedListener) {
      await close.call(this)
      throw Object.assign(new Error('permission denied'), { code: 'EACCES' })
    }
    process.on('warning', note)
    try {
      await server.close()
      await server.finished
      await setImmediate()
    } finally {
      GatedListener.prototype.close = close
      process.off('warning', note)
    }
    expect(warnings.map(({ message }) => message)).to.deep.equal([
      `Server on ${formatAddress(server.address)} could not close cleanly: permission denied`
    ])
  })
})
