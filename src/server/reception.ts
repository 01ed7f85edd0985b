// A client's way from accept(2) until it is ready for a consumer: admission, its slot, the steps, and who is turned away.

import type { SocketAddress } from '../address.ts'
import { type ServerTurnedAwayMessage, serverTurnedAway, type TurningStep } from '../diagnostics.ts'
import type { ConnectionSettings } from '../options.ts'
import type { ByteConnection } from '../stream/byte-connection.ts'
import { Admission, type Admit } from './admission.ts'
import { Arrivals, refuse } from './arrival.ts'
import type { Gatekeeper } from './gatekeeper.ts'
import { type Accepted, discard, type GatedListener } from './listening-socket.ts'
import { type SlotOwner, type Slots, slotOf } from './slots.ts'
import { type Step, Steps } from './steps.ts'
import type { Tally } from './tally.ts'

/** What every client has to pass. */
export interface EntryRules {
  readonly admit: Admit | undefined
  readonly maxConnectionsPerAddress: number | undefined
  /** In its slot, and before it is judged by its address: whatever tells that. */
  readonly stepsBeforeAdmission: readonly Step[]
  /** In its slot, after that. */
  readonly stepsAfterAdmission: readonly Step[]
  /** Milliseconds for all these steps together. */
  readonly handshakeTimeout: number
}

/** The server, as its reception knows it. */
export interface ReceptionOwner extends SlotOwner {
  readonly address: SocketAddress
  /** Whether clients are closed at once. */
  readonly takesNobody: boolean
  /** A client is in a slot, and through if `isReady`; otherwise its steps follow. */
  entered(connection: ByteConnection<SocketAddress>, isReady: boolean): void
  /** A client that had entered has taken all steps. */
  passed(connection: ByteConnection<SocketAddress>): void
  /** Nothing is left to do for a connection but to free its slot. */
  settle(connection: ByteConnection<SocketAddress>): void
  /** The program's own `admit` failed. */
  admitFailed(address: SocketAddress, error: unknown): void
}

/** Where the parts of a server are that its reception needs. */
export interface ReceptionParts {
  readonly socket: GatedListener
  readonly settings: ConnectionSettings
  readonly slots: Slots
  readonly tally: Tally
  readonly gate: Gatekeeper
  readonly owner: ReceptionOwner
}

export class Reception {
  readonly #parts: ReceptionParts
  readonly #arrivals: Arrivals
  readonly #admission: Admission | undefined
  /** Whether clients are judged by the address of their socket, before they take a slot. */
  readonly #judgesAtOnce: boolean
  readonly #steps: Steps | undefined

  constructor(parts: ReceptionParts, rules: EntryRules) {
    const { admit, maxConnectionsPerAddress, stepsBeforeAdmission, stepsAfterAdmission, handshakeTimeout } = rules
    this.#parts = parts
    this.#arrivals = new Arrivals(parts.socket, parts.settings, parts.owner)
    if (admit !== undefined || maxConnectionsPerAddress !== undefined) {
      this.#admission = new Admission(admit, maxConnectionsPerAddress, (address, error) => parts.owner.admitFailed(address, error))
    }
    this.#judgesAtOnce = this.#admission !== undefined && stepsBeforeAdmission.length === 0
    const judgement = this.#admission === undefined || this.#judgesAtOnce ? [] : [this.#judgement(this.#admission)]
    const steps = [...stepsBeforeAdmission, ...judgement, ...stepsAfterAdmission]
    if (steps.length > 0) this.#steps = new Steps(steps, handshakeTimeout, this)
  }

