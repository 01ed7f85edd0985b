// The connection, as its sending side knows it.

/** Who is told what the sending side can't do by itself. */
export interface OutgoingOwner {
  /** Whether closing the carrier would do instead of an end, since the peer has ended too. */
  readonly canRelease: boolean
  /** The end is sent, or is left to the closing of the carrier. */
  writerClosed(): void
  /** A write or the end failed. Gives what broke the connection. */
  writeFailed(cause: Error): Error
  /** Ends the connection with a reset, since the source can't be sent whole. */
  abort(reason: unknown): void
  /** The same, since the peer broke a limit. */
  breakOff(error: Error): void
}
