// What a server leaves behind that was killed.

import { lstatSync, renameSync } from 'node:fs'
import net from 'node:net'
import { expect } from 'chai'

/** A socket's file without a socket: libuv unlinks the name that it bound, not the one that the file has by then. */
export async function leaveStale(path: string): Promise<void> {
  const server = net.createServer()
  await new Promise<void>((resolve) => server.listen(`${path}~`, resolve))
  renameSync(`${path}~`, path)
  await new Promise((resolve) => server.close(resolve))
  expect(lstatSync(path).isSocket()).to.equal(true)
}
