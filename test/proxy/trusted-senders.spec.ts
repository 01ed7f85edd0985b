import { expect } from 'chai'
import type { SocketAddress } from '../../src/index.ts'
import { untrustedSender } from '../../src/proxy/refusals.ts'
import { trustedSenders } from '../../src/proxy/trusted-senders.ts'
import { refuses } from '../helpers/bad-input.ts'

const UNIX_PEER: SocketAddress = { family: 'unix', path: '' }

describe('trustedSenders', () => {
  for (const [from, trusted, others] of [
    [['10.0.0.0/8'], ['10.0.0.0', '10.255.255.255'], ['11.0.0.0', '9.255.255.255', '::a00:1', 'fd00::1']],
    [['10.1.2.3/8'], ['10.0.0.1'], ['11.1.2.3']],
    [['192.0.2.1'], ['192.0.2.1'], ['192.0.2.0', '192.0.2.2']],
    [
      ['192.0.2.1/32', '198.51.100.0/25'],
      ['192.0.2.1', '198.51.100.127'],
      ['192.0.2.2', '198.51.100.128']
    ],
    [['0.0.0.0/0'], ['0.0.0.0', '255.255.255.255'], ['::', '::1']],
    [['fd00::/8'], ['fd00::', 'fdff:ffff::1'], ['fc00::1', 'fe00::', '253.0.0.1']],
    [['2001:db8::1'], ['2001:db8::1', '2001:DB8:0::1'], ['2001:db8::2']],
    [['fe80::/10'], ['fe80::1%eth0', 'febf::1'], ['fec0::1']],
    [['::/0'], ['::', 'ffff::1'], ['10.0.0.1', '0.0.0.0']],
    [[], [], ['127.0.0.1', '::1']]
  ] as const) {
    it(`has ${trusted.join(' and ') || 'nobody'} in ${JSON.stringify(from)}, and not ${others.join(', ')}`, () => {
      const isTrusted = trustedSenders(from)
      expect([...trusted, ...others].filter((address) => isTrusted(sender(address)))).to.deep.equal(trusted)
      expect(isTrusted(UNIX_PEER)).to.equal(false)
    })
  }

  it('takes an IPv4-mapped IPv6 address for the IPv4 one, on either side', () => {
    for (const from of ['10.0.0.0/8', '::ffff:10.0.0.0/104', '::ffff:0a00:0/104']) {
      const isTrusted = trustedSenders([from])
      expect(['10.1.2.3', '::ffff:10.1.2.3', '::ffff:a01:203'].filter((address) => !isTrusted(sender(address)))).to.deep.equal([])
      expect(['11.1.2.3', '::ffff:11.1.2.3', '::a01:203'].filter((address) => isTrusted(sender(address)))).to.deep.equal([])
    }
    expect(trustedSenders(['::ffff:10.0.0.1'])(sender('10.0.0.1'))).to.equal(true)
    expect(trustedSenders(['::ffff:0:0/96'])(sender('10.0.0.1'))).to.equal(true)
    // A range of which the mapped addresses are a part is still one of IPv6.
    expect(trustedSenders(['::/8'])(sender('10.0.0.1'))).to.equal(false)
    expect(trustedSenders(['::/8'])(sender('::ffff:10.0.0.1'))).to.equal(false)
  })

  it("has every unix peer in 'unix', and nobody else", () => {
    const isTrusted = trustedSenders(['unix'])
    expect([UNIX_PEER, { family: 'unix', path: '/run/x' } as const].map(isTrusted)).to.deep.equal([true, true])
    expect(isTrusted(sender('127.0.0.1'))).to.equal(false)
    expect(trustedSenders(['unix', '127.0.0.0/8'])(sender('127.0.0.1'))).to.equal(true)
  })

  it("has everybody in 'anybody', which has to be written", () => {
    const isTrusted = trustedSenders('anybody')
    expect([sender('192.0.2.1'), sender('::1'), UNIX_PEER].map(isTrusted)).to.deep.equal([true, true, true])
  })

  refuses('from', 'Cannot listen', [undefined, null, '10.0.0.0/8', 'unix', '', true, {}, new Set(['10.0.0.0/8'])], (from) =>
    trustedSenders(from as readonly string[])
  )

  describe('as an entry', () => {
    const bad = [
      '',
      'anybody',
      'localhost',
      '10.0.0',
      '10.0.0.0/33',
      '10.0.0.0/-1',
      '10.0.0.0/08',
      '10.0.0.0/',
      '10.0.0.0/8/8',
      '10.0.0.0/1e1',
      '10.0.0.0/255.0.0.0',
      '010.0.0.0/8',
      ' 10.0.0.0/8',
      'fd00::/129',
      'fd00::/8 ',
      'fe80::1%eth0',
      '::ffff:10.0.0.0/8',
      '::ffff:10.0.0.0/95',
      '[::1]',
      '10.0.0.1:80',
      '/8',
      'UNIX',
      7,
      null,
      undefined,
      ['10.0.0.0/8']
    ]
    refuses('from', 'Cannot listen', bad, (entry) => trustedSenders(['127.0.0.1', entry as string]))
  })

  it('has an error for whoever is not in it, which names the sender', () => {
    expect(untrustedSender({ family: 'IPv4', address: '192.0.2.1', port: 5 })).to.include({
      name: 'ProxyHeaderError',
      code: 'ERR_PROXY_HEADER',
      message: "Cannot read a PROXY header: the sender must be one of 'from': received a connection from 192.0.2.1:5"
    })
  })
})

function sender(address: string): SocketAddress {
  return { family: address.includes(':') ? 'IPv6' : 'IPv4', address, port: 1 }
}
