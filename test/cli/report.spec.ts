import { Writable } from 'node:stream'
import { expect } from 'chai'
import { Outlet } from '../../cli/outlet.ts'
import { clearing, type Output, Report } from '../../cli/report.ts'
import { turns, until } from '../helpers/until.ts'

const CLEAR_LINE = '\r\x1b[2K'

describe('what the command tells', () => {
  const line = 'x'.repeat(999)

  it('is said on standard error, and more of it if that is asked for', () => {
    const [stdout, stderr] = [output(), output()]
    new Report(false, stdout, stderr).detail('more')
    const report = new Report(true, stdout, stderr)
    report.say('something')
    report.detail('more')
    expect([stdout.text, stderr.text]).to.deep.equal(['', 'it-tcp: something\nit-tcp: more\n'])
  })

  it('holds one megabyte of log for a reader who stands still, leaves further lines out, and says so once', async () => {
    const [stdout, stderr] = [output(), output()]
    const report = new Report(false, stdout, stderr)
    stdout.stop()
    for (let count = 0; count < 5_000; count++) report.log(line)
    expect(stdout.writableLength).to.be.within(1_048_576, 1_050_000)
    expect(stderr.text).to.equal('it-tcp: the log is not being read: dropping lines\n')
    stdout.go()
    await until(() => stdout.writableLength === 0, 'it is read')
    expect(stderr.text).to.match(/\nit-tcp: the log is being read again: 39\d\d lines dropped\n$/)
    report.log('a last line')
    await turns(2)
    expect(stdout.text.endsWith('\na last line\n')).to.equal(true)
  })

  it('says once that there is no log any more, and why', async () => {
    const [stdout, stderr] = [output(), output()]
    const report = new Report(false, stdout, stderr)
    stdout.fail(new Error('write EPIPE'))
    for (let count = 0; count < 3; count++) {
      report.log(line)
      await turns(2)
    }
    expect(stderr.text).to.equal('it-tcp: the log can no longer be written: write EPIPE\n')
    expect(await report.flushed()).to.equal(true)
  })

  it('is no reason to fail when nobody reads messages either', async () => {
    const [stdout, stderr] = [output(), output()]
    const report = new Report(false, stdout, stderr)
    stderr.fail(new Error('write EPIPE'))
    report.say('something')
    await turns(2)
    report.say('something')
    expect(stderr.text).to.equal('')
  })

  it('is waited for at the end, as long as somebody reads it', async () => {
    const stream = output()
    const outlet = new Outlet(stream, { stuck() {}, taken() {}, gone() {} })
    stream.stop()
    outlet.write(line)
    const flushed = outlet.flushed(60_000)
    stream.go()
    expect(await flushed).to.equal(true)
    stream.stop()
    outlet.write(line)
    expect(await outlet.flushed(1)).to.equal(false)
  })

  describe('on a terminal', () => {
    it('clears what it has drawn, in as many rows as that takes by now', () => {
      expect(clearing(0, 80)).to.equal('')
      expect(clearing(79, 80)).to.equal(CLEAR_LINE)
      expect(clearing(80, 80)).to.equal(CLEAR_LINE)
      expect(clearing(81, 80)).to.equal('\r\x1b[1A\x1b[J')
      expect(clearing(79, 20)).to.equal('\r\x1b[3A\x1b[J')
    })

    it('draws the status line again when the terminal becomes narrower, in one row', async () => {
      const [stdout, stderr] = [output(), terminal(80)]
      const report = new Report(false, stdout, stderr)
      const status = 'open '.repeat(15)
      report.showStatus(() => status)
      await turns(2)
      expect(stderr.text).to.equal(status)
      stderr.resize(30)
      expect(stderr.text.slice(status.length)).to.equal(`\r\x1b[2A\x1b[J${status.slice(0, 29)}`)
      const before = stderr.text.length
      report.say('hello')
      expect(stderr.text.slice(before)).to.equal(`${CLEAR_LINE}it-tcp: hello\n${status.slice(0, 29)}`)
      await report.endStatus()
      expect(stderr.text.endsWith(`${status.slice(0, 29)}\n`)).to.equal(true)
      expect(stderr.listenerCount('resize')).to.equal(0)
    })

    it('clears the whole of it before a message, though the terminal has not told yet that it is narrower', async () => {
      const [stdout, stderr] = [output(), terminal(80)]
      const report = new Report(false, stdout, stderr)
      report.showStatus(() => 'x'.repeat(79))
      await turns(2)
      stderr.columns = 40
      const before = stderr.text.length
      report.say('hello')
      expect(stderr.text.slice(before)).to.equal(`\r\x1b[1A\x1b[Jit-tcp: hello\n${'x'.repeat(79).slice(0, 39)}`)
      await report.endStatus()
    })

    function terminal(columns: number): TestOutput {
      return Object.assign(output(), { isTTY: true, columns })
    }
  })
})

interface TestOutput extends Output {
  columns: number
  readonly text: string
  /** The reader stands still. */
  stop(): void
  /** He goes on. */
  go(): void
  /** From now on writing fails. */
  fail(error: Error): void
  /** The terminal changes its width, and tells so. */
  resize(columns: number): void
}

function output(): TestOutput {
  let [text, isStopped] = ['', false]
  let failure: Error | undefined
  let waiting: (() => void) | undefined
  const stream = new Writable({
    autoDestroy: false,
    decodeStrings: false,
    write(chunk: string, _, callback) {
      const take = (): void => {
        if (failure === undefined) text += chunk
        callback(failure)
      }
      if (isStopped) waiting = take
      else take()
    }
  })
  return Object.defineProperty(
    Object.assign(stream, {
      columns: 0,
      stop() {
        isStopped = true
      },
      go() {
        isStopped = false
        waiting?.()
      },
      fail(error: Error) {
        failure = error
      },
      resize(columns: number) {
        ;(stream as unknown as TestOutput).columns = columns
        stream.emit('resize')
      }
    }),
    'text',
    { get: () => text }
  ) as unknown as TestOutput
}
