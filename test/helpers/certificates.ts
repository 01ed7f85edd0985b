// The certificates that tests need: made by openssl, once for a run and the processes that it starts.

import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Context } from 'mocha'
import { needs } from './programs.ts'

/** A certificate and its key, in PEM. */
export interface Issued {
  readonly cert: string
  readonly key: string
}

export interface Certificates {
  /** Where all of it lies as files, for programs: `NAME.pem`, `NAME.key`. */
  readonly directory: string
  /** Signs all of them but the stranger's. */
  readonly ca: Issued
  readonly strangersCa: Issued
  /** For a.test, localhost, *.wild.test, bücher.test, 127.0.0.1 and ::1. */
  readonly a: Issued
  /** For the same names, with another key. */
  readonly a2: Issued
  readonly b: Issued
  readonly rsa: Issued
  readonly expired: Issued
  readonly notYetValid: Issued
  readonly client: Issued
  /** Of `strangersCa`. */
  readonly stranger: Issued
  /** The key of `a`, encrypted with `passphrase`. */
  readonly encryptedKey: string
  readonly passphrase: string
  /** `a` under a certificate between it and the CA, and that one alone. */
  readonly chained: Issued
  readonly intermediate: string
}

const NAMES_OF_A = 'DNS:a.test,DNS:localhost,DNS:*.wild.test,DNS:xn--bcher-kva.test,IP:127.0.0.1,IP:::1'
const PASSPHRASE = 'open sesame'

/** Names the directory to processes that this one starts. */
const DIRECTORY = 'IT_TCP_TEST_CERTIFICATES'

let made: Certificates | undefined

/** Skips the block without openssl. Call it in a `before` hook; later calls give the same. */
export function useCertificates(context: Context): Certificates {
  needs(context, 'openssl')
  context.timeout(60_000)
  return certificates()
}

/** The same where openssl is known to be there. */
export function certificates(): Certificates {
  made ??= certificatesIn(process.env[DIRECTORY] ?? make())
  return made
}

function certificatesIn(directory: string): Certificates {
  const read = (name: string): string => readFileSync(join(directory, name), 'utf8')
  const issued = (name: string): Issued => ({ cert: read(`${name}.pem`), key: read(`${name}.key`) })
  const intermediate = read('intermediate.pem')
  return {
    directory,
    ca: issued('ca'),
    strangersCa: issued('strangers-ca'),
    a: issued('a'),
    a2: issued('a2'),
    b: issued('b'),
    rsa: issued('rsa'),
    expired: issued('expired'),
    notYetValid: issued('not-yet-valid'),
    client: issued('client'),
    stranger: issued('stranger'),
    encryptedKey: read('encrypted.key'),
    passphrase: PASSPHRASE,
    chained: { cert: read('chained.pem') + intermediate, key: read('chained.key') },
    intermediate
  }
}

/** Gives the directory in which they are until this process ends. */
function make(): string {
  const directory = mkdtempSync(join(tmpdir(), 'it-tcp-certificates-'))
  process.on('exit', () => rmSync(directory, { recursive: true, force: true }))
  const at = (name: string): string => join(directory, name)
  const openssl = (...args: string[]): void => {
    execFileSync('openssl', args, { cwd: directory, stdio: 'pipe' })
  }

  let lastSerial = 0x1000
  const key = (name: string): void => {
    openssl('ecparam', '-name', 'prime256v1', '-genkey', '-noout', '-out', `${name}.key`)
  }
  const authority = (name: string, subject: string): void => {
    key(name)
    openssl(
      ...['req', '-x509', '-new', '-key', `${name}.key`, '-days', '3650', '-subj', `/CN=${subject}`, '-out', `${name}.pem`],
      ...['-addext', 'basicConstraints=critical,CA:TRUE', '-addext', 'keyUsage=critical,keyCertSign,cRLSign']
    )
  }
  const leaf = (name: string, subject: string, names: string, { by = 'ca', from, to, usage }: Signing = {}): void => {
    if (!existsSync(at(`${name}.key`))) key(name)
    openssl('req', '-new', '-key', `${name}.key`, '-subj', `/CN=${subject}`, '-out', `${name}.csr`)
    writeFileSync(at(`${name}.ext`), usage ?? usageOfLeaf(names))
    writeFileSync(at(`${name}.index`), '')
    writeFileSync(at(`${name}.serial`), (++lastSerial).toString(16).padStart(16, '0'))
    writeFileSync(at(`${name}.cnf`), signingConfig(name))
    openssl(
      ...['ca', '-batch', '-config', `${name}.cnf`, '-notext', '-cert', `${by}.pem`, '-keyfile', `${by}.key`],
      ...['-in', `${name}.csr`, '-out', `${name}.pem`, '-extfile', `${name}.ext`],
      ...['-startdate', from ?? '20200101000000Z', '-enddate', to ?? '20450101000000Z']
    )
  }

  authority('ca', 'it-tcp test CA')
  authority('strangers-ca', 'a stranger')
  leaf('a', 'a.test', NAMES_OF_A)
  openssl('ec', '-in', 'a.key', '-aes128', '-passout', `pass:${PASSPHRASE}`, '-out', 'encrypted.key')
  openssl('genrsa', '-out', 'rsa.key', '2048')
  leaf('intermediate', 'it-tcp test intermediate', '', { usage: 'basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign\n' })
  leaf('chained', 'a.test', NAMES_OF_A, { by: 'intermediate' })
  leaf('a2', 'a.test', NAMES_OF_A)
  leaf('b', 'b.test', 'DNS:b.test')
  leaf('rsa', 'a.test', NAMES_OF_A)
  leaf('expired', 'a.test', NAMES_OF_A, { from: '20200101000000Z', to: '20210101000000Z' })
  leaf('not-yet-valid', 'a.test', NAMES_OF_A, { from: '20440101000000Z', to: '20450101000000Z' })
  leaf('client', 'client', 'DNS:client.test')
  leaf('stranger', 'stranger', 'DNS:stranger.test', { by: 'strangers-ca' })
  process.env[DIRECTORY] = directory
  return directory
}

interface Signing {
  readonly by?: string
  readonly from?: string
  readonly to?: string
  /** The extensions, where they are not those of a leaf. */
  readonly usage?: string
}

function usageOfLeaf(names: string): string {
  return `subjectAltName=${names}\nbasicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage=serverAuth,clientAuth\n`
}

function signingConfig(name: string): string {
  return [
    '[ca]',
    'default_ca=d',
    '[d]',
    `database=${name}.index`,
    `serial=${name}.serial`,
    'new_certs_dir=.',
    'default_md=sha256',
    'policy=p',
    '[p]',
    'commonName=supplied',
    ''
  ].join('\n')
}
