// What the command tells: messages on standard error, log lines on standard output, and a status line beneath both on a terminal.

const INTERVAL = 500
const CLEAR_LINE = '\r\x1b[2K'

/** Where a command's words go. */
export class Report {
  readonly #hasStatus = process.stderr.isTTY === true
  #makeStatus: (() => string | Promise<string>) | undefined
  #status = ''
  #timer: NodeJS.Timeout | undefined

  constructor() {
    // Nobody reads any more: that is no reason to end what others are served by.
    process.stdout.on('error', () => {})
    process.stderr.on('error', () => {})
  }

  /** A message for people. */
  say(message: string): void {
    this.#above(() => process.stderr.write(`it-tcp: ${message}\n`))
  }

  /** A line of the log. */
  log(line: string): void {
    // A log that goes elsewhere leaves the terminal alone.
    if (process.stdout.isTTY === true) this.#above(() => process.stdout.write(`${line}\n`))
    else process.stdout.write(`${line}\n`)
  }

  /** Shows on a terminal what `make` gives, and keeps it up to date. */
  showStatus(make: () => string | Promise<string>): void {
    if (!this.#hasStatus) return
    this.#makeStatus = make
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
    this.#makeStatus = undefined
    process.stderr.write('\n')
    this.#status = ''
  }

  async #update(): Promise<void> {
    const status = await this.#makeStatus?.()
    if (status === undefined) return
    this.#status = status.slice(0, Math.max(0, (process.stderr.columns || 80) - 1))
    process.stderr.write(`${CLEAR_LINE}${this.#status}`)
  }

  #above(write: () => void): void {
    if (this.#status === '') {
      write()
      return
    }
    process.stderr.write(CLEAR_LINE)
    write()
    process.stderr.write(this.#status)
  }
}
