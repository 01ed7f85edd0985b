// Hooks around the whole run: something that is still open after the last test would keep the process alive for ever.

import { once } from 'node:events'
import { createServer } from 'node:net'

const GRACE = 5_000

export const mochaHooks = {
  async beforeAll(): Promise<void> {
    // The first signal handler and the first listener open descriptors that stay; here, so that no test is blamed for them.
    const nothing = (): void => {}
    process.on('SIGUSR2', nothing).off('SIGUSR2', nothing)
    const server = createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    server.close()
    await once(server, 'close')
  },

  afterAll(): void {
    // Unreferenced: it only fires if something else keeps the process alive.
    setTimeout(() => {
      console.error(`Still active after the last test: ${process.getActiveResourcesInfo().join(', ')}`)
      // Registered after mocha's own listener, which sets the code to the number of failures.
      process.on('exit', () => {
        process.exitCode = 1
      })
      process.exit()
    }, GRACE).unref()
  }
}
