import { expect } from 'chai'
import { Deferred } from '../../src/async/deferred.ts'
import { rejection } from '../helpers/rejection.ts'
import { turns } from '../helpers/until.ts'

describe('Deferred', () => {
  it('resolves from outside', async () => {
    const deferred = new Deferred<number>()
    deferred.resolve(1)
    expect(await deferred.promise).to.equal(1)
  })

  it('rejects from outside', async () => {
    const deferred = new Deferred()
    deferred.reject('reason')
    expect(await rejection(deferred.promise)).to.equal('reason')
  })

  it('is pending until then', async () => {
    const deferred = new Deferred()
    let isSettled = false
    const settled = deferred.promise.then(() => {
      isSettled = true
    })
    await turns()
    expect(isSettled).to.equal(false)
    deferred.resolve()
    await settled
  })

  it('settles once: what comes later is ignored', async () => {
    const deferred = new Deferred<string>()
    deferred.resolve('first')
    deferred.resolve('second')
    deferred.reject('third')
    expect(await deferred.promise).to.equal('first')
  })

  it('follows a promise that it is resolved with', async () => {
    const deferred = new Deferred<string>()
    deferred.resolve(Promise.reject('inner'))
    expect(await rejection(deferred.promise)).to.equal('inner')
  })
})
