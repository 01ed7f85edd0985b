import { expect } from 'chai'
import { UsageError } from '../../cli/failure.ts'
import { formatBytes, formatCount, formatDuration, parseCount, parseDuration, parseMode } from '../../cli/quantity.ts'

describe('quantities on the command line', () => {
  for (const [text, duration] of [
    ['1ms', 1],
    ['30s', 30_000],
    ['1.5s', 1_500],
    ['5m', 300_000],
    ['1h', 3_600_000]
  ] as const) {
    it(`reads ${text}`, () => {
      expect(parseDuration(text)).to.equal(duration)
    })
  }

  for (const text of ['', '-1s', '1 s', '1d', 's', 'Infinity', '1e3s']) {
    it(`refuses '${text}' as a duration`, () => {
      expect(() => parseDuration(text)).to.throw(UsageError, `must be a duration such as 500ms, 30s, 5m or 1h: received '${text}'`)
    })
  }

  it('refuses a duration without a unit, and says how it could be meant', () => {
    expect(() => parseDuration('30')).to.throw(UsageError, "must have a unit, 30ms, 30s, 30m or 30h: received '30'")
    expect(() => parseDuration('0.5')).to.throw(UsageError, "must have a unit, 0.5ms, 0.5s, 0.5m or 0.5h: received '0.5'")
  })

  it('refuses a duration of nothing', () => {
    for (const text of ['0s', '0.0h']) expect(() => parseDuration(text)).to.throw(UsageError, `must be above 0: received '${text}'`)
  })

  for (const text of ['', '0', '-1', '1.5', '1e3', 'ten', '0x10', '99999999999999999']) {
    it(`refuses '${text}' as a count`, () => {
      expect(() => parseCount(text)).to.throw(UsageError, `must be a whole number, 1 or more: received '${text}'`)
    })
  }

  it('reads the bits of a mode as chmod does', () => {
    expect([parseMode('660'), parseMode('0600'), parseMode('000')]).to.deep.equal([0o660, 0o600, 0])
    for (const text of ['', '66', '888', '1777', '0o660', 'rw-rw----']) {
      expect(() => parseMode(text)).to.throw(UsageError, `must be three octal digits such as 660: received '${text}'`)
    }
  })

  it('reads a count', () => {
    expect(parseCount('20')).to.equal(20)
  })

  it('prints durations in the largest unit that is whole', () => {
    expect([1, 1_500, 30_000, 300_000, 7_200_000].map(formatDuration)).to.deep.equal(['1ms', '1500ms', '30s', '5m', '2h'])
  })

  it('prints a number of things', () => {
    expect([0, 1, 2].map((count) => formatCount(count, 'client'))).to.deep.equal(['0 clients', '1 client', '2 clients'])
  })

  it('prints bytes with two or three figures', () => {
    expect([0, 999, 1_000, 9_949, 9_950, 999_499, 999_500, 2_500_000_000, 5e15].map(formatBytes)).to.deep.equal([
      '0 B',
      '999 B',
      '1.0 kB',
      '9.9 kB',
      '10 kB',
      '999 kB',
      '1.0 MB',
      '2.5 GB',
      '5000 TB'
    ])
  })
})
