import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, existsSync, openSync, writeFileSync } from 'node:fs'
import { devNull } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { ListenError } from '../src/errors.ts'
import { GatedListener } from '../src/server/listening-socket.ts'
import { duplicate } from '../src/system/descriptors.ts'
import { handleOf } from '../src/system/node-internals.ts'
import { onFileDescriptor } from '../src/where-to-listen.ts'
import { behindEachGate, bindGate, gateOptions, IS_LINUX, kernelGateAvailableAnyway, type Where, withImports } from './helpers/gates.ts'
import { skipIf } from './helpers/programs.ts'
import { rawClient, rawServer, readToEnd, type Target } from './helpers/raw.ts'
import { rejection } from './helpers/rejection.ts'
import { until } from './helpers/until.ts'

behindEachGate('bind() of a descriptor', (gate, scope) => {
  describe('onFileDescriptor', () => {
    beforeEach(function () {
      skipIf(this, !kernelGateAvailableAnyway(), 'needs koffi to make descriptors')
    })

    const adopted = async (path?: string): Promise<[fd: number, target: Target]> => {
      const { server, target } = await rawServer(scope, path)
      const fd = duplicate(handleOf(server)?.fd ?? -1)
      // Only the duplicate is to accept.
      await new Promise((resolve) => server.close(resolve))
      return [fd, target]
    }

    it('serves an inherited TCP listener', async () => {
      const [fd, target] = await adopted()
      const { socket, accepted } = await bindGate(scope, onFileDescriptor(fd) as Where)
      expect(socket.address).to.deep.equal({ family: 'IPv4', address: '127.0.0.1', port: target })
      await rawClient(scope, target)
      socket.open()
      await until(() => accepted.length === 1)
      await socket.close()
      expect(await rejection(rawClient(scope, target))).to.include({ code: 'ECONNREFUSED' })
    })

    it('serves an inherited unix listener, whose file is left to its maker', async () => {
      const path = join(scope.tempDir(), 's')
      const [fd] = await adopted(path)
      // It went with the server of the test: any other file would have to stay just so.
      writeFileSync(path, '')
      const { socket } = await bindGate(scope, onFileDescriptor(fd) as Where)
      if (IS_LINUX) expect(socket.address).to.deep.equal({ family: 'unix', path })
      await socket.close()
      expect(existsSync(path)).to.equal(true)
    })

    it('tells an abstract name', async function () {
      skipIf(this, !IS_LINUX, 'needs abstract names')
      const path = `\0it-tcp-adopted-${process.pid}`
      const [fd] = await adopted(path)
      const { socket, accepted } = await bindGate(scope, onFileDescriptor(fd) as Where)
      expect(socket.address).to.deep.equal({ family: 'unix', path })
      socket.open()
      await rawClient(scope, path)
      await until(() => accepted.length === 1)
    })

    it('one that is closed, a file, a connection are ListenErrors', async () => {
      const cases: [fd: number, code: string][] = [[987, 'EBADF']]
      const file = openSync(devNull, 'r')
      scope.defer(() => closeSync(file))
      cases.push([file, 'ENOTSOCK'])
      const { target } = await rawServer(scope)
      const connection = duplicate(handleOf(await rawClient(scope, target))?.fd ?? -1)
      scope.defer(() => closeSync(connection))
      cases.push([connection, 'EINVAL'])
      for (const [fd, code] of cases) {
        const error = await rejection(GatedListener.bind(onFileDescriptor(fd), gateOptions([])))
        expect(error).to.be.an.instanceOf(ListenError)
        expect((error as ListenError).address).to.deep.equal({ fd })
        expect((error as ListenError).cause).to.include({ code })
        expect((error as Error).message).to.match(new RegExp(`^Cannot listen on descriptor ${fd}: .*[^.]$`))
      }
    })

    it('serves what a parent process hands down', async () => {
      const [fd, target] = await adopted()
      const program = `
        const socket = await GatedListener.bind(onFileDescriptor(3), { ...options, onAccept(client) {
          ;(client.socket ?? new net.Socket({ handle: client.handle })).end('from the child')
          void socket.close()
        } })
        socket.open()
      `
      const child = spawn(process.execPath, ['--input-type=module', '-e', withImports(program)], {
        stdio: ['ignore', 'ignore', 'inherit', fd],
        env: { ...process.env, IT_TCP_GATE: gate }
      })
      closeSync(fd)
      const client = await rawClient(scope, target)
      expect((await readToEnd(client)).toString()).to.equal('from the child')
      client.end()
      const [code] = await once(child, 'exit')
      expect(code).to.equal(0)
    })
  })
})
