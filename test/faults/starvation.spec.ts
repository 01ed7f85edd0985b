import { expect } from 'chai'
import { setImmediate } from '../../src/async/platform.ts'
import type { Connection } from '../../src/index.ts'
import { useScope } from '../helpers/scope.ts'
import { openEnds, TRANSPORTS } from '../helpers/transports.ts'

const TIMES = 3_000
/** As many steps as a loop may take in one turn of the event loop, and some. */
const MOST_IN_A_TURN = 600

const WAYS: Record<string, (connection: Connection) => Promise<unknown>> = {
  'write() and flushed()': ({ writer }) => {
    writer.write('x')
    return writer.flushed()
  },
  'writeAll()': ({ writer }) => writer.writeAll(['x']),
  'flushed() alone': ({ writer }) => writer.flushed()
}

/** The most steps that were taken in one turn of the event loop. */
async function mostInOneTurn(step: () => Promise<unknown>): Promise<number> {
  let isOver = false
  let most = 0
  let inThisTurn = 0
  const nextTurn = (): void => {
    inThisTurn = 0
    if (!isOver) setImmediate(nextTurn)
  }
  setImmediate(nextTurn)
  for (let count = 0; count < TIMES; count++) {
    await step()
    most = Math.max(most, ++inThisTurn)
  }
  isOver = true
  return most
}

describe('Whoever writes and waits, again and again, holds up nobody, though the system takes the bytes at once', () => {
  for (const kind of TRANSPORTS) {
    describe(`into ${kind.name}`, () => {
      const scope = useScope()

      for (const [name, step] of Object.entries(WAYS)) {
        it(`by ${name}`, async () => {
          const { connection, peer } = await openEnds(scope, kind)
          peer.resume()
          expect(await mostInOneTurn(() => step(connection))).to.be.at.most(MOST_IN_A_TURN)
        })
      }

      it('what waits for its turn is told all the same when the connection breaks, and is not fatal', async () => {
        const { connection } = await openEnds(scope, kind)
        const waiting: Promise<void>[] = []
        for (let count = 0; count < MOST_IN_A_TURN; count++) {
          connection.writer.write('x')
          waiting.push(connection.writer.flushed())
        }
        connection.abort()
        const results = await Promise.allSettled(waiting)
        expect(results.at(-1)).to.include({ status: 'rejected' })
      })
    })
  }
})
