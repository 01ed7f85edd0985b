// What the command tells: messages on standard error, log lines on standard output, and a status line beneath both on a terminal.

import type { Writable } from 'node:stream'
import { explain } from './failure.ts'
import { Outlet } from './outlet.ts'
import { formatCount } from './quantity.ts'

const INTERVAL = 500

/** What standard output and error are. */
export interface Output extends Writable {
  readonly isTTY?: boolean
  /** Of a terminal, as it is now. */
  readonly columns?: number
}

/** Where a command's words go. */
export class Report {
  readonly #isVerbose: boolean
  readonly #stdout: Output
  readonly #stderr: Output
  readonly #messages: Outlet
  #log: Outlet | undefined
  #makeStatus: (() => string | Promise<string>) | undefined
  #status = ''
  #timer: NodeJS.Timeout | undefined
  readonly #redraw = (): void => this.#draw(this.#status)

  constructor(isVerbose = false, stdout: Output = process.stdout, stderr: Output = process.stderr) {
    this.#isVerbose = isVerbose
    this.#stdout = stdout
    this.#stderr = stderr
    // Where nobody reads messages, nobody can be told.
    const ignore = (): void => {}
    this.#messages = new Outlet(stderr, { stuck: ignore, taken: ignore, gone: ignore })
  }

  /** A message for people. */
  say(message: string): void {
    this.#above(() => this.#messages.write(`it-tcp: ${message}\n`))
  }

  /** A message for people who want to know more. */
  detail(message: string): void {
    if (this.#isVerbose) this.say(message)
  }

  /** A line of the log. */
  log(line: string): void {
    this.#log ??= new Outlet(this.#stdout, {
      stuck: () => this.say('the log is not being read: dropping lines'),
      taken: (leftOut) => this.say(`the log is being read again: ${formatCount(leftOut, 'line')} dropped`),
      gone: (error) => this.say(`the log can no longer be written: ${explain(error)}`)
    })
    const log = this.#log
    // A log that goes elsewhere leaves the terminal alone.
    if (this.#stdout.isTTY === true) this.#above(() => log.write(`${line}\n`))
    else log.write(`${line}\n`)
  }

  /** Shows on a terminal what `make` gives, and keeps it up to date. */
  showStatus(make: () => string | Promise<string>): void {
    if (this.#stderr.isTTY !== true) return
    this.#makeStatus = make
    this.#stderr.on('resize', this.#redraw)
    void this.#update()
    this.#timer = setInterval(() => void this.#update(), INTERVAL)
    // The server keeps the process alive, as long as there is something to show.
    this.#timer.unref()
  }

  /** Leaves the last status line where it is. */
  async endStatus(): Promise<void> {
    if (this.#timer === undefined) return
    clearInterval(this.#timer)
    await this.#update()
    this.#stderr.off('resize', this.#redraw)
    this.#makeStatus = undefined
    this.#timer = undefined
    this.#messages.write('\n')
    this.#status = ''
  }

  /** Waits for who reads the log and the messages, as long as he takes something. Gives whether all was taken. */
  async flushed(): Promise<boolean> {
    const isTaken = (await this.#log?.flushed()) ?? true
    if (!isTaken) this.say('the log is not being read: dropping the rest')
    return (await this.#messages.flushed()) && isTaken
  }

  async #update(): Promise<void> {
    const status = await this.#makeStatus?.()
    if (status !== undefined) this.#draw(status)
  }

  #draw(status: string): void {
    const clear = clearing(this.#status.length, this.#columns)
    this.#status = status.slice(0, Math.max(0, this.#columns - 1))
    this.#messages.write(clear + this.#status)
  }

  #above(write: () => void): void {
    const status = this.#status
    if (status !== '') this.#draw('')
    write()
    if (status !== '') this.#draw(status)
  }

  get #columns(): number {
    return this.#stderr.columns || 80
  }
}

/** What clears a line of that length, at whose end the cursor stands: a terminal that has become narrower shows it in several rows. */
export function clearing(length: number, columns: number): string {
  if (length === 0) return ''
  const above = Math.ceil(length / columns) - 1
  return above === 0 ? '\r\x1b[2K' : `\r\x1b[${above}A\x1b[J`
}
