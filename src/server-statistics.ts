// The counters of a server.

/**
 * What a server has counted since it was made. Every accepted client ends in exactly one counter: `accepted` is `dropped`, plus those that were
 * turned away, plus `served`, plus those that are on their way to a handler.
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
    /** By a PROXY header that was missing, bad, late or of a sender that is not trusted. */
    readonly proxyHeader: number
    /** By a TLS handshake that failed or took too long. */
    readonly handshake: number
  }
  /** Handed to a handler, an `accept()` or a loop. */
  readonly served: number
  /** Handlers that threw or rejected, whatever the policy for that is. */
  readonly handlerErrors: number
  /** Slots in use now; what `numConnections` is. */
  readonly connections: number
  /** Clients that wait to be accepted now: in the kernel's queue, or parked where the gate is in userland. Null where it is not known. */
  readonly waiting: number | null
}
