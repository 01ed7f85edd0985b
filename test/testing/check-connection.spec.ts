import { expect } from 'chai'
import type { ByteStream } from '../../src/connection.ts'
import { BrokenLawError, checkConnection, connectionPair } from '../../src/testing.ts'
import { BAD_PAIRS } from '../helpers/bad-pairs.ts'
import { rejection } from '../helpers/rejection.ts'

describe('checkConnection()', () => {
  it('resolves where all laws hold, and has closed what it opened', async () => {
    const opened: ByteStream[] = []
    await checkConnection(() => {
      const pair = connectionPair()
      opened.push(...pair)
      return pair
    })
    expect(opened.length).to.be.greaterThan(100)
    await Promise.all(opened.map((stream) => stream.closed))
  })

  it('resolves where there are no resets, if it is told so', async () => {
    await checkConnection(() => connectionPair(), { hasResets: false })
  })

  describe('names the law that is broken by a stream that', () => {
    for (const { does, breaks, open } of BAD_PAIRS) {
      for (const isFirst of [true, false]) {
        it(`${does}: '${breaks}', at the ${isFirst ? 'first' : 'second'} end`, async () => {
          const error = await rejection(checkConnection(() => open(isFirst), { timeout: 600 }))
          expect(error).to.be.instanceOf(BrokenLawError)
          expect((error as BrokenLawError).law).to.equal(breaks)
          expect((error as BrokenLawError).message).to.include(breaks)
        })
      }
    }
  })

  it('takes a check that does not come to an end for a broken law', async () => {
    const strangers = (): [ByteStream, ByteStream] => [connectionPair()[0], connectionPair()[0]]
    const error = (await rejection(checkConnection(strangers, { timeout: 20 }))) as BrokenLawError
    expect(error.law).to.equal('every byte arrives once, in the order of sending')
    expect(error.message).to.match(/it did not come to an end within 20 ms$/)
  })

  it('rejects with what makePair throws', async () => {
    const failure = new Error('no pair')
    const makePair = (): never => {
      throw failure
    }
    expect(await rejection(checkConnection(makePair))).to.equal(failure)
  })

  it('refuses what is no function and what is no limit, quoting the value', async () => {
    expect(await rejection(checkConnection('pair' as never)))
      .to.be.instanceOf(TypeError)
      .with.property('message', `Cannot check a connection as 'makePair' must be a function: received 'pair'`)
    for (const timeout of [0, -1, Number.NaN, '5']) {
      expect(String(await rejection(checkConnection(() => connectionPair(), { timeout: timeout as number })))).to.match(
        /'timeout' must be .*received/
      )
    }
    expect(String(await rejection(checkConnection(() => connectionPair(), { hasResets: 1 as never })))).to.match(
      /'hasResets' must be .*received 1/
    )
  })
})
