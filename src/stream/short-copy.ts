// Short writes go out of memory that native code knows already.
//
// V8 keeps the bytes of a typed array of up to 64 bytes in its heap. When native code asks for them, as a write does, it finds memory outside for
// them, and an ArrayBuffer that the garbage collector has to look after: that costs more than to copy them to where such memory is.

/** The longest array that V8 keeps in its heap. */
const LONGEST = 64

let memory = new ArrayBuffer(LONGEST)
// Of each length the one that was made when it was first asked for.
let views: Uint8Array[] = []

/** Whether {@link shortCopy} is worth it. */
export function isShort(chunk: Uint8Array | string): chunk is Uint8Array {
  return typeof chunk !== 'string' && chunk.byteLength <= LONGEST
}

/** A copy of a short chunk in memory that is used again by the next one, unless {@link keepShortCopy} is called first. */
export function shortCopy(chunk: Uint8Array): Uint8Array {
  const { byteLength } = chunk
  views[byteLength] ??= new Uint8Array(memory, 0, byteLength)
  const view = views[byteLength] as Uint8Array
  view.set(chunk)
  return view
}

/** Leaves the memory of the last copy to whoever has it: it is still to be written. */
export function keepShortCopy(): void {
  memory = new ArrayBuffer(LONGEST)
  views = []
}
