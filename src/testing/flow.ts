// One direction of a connection in memory: what a system holds between the one who sends and the one who receives.
//
// Bytes are taken from the sender, up to the capacity, then pass the link, which may hold them, and are then with the receiver's system, where they
// stay until they are read. The end passes behind them. A reset overtakes what the link holds: that is lost, as with a system that gives up a socket.

const NO_LIMIT = Number.POSITIVE_INFINITY
/** Bytes read at once at most, as Node.js does. */
const READ_SIZE = 65_536

/** Who is told that something can be done at an end. Called from inside commands of the other end: not the moment to tell a connection anything. */
export interface FlowEnd {
  /** Whoever sends may go on: there is room, or nobody is left to whom it would matter. */
  drained(): void
  /** Bytes, the end or a reset are with the receiver's system. */
  arrived(): void
}

export class Flow {
  readonly #capacity: number
  #sender: Pick<FlowEnd, 'drained'> | undefined
  #receiver: Pick<FlowEnd, 'arrived'> | undefined
  readonly #chunks: Uint8Array<ArrayBuffer>[] = []
  // Of the first chunk: what was read.
  #offset = 0
  #length = 0
  // Of `#length`, what is with the receiver's system.
  #passed = 0
  // Bytes that the link lets pass.
  #credit = NO_LIMIT
  #cut = READ_SIZE
  #hasEnd = false
  #hasReset = false

  constructor(capacity: number) {
    this.#capacity = capacity
  }

  /** Names who is told. */
  connect(sender: Pick<FlowEnd, 'drained'>, receiver: Pick<FlowEnd, 'arrived'>): void {
    this.#sender = sender
    this.#receiver = receiver
  }

  // The sender --------------------------------------------------------------------------------------------------------

  /** Bytes that can be taken. Behind an end, or a reset, there is no one to get them, and nothing to wait for. */
  get room(): number {
    return this.#isOver ? NO_LIMIT : Math.max(0, this.#capacity - this.#length)
  }

  /** Takes a copy of `bytes`, for which there must be room. */
  put(bytes: Uint8Array): void {
    if (this.#isOver) return
    this.#chunks.push(new Uint8Array(bytes))
    this.#length += bytes.byteLength
    this.#pass()
  }

  /** Sends the end, behind all bytes; also as if the sender had done so. What is put later is lost. */
  end(): void {
    if (this.#isOver) return
    this.#hasEnd = true
    this.#sender?.drained()
    this.#pass()
  }

  /** Sends a reset. What has not passed the link is lost. */
  reset(): void {
    if (this.#hasReset) return
    this.#hasReset = true
    // An end that has come already stays one: the reset behind it is for those who write.
    if (this.isHeld) this.#hasEnd = false
    this.#drop(this.#length - this.#passed)
    this.#sender?.drained()
    this.#pass()
  }

  // The receiver ------------------------------------------------------------------------------------------------------

  /** Bytes that can be read. */
  get available(): number {
    return this.#passed
  }

  /** Whether the end has come, and all before it is read. */
  get isEnded(): boolean {
    return this.#hasEnd && this.#length === 0 && !this.isHeld
  }

  /** Whether there is anything to tell the receiver of. */
  get isDue(): boolean {
    return this.#passed > 0 || this.isReset || this.isEnded
  }

  /** Whether a reset has come. There may be bytes to be read yet. */
  get isReset(): boolean {
    return this.#hasReset && !this.isHeld
  }

  /** Reads the next bytes, in memory of their own; there must be some. */
  take(): Uint8Array<ArrayBuffer> {
    return this.#take(Math.min(this.#passed, this.#cut, READ_SIZE))
  }

  /** Throws away what can be read: whoever received is gone. */
  clear(): void {
    if (this.#passed > 0) this.#take(this.#passed)
  }

  #take(length: number): Uint8Array<ArrayBuffer> {
    const first = this.#chunks[0] as Uint8Array<ArrayBuffer>
    this.#passed -= length
    this.#length -= length
    if (this.#offset === 0 && first.byteLength === length) {
      this.#chunks.shift()
      this.#sender?.drained()
      return first
    }
    const bytes = new Uint8Array(length)
    for (let filled = 0; filled < length; ) {
      const chunk = this.#chunks[0] as Uint8Array<ArrayBuffer>
      const part = chunk.subarray(this.#offset, this.#offset + length - filled)
      bytes.set(part, filled)
      filled += part.byteLength
      this.#offset += part.byteLength
      if (this.#offset === chunk.byteLength) {
        this.#chunks.shift()
        this.#offset = 0
      }
    }
    this.#sender?.drained()
    return bytes
  }

  // The link ----------------------------------------------------------------------------------------------------------

  get isHeld(): boolean {
    return this.#credit !== NO_LIMIT
  }

  /** Lets nothing pass any more. */
  hold(): void {
    if (!this.isHeld) this.#credit = 0
  }

  /** Lets `bytes` more pass, whenever they come, where it is held; without a number all that is held, and what follows. */
  release(bytes = NO_LIMIT): void {
    if (!this.isHeld) return
    this.#credit += bytes
    this.#pass()
  }

  /** Gives what arrives in pieces of at most `size` bytes, one for each turn of the event loop. */
  cutInto(size: number): void {
    this.#cut = size
  }

  // -------------------------------------------------------------------------------------------------------------------

  get #isOver(): boolean {
    return this.#hasEnd || this.#hasReset
  }

  #pass(): void {
    const length = Math.min(this.#length - this.#passed, this.#credit)
    this.#passed += length
    this.#credit -= length
    if (length > 0 || this.#isOver) this.#receiver?.arrived()
  }

  // Takes back the last bytes.
  #drop(length: number): void {
    let rest = length
    this.#length -= length
    while (rest > 0) {
      const last = this.#chunks.pop() as Uint8Array<ArrayBuffer>
      const held = last.byteLength - (this.#chunks.length === 0 ? this.#offset : 0)
      if (held > rest) this.#chunks.push(last.slice(0, last.byteLength - rest))
      else if (this.#chunks.length === 0) this.#offset = 0
      rest -= Math.min(held, rest)
    }
  }
}
