// A real PostgreSQL in a directory of its own.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chownSync, copyFileSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { run, skipIf } from './programs.ts'
import { closedPort } from './raw.ts'
import type { Scope } from './scope.ts'
import { until } from './until.ts'

export interface Postgres {
  readonly port: number
}

/** Its password, which it asks for in clear within TLS. */
export const PASSWORD = 'secret'

/**
 * Starts PostgreSQL on a port of 127.0.0.1, with the certificate in these files, to which nobody may talk without TLS. Skips the test where there
 * is none.
 */
export async function startPostgres(context: Mocha.Context, scope: Scope, cert: string, key: string): Promise<Postgres> {
  const versions = '/usr/lib/postgresql'
  const version = existsSync(versions) ? readdirSync(versions).at(-1) : undefined
  const bin = join(versions, String(version), 'bin')
  skipIf(context, version === undefined || !existsSync(join(bin, 'initdb')), 'needs PostgreSQL')
  // It refuses to run as root.
  const user: { uid?: number; gid?: number } | undefined = userInfo().uid === 0 ? userNamed('postgres') : {}
  skipIf(context, user === undefined, 'needs a user named postgres')
  const directory = scope.tempDir()
  const data = join(directory, 'data')
  const own = (file: string): void => {
    if (user?.uid !== undefined && user.gid !== undefined) chownSync(file, user.uid, user.gid)
  }
  const passwordFile = join(directory, 'password')
  writeFileSync(passwordFile, PASSWORD)
  own(directory)
  own(passwordFile)
  const made = await run(
    join(bin, 'initdb'),
    ['-D', data, '-U', 'postgres', '-A', 'password', `--pwfile=${passwordFile}`, '--no-sync', '-E', 'UTF8'],
    { cwd: directory, ...user }
  )
  expect(made.code, made.stderr).to.equal(0)
  for (const [from, to] of [
    [cert, 'server.crt'],
    [key, 'server.key']
  ] as const) {
    copyFileSync(from, join(data, to))
    own(join(data, to))
  }
  await run('chmod', ['600', join(data, 'server.key')])
  writeFileSync(join(data, 'pg_hba.conf'), 'hostssl all all 127.0.0.1/32 password\n')
  const port = await closedPort()
  const args = ['-D', data, '-k', directory, '-h', '127.0.0.1', '-p', String(port), '-c', 'fsync=off', '-c', 'ssl=on']
  const server = spawn(join(bin, 'postgres'), args, { cwd: directory, stdio: 'ignore', ...user })
  scope.defer(() => stop(server))
  const file = join(data, 'postmaster.pid')
  await until(() => existsSync(file) && readFileSync(file, 'utf8').includes('ready'), 'PostgreSQL is ready')
  return { port }
}

/** Stops a PostgreSQL, and resolves when it has ended. */
export async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  child.kill('SIGINT')
  await once(child, 'exit')
}

/** A user of this machine by name; undefined if there is none. */
export function userNamed(name: string): { uid: number; gid: number } | undefined {
  const entry = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .find((line) => line.startsWith(`${name}:`))
  if (entry === undefined) return undefined
  const [, , uid, gid] = entry.split(':')
  return { uid: Number(uid), gid: Number(gid) }
}
