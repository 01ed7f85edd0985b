import { AsyncLocalStorage } from 'node:async_hooks'
import { expect } from 'chai'
import { inEverySetting } from '../helpers/settings.ts'

describe('Server: async contexts', () => {
  inEverySetting((setting) => {
    const { client, clients } = setting

    describe('a handler’s async context', () => {
      it('does not leak into connections accepted after it reopened the gate', async () => {
        const storage = new AsyncLocalStorage<string>()
        const seen: (string | undefined)[] = []
        const server = await setting.create({ maxConnections: 1 }, async (connection) => {
          seen.push(storage.getStore())
          await connection.reader.readLine()
          storage.enterWith('of a handler')
          connection.abort()
          await connection.closed
        })
        await clients(server, 5)
        await setting.until(() => seen.length === 5)
        await setting.until(() => server.numConnections === 0)
        expect(seen).to.deep.equal(Array(5).fill(undefined))
      })

      it('nor does that of whoever changes the limit or the mode', async () => {
        const storage = new AsyncLocalStorage<string>()
        const seen: (string | undefined)[] = []
        const server = await setting.create({ maxConnections: 1 }, async ({ closed }) => {
          seen.push(storage.getStore())
          await closed
        })
        await clients(server, 3)
        await setting.until(() => seen.length === 1)
        storage.run('of a setter', () => {
          server.maxConnections = 2
        })
        await setting.until(() => seen.length === 2)
        storage.run('of a setter', () => {
          server.dropIncomingConnections = true
          server.maxConnections = 3
          server.dropIncomingConnections = false
        })
        await setting.until(() => seen.length === 3)
        expect(seen).to.deep.equal([undefined, undefined, undefined])
      })

      it('of an accept() is its own, whoever’s accept() opened the gate', async () => {
        const storage = new AsyncLocalStorage<string>()
        const server = await setting.listen()
        const store = async (name: string): Promise<string | undefined> =>
          await storage.run(name, async () => {
            await server.accept()
            return storage.getStore()
          })
        const stores = [store('first'), store('second')]
        await clients(server, 2)
        expect(await Promise.all(stores)).to.deep.equal(['first', 'second'])
      })

      it('is that of whoever made the server, and so is that of admit', async () => {
        const storage = new AsyncLocalStorage<string>()
        const seen: (string | undefined)[] = []
        const admit = (): boolean => seen.push(storage.getStore()) > 0
        const server = await storage.run('the maker', () =>
          setting.create({ admit }, () => {
            seen.push(storage.getStore())
          })
        )
        await storage.run('somebody else', () => client(server))
        await setting.until(() => seen.length === 2)
        expect(seen).to.deep.equal(['the maker', 'the maker'])
      })

      for (const way of ['throws', 'rejects after its connection is closed']) {
        it(`onHandlerError runs in that of whoever made the server, when a handler with one of its own ${way}`, async () => {
          const storage = new AsyncLocalStorage<string>()
          const seen: (string | undefined)[] = []
          const onHandlerError = (): unknown => seen.push(storage.getStore())
          const server = await storage.run('the maker', () =>
            setting.create({ onHandlerError }, async (connection) => {
              storage.enterWith('the handler')
              if (way !== 'throws') {
                connection.abort()
                await connection.closed
              }
              throw new Error('failed')
            })
          )
          await client(server).catch(() => {})
          await setting.until(() => seen.length === 1)
          expect(seen).to.deep.equal(['the maker'])
        })
      }
    })
  })
})
