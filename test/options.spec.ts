import { expect } from 'chai'
import {
  checkCount,
  checkDelay,
  checkDuration,
  checkFunction,
  checkMaxLength,
  checkOptions,
  checkPort,
  checkSignal,
  checkString,
  connectionSettings
} from '../src/options.ts'
import { BAD_COUNTS, BAD_DURATIONS, BAD_HOSTS, BAD_PORTS, refuses } from './helpers/bad-input.ts'

const ACTION = 'Cannot do it'

describe('connectionSettings', () => {
  it('fills in the defaults', () => {
    expect(connectionSettings(ACTION, {})).to.deep.equal({
      readerBufferSize: 65_536,
      bufferAgeLimit: 120_000,
      idleTimeout: Number.POSITIVE_INFINITY,
      keepAlive: 60_000
    })
  })

  it('keeps what is given, and takes undefined as absent', () => {
    const given = { readerBufferSize: 1, bufferAgeLimit: Number.POSITIVE_INFINITY, idleTimeout: 0.5, keepAlive: false as const }
    expect(connectionSettings(ACTION, given)).to.deep.equal(given)
    expect(connectionSettings(ACTION, { idleTimeout: undefined } as object)).to.deep.equal(connectionSettings(ACTION, {}))
  })

  it('takes durations beyond what a timer of Node.js can hold', () => {
    expect(connectionSettings(ACTION, { idleTimeout: 2 ** 31 })).to.have.property('idleTimeout', 2 ** 31)
  })

  it('does not change the options', () => {
    const options = Object.freeze({ idleTimeout: 1 })
    expect(connectionSettings(ACTION, options)).to.not.equal(options)
  })

  refuses('readerBufferSize', ACTION, BAD_COUNTS, (readerBufferSize) =>
    connectionSettings(ACTION, { readerBufferSize: readerBufferSize as number })
  )
  for (const name of ['bufferAgeLimit', 'idleTimeout', 'keepAlive'] as const) {
    refuses(name, ACTION, BAD_DURATIONS, (value) => connectionSettings(ACTION, { [name]: value }))
  }
  refuses('keepAlive', ACTION, [true], (keepAlive) => connectionSettings(ACTION, { keepAlive: keepAlive as number }))
})

describe('checkDuration', () => {
  it('takes what is above 0, Infinity too', () => {
    for (const value of [Number.MIN_VALUE, 1, 30_000, Number.POSITIVE_INFINITY]) checkDuration(ACTION, 'timeout', value)
  })
  refuses('timeout', ACTION, [...BAD_DURATIONS, undefined], (value) => checkDuration(ACTION, 'timeout', value))
})

describe('checkDelay', () => {
  it('takes 0 and above, Infinity too', () => {
    for (const value of [0, 1, Number.POSITIVE_INFINITY]) checkDelay(ACTION, 'forceAfter', value)
  })
  refuses('forceAfter', ACTION, [-1, Number.NaN, '0', null], (value) => checkDelay(ACTION, 'forceAfter', value))
})

describe('checkCount', () => {
  it('takes whole numbers from its minimum on', () => {
    checkCount(ACTION, 'maxConnections', 1)
    checkCount(ACTION, 'backlog', 0, 0)
  })
  refuses('maxConnections', ACTION, BAD_COUNTS, (value) => checkCount(ACTION, 'maxConnections', value))
  refuses('backlog', ACTION, [-1, 0.5], (value) => checkCount(ACTION, 'backlog', value, 0))
})

describe('checkMaxLength', () => {
  it('takes whole numbers from 1 on, and Infinity', () => {
    for (const value of [1, 65_536, Number.POSITIVE_INFINITY]) checkMaxLength(ACTION, value)
  })
  refuses(
    'maxLength',
    ACTION,
    BAD_COUNTS.filter((value) => value !== Number.POSITIVE_INFINITY),
    (value) => checkMaxLength(ACTION, value)
  )
})

describe('checkPort', () => {
  it('takes whole numbers from its minimum to 65535', () => {
    checkPort(ACTION, 'port', 0, 0)
    checkPort(ACTION, 'port', 65_535, 1)
  })
  refuses('port', ACTION, BAD_PORTS, (value) => checkPort(ACTION, 'port', value, 0))
  refuses('port', ACTION, [0], (value) => checkPort(ACTION, 'port', value, 1))
})

describe('checkString', () => {
  it('takes any text', () => checkString(ACTION, 'host', ' '))
  refuses('host', ACTION, BAD_HOSTS, (value) => checkString(ACTION, 'host', value))
})

describe('checkFunction', () => {
  it('takes functions', () => checkFunction(ACTION, 'handler', () => {}))
  refuses('handler', ACTION, [undefined, null, 'handler', {}, 42], (value) => checkFunction(ACTION, 'handler', value))
})

describe('checkOptions', () => {
  it('takes objects', () => checkOptions(ACTION, {}))
  refuses('options', ACTION, [null, 1_000, 'options', undefined], (value) => checkOptions(ACTION, value))
})

describe('checkSignal', () => {
  it('takes a signal, also an aborted one, and none', () => {
    checkSignal(ACTION, AbortSignal.abort())
    checkSignal(ACTION, undefined)
  })

  it('takes a signal of another realm, which is no AbortSignal of this one', () => {
    checkSignal(ACTION, { aborted: false, reason: undefined, addEventListener() {}, removeEventListener() {} })
  })

  refuses('signal', ACTION, [null, 'signal', {}, new AbortController(), new EventTarget(), { aborted: false }], (value) =>
    checkSignal(ACTION, value)
  )
})
