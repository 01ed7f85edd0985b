import { expect } from 'chai'
import { fingerprint } from '../../src/tls/fingerprint.ts'

describe('fingerprint', () => {
  it('is the same for values that say the same', () => {
    expect(fingerprint({ a: 1, b: ['x'], c: undefined })).to.equal(fingerprint({ b: ['x'], a: 1 }))
    expect(fingerprint(Buffer.from('x'))).to.equal(fingerprint(new TextEncoder().encode('x')))
  })

  it('differs for values that differ', () => {
    const f = () => {}
    class Key {}
    const values = [
      {},
      [],
      [[]],
      '',
      'x',
      ['x'],
      ['x', ''],
      ['', 'x'],
      { a: 'x' },
      { ax: '' },
      { a: 1 },
      { a: '1' },
      Buffer.from('x'),
      null,
      true,
      'true'
    ]
    const prints = [...values, f, () => {}, new Key(), new Key(), undefined].map(fingerprint)
    expect(new Set(prints).size).to.equal(prints.length)
  })

  it('knows an object that is no mere data by which one it is', () => {
    class Key {}
    const key = new Key()
    expect(fingerprint({ key })).to.equal(fingerprint({ key }))
    expect(fingerprint({ key })).not.to.equal(fingerprint({ key: new Key() }))
  })

  it('changes with what is in an object', () => {
    const options = { ca: 'x' }
    const before = fingerprint(options)
    options.ca = 'y'
    expect(fingerprint(options)).not.to.equal(before)
  })
})
