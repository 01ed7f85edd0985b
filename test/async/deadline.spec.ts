import { getEventListeners } from 'node:events'
import { mock } from 'node:test'
import { expect } from 'chai'
import { Deadline, TIMED_OUT } from '../../src/async/deadline.ts'
import { Deferred } from '../../src/async/deferred.ts'
import { rejection } from '../helpers/rejection.ts'
import { turns } from '../helpers/until.ts'

const NEVER = Number.POSITIVE_INFINITY

describe('Deadline', () => {
  beforeEach(() => mock.timers.enable({ apis: ['setTimeout'] }))
  afterEach(() => mock.timers.reset())

  it('is one for several tasks, one behind the other', async () => {
    const deadline = new Deadline(100, undefined)
    expect(await deadline.wait(Promise.resolve(1))).to.equal(1)
    mock.timers.tick(60)
    const stopped: string[] = []
    const waiting = rejection(deadline.run(() => () => stopped.push('second')))
    mock.timers.tick(39)
    expect(stopped).to.deep.equal([])
    mock.timers.tick(1)
    expect(stopped).to.deep.equal(['second'])
    expect(await waiting).to.equal(TIMED_OUT)
    expect(deadline.hasPassed).to.equal(true)
    expect(() => deadline.throwIfPassed()).to.throw()
  })

  it('ends what is under way when the signal aborts, with its reason', async () => {
    const controller = new AbortController()
    const deadline = new Deadline(NEVER, controller.signal)
    let isStopped = false
    const running = deadline.run(() => () => {
      isStopped = true
    })
    controller.abort('enough')
    expect(isStopped).to.equal(true)
    expect(await rejection(running)).to.equal('enough')
    expect(getEventListeners(controller.signal, 'abort')).to.deep.equal([])
  })

  it('does not stop a task that has settled, also if it settled at once', async () => {
    const controller = new AbortController()
    const deadline = new Deadline(NEVER, controller.signal)
    const stop = (): void => expect.fail('stopped')
    expect(
      await deadline.run((resolve) => {
        resolve(1)
        return stop
      })
    ).to.equal(1)
    const error = new Error('failed')
    expect(
      await rejection(
        deadline.run((_, reject) => {
          reject(error)
          return stop
        })
      )
    ).to.equal(error)
    controller.abort()
  })

  it('starts nothing once it has passed, and leaves no rejection unhandled', async () => {
    const controller = new AbortController()
    const deadline = new Deadline(NEVER, controller.signal)
    controller.abort('enough')
    expect(await rejection(deadline.run(() => expect.fail('started')))).to.equal('enough')
    const late = new Deferred()
    expect(await rejection(deadline.wait(late.promise))).to.equal('enough')
    late.reject(new Error('too late to matter'))
    await turns()
  })

  it('throws the reason of a signal that is aborted already', () => {
    const reason = new Error('enough')
    expect(() => new Deadline(100, AbortSignal.abort(reason))).to.throw(reason)
  })

  it('leaves neither timer nor listener behind when it is stopped', () => {
    mock.timers.reset()
    const { signal } = new AbortController()
    const timers = (): number => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length
    const before = timers()
    const deadline = new Deadline(60_000, signal)
    expect(timers()).to.equal(before + 1)
    deadline.stop()
    deadline.stop()
    expect(timers()).to.equal(before)
    expect(getEventListeners(signal, 'abort')).to.deep.equal([])
    expect(deadline.hasPassed).to.equal(false)
  })
})
