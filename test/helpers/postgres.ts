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
  const place = findPostgres(context, scope)
  const { data, own } = place
  const passwordFile = join(place.directory, 'password')
  writeFileSync(passwordFile, PASSWORD)
  own(passwordFile)
  await makeCluster(place, ['-A', 'password', `--pwfile=${passwordFile}`, '-E', 'UTF8'])
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
  await start(place, scope, ['-h', '127.0.0.1', '-p', String(port), '-c', 'ssl=on'])
  return { port }
}

/** Starts PostgreSQL on a Unix socket alone, where it trusts everybody; gives its path. */
export async function startPostgresOnPath(context: Mocha.Context, scope: Scope): Promise<string> {
  const place = findPostgres(context, scope)
  await makeCluster(place, ['-A', 'trust'])
  await start(place, scope, ['-h', ''])
  return join(place.directory, '.s.PGSQL.5432')
}

interface Place {
  readonly bin: string
  readonly directory: string
  readonly data: string
  /** Who runs it: nobody may run it as root. */
  readonly user: { readonly uid?: number; readonly gid?: number }
  /** Gives a file to that user. */
  own(file: string): void
}

function findPostgres(context: Mocha.Context, scope: Scope): Place {
  const versions = '/usr/lib/postgresql'
  const version = existsSync(versions) ? readdirSync(versions).at(-1) : undefined
  const bin = join(versions, String(version), 'bin')
  skipIf(context, version === undefined || !existsSync(join(bin, 'initdb')), 'needs PostgreSQL')
  const user = userInfo().uid === 0 ? userNamed('postgres') : {}
  skipIf(context, user === undefined, 'needs a user named postgres')
  const { uid, gid }: Place['user'] = user ?? {}
  const own = (file: string): void => {
    if (uid !== undefined && gid !== undefined) chownSync(file, uid, gid)
  }
  const directory = scope.tempDir()
  own(directory)
  return { bin, directory, data: join(directory, 'data'), user: user ?? {}, own }
}

async function makeCluster({ bin, directory, data, user }: Place, args: readonly string[]): Promise<void> {
  const { code, stderr } = await run(join(bin, 'initdb'), ['-D', data, '-U', 'postgres', '--no-sync', ...args], { cwd: directory, ...user })
  expect(code, stderr).to.equal(0)
}

async function start({ bin, directory, data, user }: Place, scope: Scope, args: readonly string[]): Promise<void> {
  const always = ['-D', data, '-k', directory, '-c', 'fsync=off']
  const server = spawn(join(bin, 'postgres'), [...always, ...args], { cwd: directory, stdio: 'ignore', ...user })
  scope.defer(() => stop(server))
  const file = join(data, 'postmaster.pid')
  await until(() => existsSync(file) && readFileSync(file, 'utf8').includes('ready'), 'PostgreSQL is ready')
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
