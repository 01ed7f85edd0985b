import { BlockList } from 'node:net'
import { expect } from 'chai'
import { DropLimit, entryRules, parseRange, parseSenders } from '../../cli/admission.ts'
import { UsageError } from '../../cli/failure.ts'
import type { Connection, SocketAddress } from '../../src/index.ts'
import { turns } from '../helpers/until.ts'

describe('the admission of clients', () => {
  it('takes ranges of addresses and single ones', () => {
    let list: BlockList | undefined
    for (const text of ['10.0.0.0/8', '192.168.1.5', 'fd00::/8', '::1', '0.0.0.0/32']) list = parseRange(text, list)
    const served = ['10.255.0.1', '192.168.1.5', 'fd12::1', '::1', '0.0.0.0'].map((address) => admits(address, list))
    const others = ['11.0.0.1', '192.168.1.6', 'fe80::1', '::2', '0.0.0.1'].map((address) => admits(address, list))
    expect([served, others]).to.deep.equal([Array(5).fill(true), Array(5).fill(false)])
    expect([admits('1.2.3.4', parseRange('0.0.0.0/0')), admits('::1', parseRange('0.0.0.0/0'))]).to.deep.equal([true, false])
  })

  for (const text of ['', 'localhost', '10.0.0.0/33', '::1/129', '10.0.0.0/', '10.0.0.0/x', '10.0.0.0/8/8', '10.0.0/8', '/8', '[::1]']) {
    it(`refuses '${text}' as a range`, () => {
      expect(() => parseRange(text)).to.throw(
        UsageError,
        `must be an address or a range of addresses such as 10.0.0.0/8: received '${text}'`
      )
    })
  }

  it('takes those who may send PROXY headers: ranges, unix, and anybody, who then are all', () => {
    expect(parseSenders('10.0.0.0/8')).to.deep.equal(['10.0.0.0/8'])
    expect(parseSenders('::1', parseSenders('unix'))).to.deep.equal(['unix', '::1'])
    expect(parseSenders('::1', parseSenders('anybody', ['unix']))).to.equal('anybody')
    const message = "must be a range of addresses such as 10.0.0.0/8, unix or anybody: received 'somebody'"
    expect(() => parseSenders('somebody')).to.throw(UsageError, message)
  })

  it('keeps a place until the client is closed and what served it has ended, whichever is later', async () => {
    const admission = new DropLimit()
    admission.limit = 1
    let end = (): void => {}
    const first = client('10.0.0.1')
    expect(
      admission.admit(
        first,
        new Promise<void>((resolve) => {
          end = resolve
        })
      )
    ).to.equal(undefined)
    expect(admission.admit(client('10.0.0.2'), Promise.resolve())).to.include({
      code: 'DROPPED',
      message: 'dropped at the limit of 1 connection'
    })
    first.leave()
    await turns(1)
    expect(admission.admit(client('10.0.0.2'), Promise.resolve())).to.have.property('code', 'DROPPED')
    end()
    await turns(1)
    expect(admission.admit(client('10.0.0.2'), Promise.resolve())).to.equal(undefined)
    expect(admission.dropped).to.equal(2)
  })
})

function admits(address: string, allow = new BlockList()): boolean {
  return entryRules({ allow }).admit?.(addressOf(address)) === true
}

function addressOf(address: string): SocketAddress {
  return { family: address.includes(':') ? 'IPv6' : 'IPv4', address, port: 1 }
}

/** What a limit sees of a connection. */
function client(address: string): Connection & { leave(): void } {
  let leave = (): void => {}
  const closed = new Promise<void>((resolve) => {
    leave = resolve
  })
  return { remoteAddress: addressOf(address), closed, leave } as unknown as Connection & { leave(): void }
}
