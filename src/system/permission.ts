// What Node.js's permission model forbids, asked before it is tried.

import { isPlainNode } from './node-internals.ts'
import { explainedError } from './system-error.ts'

/**
 * Why Node.js would not let this process listen or connect, over TCP or a unix socket; undefined if it would. To be asked first: where a name has to be
 * looked up, Node.js throws its refusal in a callback, where nobody can catch it.
 */
export function netRefusal(): Error | undefined {
  const permission = permissionModel()
  if (permission === undefined || permission.has('net')) return undefined
  // Versions that do not know the permission do not restrict the network either. Not asked before: Node.js makes the table of flags for it.
  if (!process.allowedNodeEnvironmentFlags.has('--allow-net')) return undefined
  return explainedError('ERR_ACCESS_DENIED', 'the permission model of Node.js forbids it without --allow-net')
}

/** Whether this process may read and write a file, as far as Node.js is concerned. */
export function isPermitted(path: string): boolean {
  const permission = permissionModel()
  return permission === undefined || (permission.has('fs.read', path) && permission.has('fs.write', path))
}

/** Declared as always there; it is only with --permission. */
function permissionModel(): NodeJS.Process['permission'] | undefined {
  return isPlainNode ? (process.permission as NodeJS.Process['permission'] | undefined) : undefined
}
