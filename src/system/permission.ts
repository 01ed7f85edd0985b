// What Node.js's permission model forbids, asked before it is tried.

import { explainedError } from './system-error.ts'

/** Versions that do not know the permission do not restrict the network either. */
const CAN_FORBID_NET = process.allowedNodeEnvironmentFlags.has('--allow-net')

/**
 * Why Node.js would not let this process listen or connect, over TCP or a unix socket; undefined if it would. To be asked first: where a name has to be
 * looked up, Node.js throws its refusal in a callback, where nobody can catch it.
 */
export function netRefusal(): Error | undefined {
  // Declared as always there; it is only with --permission.
  const permission = process.permission as NodeJS.Process['permission'] | undefined
  if (!CAN_FORBID_NET || permission === undefined || permission.has('net')) return undefined
  return explainedError('ERR_ACCESS_DENIED', 'the permission model of Node.js forbids it without --allow-net')
}
