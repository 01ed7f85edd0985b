// What is measured, and who is compared.

import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

/**
 * @typedef {object} Measure
 * @property {string} name as in `--only`
 * @property {string} title
 * @property {string} unit
 * @property {string} behaviour what the servers do with a connection
 * @property {'echo' | 'accept' | 'receive' | 'send' | 'idle' | 'dial'} load what the generator does
 * @property {number} [size] bytes of a message
 * @property {boolean} [isSecure] over TLS 1.3, where the baseline is node:tls
 * @property {boolean} [isForTwo] for the baseline and this library alone
 */

/** One line here; the baseline has its event handlers, as for the echoes in a loop. */
const PIPE = { behaviour: 'pipe', load: 'echo', isForTwo: true }
const TLS = { isSecure: true, isForTwo: true }

/** @type {Measure[]} */
export const measures = [
  { name: 'echo64', title: 'Echo, 64 bytes', unit: 'round trips/s', behaviour: 'echo', load: 'echo', size: 64 },
  { name: 'echo16k', title: 'Echo, 16 KiB', unit: 'round trips/s', behaviour: 'echo', load: 'echo', size: 16_384 },
  { name: 'pipe64', title: 'Echo, 64 bytes, writer(reader)', unit: 'round trips/s', size: 64, ...PIPE },
  { name: 'pipe16k', title: 'Echo, 16 KiB, writer(reader)', unit: 'round trips/s', size: 16_384, ...PIPE },
  { name: 'receive', title: 'Receive in bulk, chunks to keep', unit: 'GB/s', behaviour: 'receive', load: 'receive' },
  { name: 'into', title: 'Receive in bulk, into one buffer', unit: 'GB/s', behaviour: 'into', load: 'receive' },
  { name: 'send', title: 'Send in bulk, chunks of 64 KiB', unit: 'GB/s', behaviour: 'send', load: 'send' },
  { name: 'accept', title: 'Accept, one byte, close', unit: 'connections/s', behaviour: 'echo', load: 'accept' },
  { name: 'dial', title: 'Dial, one byte, close', unit: 'connections/s', behaviour: 'dial', load: 'dial', isForTwo: true },
  { name: 'tls-echo64', title: 'TLS: echo, 64 bytes', unit: 'round trips/s', behaviour: 'tls-echo', load: 'echo', size: 64, ...TLS },
  { name: 'tls-receive', title: 'TLS: receive in bulk', unit: 'GB/s', behaviour: 'tls-receive', load: 'receive', ...TLS },
  { name: 'tls-send', title: 'TLS: send in bulk', unit: 'GB/s', behaviour: 'tls-send', load: 'send', ...TLS },
  { name: 'tls-accept', title: 'TLS: handshake, one byte, close', unit: 'connections/s', behaviour: 'tls-echo', load: 'accept', ...TLS },
  { name: 'idle', title: 'Memory of an idle connection', unit: 'KiB', behaviour: 'echo', load: 'idle', size: 1 },
  { name: 'tls-idle', title: 'TLS: memory of an idle connection', unit: 'KiB', behaviour: 'tls-echo', load: 'idle', size: 1, ...TLS }
]

/**
 * @typedef {object} Peer
 * @property {string} name
 * @property {string} what
 * @property {string[]} command started with a behaviour and a number of bytes
 * @property {string} version
 * @property {string[]} [lacks] behaviours it has nothing for
 */

/** The one that ratios refer to. */
export const BASELINE = 'node:net'

/** @type {Peer[]} */
const all = [
  { name: BASELINE, what: 'event handlers', command: node('net.js'), version: process.version },
  { name: 'it-tcp', what: 'this library', command: node('it-tcp.js'), version: versionIn('../package.json') },
  { name: 'for await', what: 'for await (chunk of socket)', command: node('for-await.js'), version: process.version, lacks: ['into'] },
  {
    name: 'stream-to-it',
    what: 'with it-pipe',
    command: node('stream-to-it.js'),
    version: versionOf('stream-to-it'),
    lacks: ['into']
  },
  { name: '@libp2p/tcp', what: 'iterated', command: node('libp2p.js'), version: versionOf('@libp2p/tcp'), lacks: ['into'] },
  {
    name: 'Deno',
    what: 'Deno.listen',
    command: [bin('deno'), 'run', '--no-config', '--no-lock', '--allow-all', here('servers/deno.js')],
    version: versionOf('deno')
  },
  { name: 'Bun', what: 'Bun.listen', command: [bin('bun'), here('servers/bun.js')], version: versionOf('bun'), lacks: ['into'] }
]

/** Those that are installed here. The others are named on standard error. */
export const peers = all.filter(({ name, version, command }) => {
  const isInstalled = version !== '' && existsSync(command[0])
  if (!isInstalled) console.error(`Left out, since it is not installed: ${name}`)
  return isInstalled
})

/** @param {string} path */
export function here(path) {
  return fileURLToPath(new URL(path, import.meta.url))
}

/** @param {string} file */
function node(file) {
  return [process.execPath, here(`servers/${file}`)]
}

/** @param {string} name */
function bin(name) {
  return here(`node_modules/.bin/${name}`)
}

/** @param {string} name */
function versionOf(name) {
  return versionIn(`node_modules/${name}/package.json`)
}

/** @param {string} path */
function versionIn(path) {
  return existsSync(here(path)) ? JSON.parse(readFileSync(here(path), 'utf8')).version : ''
}
