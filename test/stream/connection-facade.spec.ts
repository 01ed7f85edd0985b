import { setTimeout as wait } from 'node:timers/promises'
import { inspect } from 'node:util'
import { expect } from 'chai'
import { ConnectionClosedError } from '../../src/index.ts'
import { expectRefusal } from '../helpers/bad-input.ts'
import { readToEnd } from '../helpers/raw.ts'
import { rejection } from '../helpers/rejection.ts'
import { useScope } from '../helpers/scope.ts'
import { openEnds, TOO_MUCH, TRANSPORTS } from '../helpers/transports.ts'
import { turns, until } from '../helpers/until.ts'

describe('What users hold of a connection', () => {
  for (const kind of TRANSPORTS) {
    describe(`of ${kind.name}`, () => {
      const scope = useScope()

      it('has public members only', async () => {
        const { connection } = await openEnds(scope, kind)
        const membersOf = (object: object): string[] =>
          [object, Object.getPrototypeOf(object) as object]
            .flatMap((one) => Reflect.ownKeys(one).map(String))
            .filter((key) => !key.startsWith('Symbol(') && key !== 'constructor' && key !== 'length' && key !== 'name')
            .sort()
        expect(membersOf(connection.reader)).to.deep.equal(
          [
            'bytesAvailable',
            'bytesRead',
            'chunks',
            'discard',
            'ended',
            'lineBatches',
            'lines',
            'peek',
            'read',
            'readAll',
            'readExactly',
            'readInto',
            'readLine',
            'readUntil'
          ] // prettier-ignore
        )
        expect(membersOf(connection.writer)).to.deep.equal(
          ['bufferAgeLimit', 'bytesPending', 'bytesWritten', 'close', 'flushed', 'isClosed', 'write', 'writeAll'] // prettier-ignore
        )
        for (const member of membersOf(connection)) expect(member).not.to.match(/^_|init|machine|transport|incoming|outgoing/)
        expect(Reflect.ownKeys(connection)).to.deep.equal([])
      })

      it('prints addresses, state and counters', async () => {
        const { connection, peer } = await openEnds(scope, kind)
        connection.writer.write('abc')
        peer.write('de')
        await connection.writer.flushed()
        await until(() => connection.reader.bytesAvailable === 2)
        const printed = inspect(connection)
        expect(printed).to.match(/^Connection \{ .+ (->|<-) .+, open, read: 2, written: 3, pending: 0 \}$/)
        if (kind.isTcp) expect(printed).to.contain('127.0.0.1:')
        expect(inspect(connection.reader)).to.equal('Reader { bytesRead: 2, bytesAvailable: 2, ended: false, pendingRead: false }')
        expect(inspect(connection.writer)).to.equal('Writer { bytesWritten: 3, bytesPending: 0, closed: false }')
        connection.abort()
        await connection.closed
        expect(inspect(connection)).to.contain(', closed, ')
      })

      it('abort(null) has null for its reason', async () => {
        const { connection } = await openEnds(scope, kind)
        connection.abort(null)
        await connection.closed
        expect(connection.signal.reason).to.equal(null)
        expect(await rejection(connection.reader.read()))
          .to.be.instanceOf(ConnectionClosedError)
          .with.property('cause', null)
      })

      it('close({ linger }) waits so long for the peer and no longer, and 0 closes right behind the end', async () => {
        for (const linger of [0, 20]) {
          const { connection, peer } = await openEnds(scope, kind)
          const arrived = readToEnd(peer)
          connection.writer.write('bye')
          await connection.close({ linger })
          expect(`${await arrived}`).to.equal('bye')
        }
      })

      it('close({ linger }) may be shortened by a later call', async () => {
        const { connection } = await openEnds(scope, kind)
        void connection.close({ linger: 100_000 })
        await wait(5)
        await connection.close({ linger: 1 })
      })

      it('refuses a linger below 0, and is not closed by that', async () => {
        const { connection } = await openEnds(scope, kind)
        expectRefusal(await rejection(connection.close({ linger: -1 })), 'linger', 'Cannot close', -1)
        connection.writer.write('still open')
      })

      it('all that is pending settles when somebody destroys the socket while the connection closes', async () => {
        const { connection } = await openEnds(scope, kind)
        connection.writer.write(TOO_MUCH)
        const flushed = rejection(connection.writer.flushed())
        const finished = rejection(connection.writer.close())
        const closed = rejection(connection.close())
        await turns()
        connection.socket.destroy()
        for (const error of await Promise.all([flushed, finished, closed])) expect(error).to.be.instanceOf(ConnectionClosedError)
      })

      it('a write error of the system itself is not blamed on the peer', async () => {
        const { connection } = await openEnds(scope, kind)
        const cause = Object.assign(new Error('write ENOBUFS'), { code: 'ENOBUFS' })
        connection.socket._write = (_chunk, _encoding, callback) => callback(cause)
        connection.writer.write('x')
        const error = await rejection(connection.writer.flushed())
        expect(error).to.be.instanceOf(ConnectionClosedError).with.property('cause', cause)
      })
    })
  }
})
