import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { inspect } from 'node:util'
import { expect } from 'chai'
import {
  type Connection,
  connect,
  connectSocket,
  fromDuplex,
  listen,
  onFile,
  onFileDescriptor,
  onPort,
  onPortChosenByOs,
  readProxyHeader,
  Server,
  TlsContext,
  toHostAndPort,
  toInetAddress,
  WhereToListen,
  withConnection
} from '../../src/index.ts'
import { useScope } from '../helpers/scope.ts'
import { openPair } from '../helpers/transports.ts'

/** What may stand where options belong, and would be taken for none: a name, a number, a list, a signal without its name. */
const NO_OPTIONS: readonly unknown[] = [null, '127.0.0.1', 42, true, ['127.0.0.1'], () => {}, AbortSignal.abort(), 1n, Symbol('options')]

const where = toHostAndPort('127.0.0.1', 1)
const address = { family: 'IPv4', address: '127.0.0.1', port: 1 } as const

const FUNCTIONS: Record<string, (options: never) => unknown> = {
  'onPort()': (options) => onPort(0, options),
  'onPortChosenByOs()': (options) => onPortChosenByOs(options),
  'onFile()': (options) => onFile('/run/never', options),
  'onFileDescriptor()': (options) => onFileDescriptor(9_999, options),
  'WhereToListen.create()': (options) => WhereToListen.create(options),
  'toHostAndPort()': (options) => toHostAndPort('127.0.0.1', 1, options),
  'toInetAddress()': (options) => toInetAddress(address, options),
  'listen()': (options) => listen(onPort(0), options),
  'connect()': (options) => connect(where, options),
  'connectSocket()': (options) => connectSocket(where, options),
  'TlsContext.create()': (options) => TlsContext.create(options),
  'fromDuplex()': (options) => fromDuplex(new PassThrough(), options)
}

// A function in their place is the handler.
const WITH_A_FUNCTION: Record<string, (options: never) => unknown> = {
  'Server.create()': (options) => Server.create(onPort(0), options, () => {}),
  'withConnection()': (options) => withConnection(where, options, () => {})
}

const METHODS: Record<string, (connection: Connection, options: never) => unknown> = {
  'read()': ({ reader }, options) => reader.read(options),
  'readExactly()': ({ reader }, options) => reader.readExactly(1, options),
  'readUntil()': ({ reader }, options) => reader.readUntil('x', options),
  'peek()': ({ reader }, options) => reader.peek(1, options),
  'readLine()': ({ reader }, options) => reader.readLine(options),
  'lines()': ({ reader }, options) => reader.lines(options),
  'lineBatches()': ({ reader }, options) => reader.lineBatches(options),
  'chunks()': ({ reader }, options) => reader.chunks(options),
  'readAll()': ({ reader }, options) => reader.readAll(options),
  'readInto()': ({ reader }, options) => reader.readInto(new Uint8Array(1), options),
  'discard()': ({ reader }, options) => reader.discard(options),
  'close()': (connection, options) => connection.close(options),
  'startTls()': (connection, options) => connection.startTls({ serverName: 'localhost' }, options),
  'readProxyHeader()': ({ reader }, options) => readProxyHeader(reader, options)
}

async function expectRefused(call: () => unknown, value: unknown): Promise<void> {
  const what = inspect(value)
  let error: unknown
  try {
    await call()
  } catch (thrown) {
    error = thrown
  }
  expect(error, what).to.be.instanceOf(TypeError)
  expect((error as Error).message, what).to.match(/^Cannot .* must be an object: received /s)
  expect((error as Error).message.endsWith(what), (error as Error).message).to.equal(true)
}

describe('Options that are no object are refused, everywhere, before anything happens', () => {
  const scope = useScope()

  for (const [name, call] of Object.entries({ ...FUNCTIONS, ...WITH_A_FUNCTION })) {
    it(`by ${name}`, async () => {
      for (const value of NO_OPTIONS) {
        if (typeof value !== 'function' || name in FUNCTIONS) await expectRefused(() => call(value as never), value)
      }
    })
  }

  for (const [name, call] of Object.entries(METHODS)) {
    it(`by ${name} of a connection, which lives on`, async () => {
      const { client, server } = await openPair(scope, true)
      for (const value of NO_OPTIONS) await expectRefused(() => call(client, value as never), value)
      server.writer.write('whole')
      expect(Buffer.from((await client.reader.readExactly(5)) ?? []).toString()).to.equal('whole')
    })
  }

  it('by accept() and close() of a server, which goes on', async () => {
    const server = scope.open(await listen(onFile(join(scope.tempDir(), 's'))))
    for (const value of NO_OPTIONS) {
      await expectRefused(() => server.accept(value as never), value)
      await expectRefused(() => server.close(value as never), value)
    }
    expect(server.isClosed).to.equal(false)
  })
})
