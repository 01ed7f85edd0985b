import { expect } from 'chai'
import { Recent } from '../../src/tls/recent.ts'

describe('Recent', () => {
  it('gives each value out once', () => {
    const recent = new Recent<number>(10)
    recent.put('a', 1)
    expect([recent.take('a'), recent.take('a'), recent.take('b')]).to.deep.equal([1, undefined, undefined])
  })

  it('keeps the latest of a key', () => {
    const recent = new Recent<number>(10)
    recent.put('a', 1)
    recent.put('a', 2)
    expect([recent.size, recent.take('a'), recent.size]).to.deep.equal([1, 2, 0])
  })

  it('keeps as many as it may, those that were put last', () => {
    const recent = new Recent<number>(3)
    for (const key of ['a', 'b', 'c']) recent.put(key, 0)
    recent.put('a', 1)
    recent.put('d', 0)
    expect(recent.size).to.equal(3)
    expect(['a', 'b', 'c', 'd'].map((key) => recent.take(key))).to.deep.equal([1, undefined, 0, 0])
  })
})
