// The counters of a server.

/**
 * What a server has counted since it was created. Every accepted client ends up in exactly one counter: `accepted` is `dropped`, plus those
 * turned away, plus `served`, plus those on their way to a handler.
 */
export interface ServerStatistics {
  /** Clients taken from the kernel: every accept(2). */
  readonly accepted: number
  /** Closed without being served: because of `dropIncomingConnections`, because the server closed, or because they had left before. */
  readonly dropped: number
  /** Turned away between accept and handler, by what. */
  readonly turnedAway: {
    /** By the program's `admit`. */
    readonly admit: number
    /** By `maxConnectionsPerAddress`. */
    readonly perAddress: number
    /** By a PROXY header that was missing, invalid, late or from an untrusted sender. */
    readonly proxyHeader: number
    /** By a TLS handshake that failed or took too long. */
    readonly handshake: number
  }
  /** Handed to a handler, an `accept()` or a loop. */
  readonly served: number
  /** Handlers that threw or rejected, whatever `onHandlerError` is. */
  readonly handlerErrors: number
  /** Slots in use now, the same as `numConnections`. */
  readonly connections: number
  /** Clients now waiting to be accepted: in the kernel's queue, or parked where the gate is in userland. Null where it is unknown. */
  readonly waiting: number | null
}
