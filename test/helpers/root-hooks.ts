// Hooks around the whole run: no rejection stays unhandled, and nothing keeps the process alive after the last test. The certificates are there
// before the first one, from whose time the two seconds that they take would otherwise go.

import { once } from 'node:events'
import { createServer } from 'node:net'
import { certificates } from './certificates.ts'
import { isAvailable } from './programs.ts'
import { refuseUnhandled, watchUnhandled } from './unhandled.ts'

const GRACE = 5_000

export const mochaHooks = {
  async beforeAll(this: Mocha.Context): Promise<void> {
    this.timeout(60_000)
    watchUnhandled()
    if (isAvailable('openssl')) certificates()
    // The first signal handler and the first listener open descriptors that stay; here, so that no test is blamed for them.
    const nothing = (): void => {}
    process.on('SIGUSR2', nothing).off('SIGUSR2', nothing)
    const server = createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    server.close()
    await once(server, 'close')
  },

  afterEach: refuseUnhandled,

  async afterAll(): Promise<void> {
    // Unreferenced: it only fires if something else keeps the process alive.
    setTimeout(() => {
      console.error(`Still active after the last test: ${process.getActiveResourcesInfo().join(', ')}`)
      // Registered after mocha's own listener, which sets the code to the number of failures.
      process.on('exit', () => {
        process.exitCode = 1
      })
      process.exit()
    }, GRACE).unref()
    await refuseUnhandled()
  }
}
