import { getEventListeners, getMaxListeners, setMaxListeners } from 'node:events'
import { expect } from 'chai'
import { onceAborted, raceSignal } from '../../src/async/abort.ts'
import { Deferred } from '../../src/async/deferred.ts'
import { rejection } from '../helpers/rejection.ts'
import { turns } from '../helpers/until.ts'

const listeners = (signal: AbortSignal): number => getEventListeners(signal, 'abort').length

describe('onceAborted', () => {
  it('calls back with the reason, once', () => {
    const controller = new AbortController()
    const reasons: unknown[] = []
    onceAborted(controller.signal, (reason) => reasons.push(reason))
    controller.abort('enough')
    controller.abort('again')
    expect(reasons).to.deep.equal(['enough'])
    expect(listeners(controller.signal)).to.equal(0)
  })

  it('returns what takes the listener off again, and may be called twice', () => {
    const controller = new AbortController()
    const unhook = onceAborted(controller.signal, () => expect.fail('called'))
    expect(listeners(controller.signal)).to.equal(1)
    unhook()
    unhook()
    expect(listeners(controller.signal)).to.equal(0)
    controller.abort()
  })

  it('any number of listeners on one signal is no leak to warn of (nodejs/node#55816)', async () => {
    const warnings: Error[] = []
    const onWarning = (warning: Error): void => void warnings.push(warning)
    process.on('warning', onWarning)
    const { signal } = new AbortController()
    const unhooks = Array.from({ length: 100 }, () => onceAborted(signal, () => expect.fail('called')))
    await turns()
    process.off('warning', onWarning)
    expect(warnings).to.deep.equal([])
    for (const unhook of unhooks) unhook()
    expect(listeners(signal)).to.equal(0)
  })

  it('leaves a limit of listeners alone that the caller has set', () => {
    const { signal } = new AbortController()
    setMaxListeners(3, signal)
    onceAborted(signal, () => {})()
    expect(getMaxListeners(signal)).to.equal(3)
  })

  it('takes no signal at all', () => {
    onceAborted(undefined, () => expect.fail('called'))()
  })
})

describe('raceSignal', () => {
  it('resolves as the promise does and takes its listener off', async () => {
    const { signal } = new AbortController()
    expect(await raceSignal(Promise.resolve(1), signal)).to.equal(1)
    await turns(1)
    expect(listeners(signal)).to.equal(0)
  })

  it('rejects as the promise does and takes its listener off', async () => {
    const { signal } = new AbortController()
    expect(await rejection(raceSignal(Promise.reject('reason'), signal))).to.equal('reason')
    await turns(1)
    expect(listeners(signal)).to.equal(0)
  })

  it('rejects with the reason of the signal as soon as it aborts', async () => {
    const controller = new AbortController()
    const reason = new Error('enough')
    const race = raceSignal(new Promise(() => {}), controller.signal)
    controller.abort(reason)
    expect(await rejection(race)).to.equal(reason)
    expect(listeners(controller.signal)).to.equal(0)
  })

  it('rejects at once if the signal is aborted already, and leaves no rejection unhandled', async () => {
    const lost = new Deferred()
    expect(await rejection(raceSignal(lost.promise, AbortSignal.abort('before')))).to.equal('before')
    lost.reject(new Error('too late to matter'))
    await turns()
  })

  it('leaves no rejection unhandled if the promise rejects after the abort', async () => {
    const controller = new AbortController()
    const lost = new Deferred()
    const race = raceSignal(lost.promise, controller.signal)
    controller.abort('enough')
    expect(await rejection(race)).to.equal('enough')
    lost.reject(new Error('too late to matter'))
    await turns()
  })

  it('without a signal is the promise itself', () => {
    const promise = Promise.resolve()
    expect(raceSignal(promise, undefined)).to.equal(promise)
  })
})
