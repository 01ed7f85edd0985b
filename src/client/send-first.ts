// A step of dialling: bytes that go ahead of everything.

import type { Step } from './dial.ts'

/** Hands `bytes` over on the connected socket, before its connection is made, so that they are none of that connection's own. */
export function sendFirst(bytes: Uint8Array): Step {
  return (socket) =>
    new Promise((resolve) => {
      // A write that fails closes the socket, of which dialling makes its error.
      socket.write(bytes, (error) => {
        if (error == null) resolve(socket)
      })
    })
}
