import { once } from 'node:events'
import { createRequire } from 'node:module'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import { expect } from 'chai'
import { ByteSocket, createDialSocket, type SocketEvents } from '../src/socket.ts'
import { runNode } from './helpers/programs.ts'
import { type RawServer, rawServer, readToEnd } from './helpers/raw.ts'
import { useScope } from './helpers/scope.ts'
import { type Transcript, transcript } from './helpers/transcript.ts'
import { openEnds, TOO_MUCH, TRANSPORTS } from './helpers/transports.ts'
import { turns, until } from './helpers/until.ts'

/** Whether Node.js's own buffers are asked for instead of the shared one; so this file runs itself once more. */
const isPush = process.env.IT_TCP_READ === 'push'
const isPlainNode = process.versions.bun === undefined && process.versions.deno === undefined

/** Writes down what a socket tells, and reads on until told otherwise. */
class Recorder implements SocketEvents {
  readonly log: Transcript = transcript()
  readonly lent: boolean[] = []
  received = 0
  text = ''
  cause: Error | undefined
  isReading = true

  get lines(): readonly string[] {
    return this.log.lines
  }

  // biome-ignore lint/correctness/noUnusedFunctionParameters: the part that counts
  #count(bytes: Uint8Array, length: number): void {
    this.received += length
    if (this.received <= 1024) this.text += Buffer.from(bytes.subarray(0, length)).toString()
  }

  readonly events: SocketEvents = {
    received: (bytes, length, lent) => {
      this.#count(bytes, length)
      this.lent.push(lent)
      this.log('received')
      return this.isReading
    },
    peerEnded: () => this.log('peerEnded'),
    broken: (cause) => {
      this.cause = cause
      this.log('broken')
    },
    released: () => this.log('released')
  }

  peerEnded(): void {}
  broken(): void {}
  released(): void {}
}
