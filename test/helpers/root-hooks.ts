// Hooks around the whole run: something that is still open after the last test would keep the process alive for ever.

const GRACE = 5_000

export const mochaHooks = {
  beforeAll(): void {
    // The first signal handler opens two descriptors for good; here, so that no test is blamed for them.
    const nothing = (): void => {}
    process.on('SIGUSR2', nothing).off('SIGUSR2', nothing)
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
