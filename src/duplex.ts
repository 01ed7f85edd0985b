// The contract of a connection that is a Duplex of Node.js.

import type { Duplex } from 'node:stream'

/** A connection as a Duplex, with what database and HTTP clients expect of a socket. */
export interface ConnectionDuplex extends Duplex {
  /** The peer's IP address; undefined for a unix socket, and where there is no address. */
  readonly remoteAddress: string | undefined
  /** The peer's port; undefined where there is none. */
  readonly remotePort: number | undefined
  /** The kind of the peer's IP address; undefined where there is none. */
  readonly remoteFamily: 'IPv4' | 'IPv6' | undefined
  /** The IP address on this side; undefined where there is none. */
  readonly localAddress: string | undefined
  /** The port on this side; undefined where there is none. */
  readonly localPort: number | undefined
  /** False: it is connected. */
  readonly connecting: boolean
  /** Milliseconds of silence before `'timeout'`; 0 for none. */
  readonly timeout: number
  /** Bytes received so far, including before this was created. */
  readonly bytesRead: number
  /** Bytes handed to the operating system so far, including before this was created. */
  readonly bytesWritten: number
  /**
   * Emits `'timeout'`, and calls `callback` once, after `delay` milliseconds without a read or a write; 0 for never. It does nothing else.
   *
   * @throws {TypeError | RangeError} If an argument is wrong.
   */
  setTimeout(delay: number, callback?: () => void): this
  /**
   * As `net.Socket` has it; nothing happens where there is no socket.
   *
   * @throws Whatever `net.Socket` throws.
   */
  setNoDelay(isOn?: boolean): this
  /**
   * As `net.Socket` has it, `initialDelay` in milliseconds; nothing happens where there is no socket.
   *
   * @throws Whatever `net.Socket` throws.
   */
  setKeepAlive(isOn?: boolean, initialDelay?: number): this
  /** Lets the socket keep the process alive; nothing happens where there is no socket. */
  ref(): this
  /** Does not let the socket keep the process alive; nothing happens where there is no socket. */
  unref(): this
}
