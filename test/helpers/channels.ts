// What is published on a diagnostics channel.

import { subscribe, unsubscribe } from 'node:diagnostics_channel'

/** The messages published on `name` until it is disposed. */
export function collect<T>(name: string): T[] & Disposable {
  const messages: T[] = []
  const dispose = listen<T>(name, (message) => messages.push(message))
  return Object.assign(messages, dispose)
}

/** Calls `then` with each message published on `name` until it is disposed. */
export function listen<T>(name: string, then: (message: T) => void): Disposable {
  const listener = (message: unknown): void => then(message as T)
  subscribe(name, listener)
  return { [Symbol.dispose]: () => void unsubscribe(name, listener) }
}
