// Which of several addresses is tried when, as RFC 8305 (Happy Eyeballs) says.

import { doNothing } from '../async/do-nothing.ts'
import { startTimer } from '../async/timer.ts'

/** Milliseconds that an attempt is ahead of the next: the RFC's recommended Connection Attempt Delay. */
const ATTEMPT_DELAY = 250

/**
 * Starts one attempt, which calls exactly one of its functions later. Returns the one that gives it up: then it calls neither, and nothing
 * of it stays open.
 */
export type Attempt<T> = (succeed: (result: T) => void, fail: (error: Error) => void) => () => void

/** The families taking turns (section 4), beginning with that of the first. */
export function inTurns<T extends { readonly family: number }>(addresses: readonly T[]): T[] {
  const firsts = addresses.filter((address) => address.family === addresses[0]?.family)
  const others = addresses.filter((address) => address.family !== addresses[0]?.family)
  return addresses.flatMap((_, index) => [...firsts.slice(index, index + 1), ...others.slice(index, index + 1)])
}

/**
 * Runs the attempts (section 5): the next one starts when the latest has failed, or has had its head start. The first to succeed wins, and
 * the others are given up. Calls one of its functions, `failAll` with the error of every attempt, and returns the one that gives up.
 */
export function race<T>(attempts: readonly Attempt<T>[], succeed: (result: T) => void, failAll: (errors: Error[]) => void): () => void {
  const [only] = attempts
  if (only !== undefined && attempts.length === 1) return only(succeed, (error) => failAll([error]))

  const errors: Error[] = []
  const giveUps = new Map<number, () => void>()
  let numFailed = 0
  let latest = -1
  let stopHeadStart = doNothing
  startNext()
  return giveUp

  function startNext(): void {
    stopHeadStart()
    const index = ++latest
    const start = attempts[index]
    if (start === undefined) return
    if (index + 1 < attempts.length) stopHeadStart = startTimer(ATTEMPT_DELAY, startNext)
    giveUps.set(
      index,
      start(
        (result) => {
          giveUps.delete(index)
          giveUp()
          succeed(result)
        },
        (error) => {
          giveUps.delete(index)
          errors[index] = error
          if (++numFailed === attempts.length) failAll(errors)
          else if (index === latest) startNext()
        }
      )
    )
  }

  function giveUp(): void {
    stopHeadStart()
    for (const each of giveUps.values()) each()
  }
}
