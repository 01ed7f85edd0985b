import { expect } from 'chai'
import { rejection } from './helpers/rejection.ts'
import { expectUnhandled, refuseUnhandled } from './helpers/unhandled.ts'
import { turns } from './helpers/until.ts'

describe('the root hooks', () => {
  it('refuse a rejection that nobody handles, once', async () => {
    const error = new Error('on purpose')
    void Promise.reject(error)
    expect(await rejection(refuseUnhandled()))
      .to.be.instanceOf(AggregateError)
      .with.property('errors')
      .that.deep.equals([error])
    await refuseUnhandled()
  })

  describe('where a block expects one', () => {
    expectUnhandled()

    it('let it go', async () => {
      void Promise.reject(new Error('on purpose'))
      await turns(2)
    })
  })
})