  /** A client was accepted; called in the callback of accept(2). */
  arrived(client: Accepted): void {
    const { tally, owner, slots } = this.#parts
    tally.accepted++
    tally.underway++
    if (owner.takesNobody) {
      this.#dropUnseen(client)
      return
    }
    if (this.#judgesAtOnce && this.#isRefused(client, this.#admission as Admission)) return
    const remote = this.#arrivals.peerOf(client)
    // It is gone already, or `admit` has closed the server.
    if (remote === undefined || owner.takesNobody) {
      this.#dropUnseen(client)
      this.#parts.gate.afterAccept()
      return
    }
    const connection = this.#arrivals.open(client, remote)
    slots.take(connection)
    if (this.#judgesAtOnce) this.#count(connection)
    // Whoever listens to the diagnostics may have closed the server in this very moment.
    if (owner.takesNobody) {
      this.drop(connection)
      return
    }
    const steps = this.#steps
    owner.entered(connection, steps === undefined)
    if (steps !== undefined && slotOf(connection).state === 'arriving') void steps.lead(connection)
  }

  /** Closes a client that has entered and was not handed out: the server closes. */
  drop(connection: ByteConnection<SocketAddress>): void {
    this.#parts.tally.left('dropped')
    slotOf(connection).state = 'dropped'
    connection.abort()
    if (!slotOf(connection).isOpen) this.#parts.owner.settle(connection)
  }

  /** Closes all that have entered and were not handed out. */
  dropAll(): void {
    for (const connection of this.#parts.slots.open) {
      const { state } = slotOf(connection)
      if (state === 'arriving' || state === 'ready') this.drop(connection)
    }
  }

  /** Called by the steps. */
  passed(connection: ByteConnection<SocketAddress>): void {
    const slot = slotOf(connection)
    if (slot.state !== 'arriving') return
    if (slot.isOpen) this.#parts.owner.passed(connection)
    else this.drop(connection)
  }

  /** Called by the steps. No handler sees this client, and nothing is raised; a callback for errors gets the failure once it is closed. */
  turnAway(connection: ByteConnection<SocketAddress>, step: TurningStep, failure?: { readonly error: unknown }): void {
    const { tally, owner } = this.#parts
    const slot = slotOf(connection)
    if (slot.state !== 'arriving') return
    slot.state = 'turned-away'
    slot.failure = failure
    tally.left('turned-away')
    tally.turnedAway[step]++
    if (serverTurnedAway.hasSubscribers) this.#publish(slot.remoteAddress, step, failure?.error)
    connection.abort()
    if (!slot.isOpen) owner.settle(connection)
  }

  /** A slot is free. */
  released(connection: ByteConnection<SocketAddress>): void {
    const { addressKey } = slotOf(connection)
    if (addressKey !== undefined) this.#admission?.release(addressKey)
  }

  invariant(check: (holds: boolean, what: string) => void): void {
    const { inUse } = this.#parts.slots
    const counted = this.#admission?.total ?? 0
    check(counted <= inUse, `${counted} clients are counted by their address in ${inUse} slots`)
  }

  // Such a client never was anybody: no slot, no object.
  #dropUnseen(client: Accepted): void {
    this.#parts.tally.left('dropped')
    discard(client)
  }

  // Before any connection is made for it: one address may come ten thousand times.
  #isRefused(client: Accepted, admission: Admission): boolean {
    const key = admission.keyOf(this.#arrivals.hostOf(client) ?? '')
    const refusal = admission.refusalOf(key, () => this.#arrivals.addressOf(client))
    if (refusal === undefined) return false
    this.#parts.tally.turnedAway[refusal]++
    this.#parts.tally.left('turned-away')
    const address = serverTurnedAway.hasSubscribers ? this.#arrivals.addressOf(client) : undefined
    refuse(client)
    if (address !== undefined) this.#publish(address, refusal, undefined)
    return true
  }

  // Behind a PROXY header the client's address is known only in its slot.
  #judgement(admission: Admission): Step {
    return {
      name: 'admit',
      run: (connection) => {
        const { remoteAddress } = slotOf(connection)
        const refusal = admission.refusalOf(admission.keyOf(hostOf(remoteAddress)), () => remoteAddress)
        if (refusal === undefined) this.#count(connection)
        return refusal
      }
    }
  }

  #count(connection: ByteConnection<SocketAddress>): void {
    const slot = slotOf(connection)
    slot.addressKey = this.#admission?.keyOf(hostOf(slot.remoteAddress))
    if (slot.addressKey !== undefined) this.#admission?.count(slot.addressKey)
  }

  #publish(remoteAddress: SocketAddress, step: TurningStep, error: unknown): void {
    const { shell, address } = this.#parts.owner
    const message: ServerTurnedAwayMessage = { server: shell, address, remoteAddress, step, error }
    serverTurnedAway.publish(message)
  }
}

function hostOf(address: SocketAddress): string {
  return address.family === 'unix' ? '' : address.address
}
