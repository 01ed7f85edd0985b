import { BlockList } from 'node:net'
import { expect } from 'chai'
import { Admission, parseRange } from '../../cli/admission.ts'
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

  it('gives as many places to one address as it may, and the place of a client that is gone to another', async () => {
    const admission = new Admission({ maxConnectionsPerAddress: 2 })
    const [first, second, third] = [client('10.0.0.1'), client('10.0.0.1'), client('10.0.0.1')] as const
    expect(admission.admit(first)).to.equal(undefined)
    expect(admission.admit(second)).to.equal(undefined)
    expect(admission.admit(third)).to.include({ code: 'TOO_MANY_OF_ADDRESS', message: 'already serving 2 connections from 10.0.0.1' })
    expect(admission.admit(client('10.0.0.2'))).to.equal(undefined)
    first.leave()
    await turns(1)
    expect(admission.admit(third)).to.equal(undefined)
    expect(admission.admit(client('10.0.0.1'))).to.have.property('code', 'TOO_MANY_OF_ADDRESS')
    expect([admission.refused, admission.dropped]).to.deep.equal([2, 0])
  })

  it('counts a /64 of IPv6 as one address', () => {
    for (const [one, other, isSame] of [
      ['2001:db8::1', '2001:db8::2', true],
      ['2001:db8:0:1::1', '2001:db8:0:1:ffff:ffff:ffff:ffff', true],
      ['2001:db8:0:1::1', '2001:db8:0:2::1', false],
      ['::1', '::2', true],
      ['1::', '1:0:0:0:8::', true],
      ['fe80::1%eth0', 'fe80::2%eth0', true],
      ['::1', '0:0:0:1::1', false],
      ['10.0.0.1', '10.0.0.2', false]
    ] as const) {
      const admission = new Admission({ maxConnectionsPerAddress: 1 })
      expect(admission.admit(client(one))).to.equal(undefined)
      expect(admission.admit(client(other)) !== undefined, `${one} ${other}`).to.equal(isSame)
    }
  })

  it('keeps a place until the client is closed and what served it has ended, whichever is later', async () => {
    const admission = new Admission({})
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
    expect(admission.admit(client('10.0.0.2'))).to.include({ code: 'DROPPED', message: 'dropped at the limit of 1 connection' })
    first.leave()
    await turns(1)
    expect(admission.admit(client('10.0.0.2'))).to.have.property('code', 'DROPPED')
    end()
    await turns(1)
    expect(admission.admit(client('10.0.0.2'))).to.equal(undefined)
    expect([admission.refused, admission.dropped]).to.deep.equal([0, 2])
  })
})

function admits(address: string, allow = new BlockList()): boolean {
  return new Admission({ allow }).admit(client(address)) === undefined
}

/** What an admission sees of a connection. */
function client(address: string): Connection & { leave(): void } {
  const remoteAddress: SocketAddress = { family: address.includes(':') ? 'IPv6' : 'IPv4', address, port: 1 }
  let leave = (): void => {}
  const closed = new Promise<void>((resolve) => {
    leave = resolve
  })
  return { remoteAddress, closed, leave } as unknown as Connection & { leave(): void }
}
