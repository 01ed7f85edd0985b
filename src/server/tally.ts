// What a server counts: every accepted client ends in exactly one of the counters.

import type { ServerStatistics } from '../server-statistics.ts'
import type { HandlerErrors } from './handler-errors.ts'
import type { GatedListener } from './listening-socket.ts'
import type { SlotState, Slots } from './slots.ts'

export class Tally {
  accepted = 0
  /** Accepted, and neither served nor turned away yet. */
  underway = 0
  dropped = 0
  served = 0
  readonly turnedAway = { admit: 0, perAddress: 0, proxyHeader: 0, handshake: 0 }

  /** Counts a client that is no longer under way. */
  left(to: Exclude<SlotState, 'arriving' | 'ready'>): void {
    this.underway--
    if (to === 'served') this.served++
    else if (to === 'dropped') this.dropped++
  }

  statistics(slots: Slots, errors: HandlerErrors, socket: GatedListener): ServerStatistics {
    return {
      accepted: this.accepted,
      dropped: this.dropped,
      turnedAway: { ...this.turnedAway },
      served: this.served,
      handlerErrors: errors.count,
      connections: slots.inUse,
      waiting: socket.waiting
    }
  }

  invariant(check: (holds: boolean, what: string) => void): void {
    const turnedAway = Object.values(this.turnedAway).reduce((sum, count) => sum + count)
    const sum = this.dropped + turnedAway + this.served + this.underway
    check(this.accepted === sum, `${this.accepted} clients accepted, and ${sum} accounted for`)
    check(this.underway >= 0, `${this.underway} clients under way`)
  }
}
