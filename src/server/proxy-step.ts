// The step that reads a PROXY header: from then on the connection is the client's.

import type { ListenOptions } from '../options.ts'
import { endpointsOf } from '../proxy/endpoints.ts'
import { readHeader } from '../proxy/read-header.ts'
import { untrustedSender } from '../proxy/refusals.ts'
import { trustedSenders } from '../proxy/trusted-senders.ts'
import { slotOf } from './slots.ts'
import type { Step } from './steps.ts'

/**
 * Every connection must start with a header, of a sender who may send one; what comes behind it is the first of the stream.
 *
 * @throws {TypeError | RangeError} If the option is wrong.
 */
export function proxyStep(action: string, { from, maxLength }: NonNullable<ListenOptions['proxyProtocol']>): Step {
  const isTrusted = trustedSenders(from, action)
  // The deadline of all steps is this one's too.
  const options = { timeout: Number.POSITIVE_INFINITY, ...(maxLength !== undefined && { maxLength }) }
  return {
    name: 'proxyHeader',
    async run(connection) {
      const slot = slotOf(connection)
      const via = slot.remoteAddress
      if (!isTrusted(via)) throw untrustedSender(via)
      const header = await readHeader(connection.reader, options)
      const { remoteAddress, localAddress } = endpointsOf(header, slot)
      slot.remoteAddress = remoteAddress
      slot.localAddress = localAddress
      slot.proxy = { ...header, via }
      connection.incoming.forgetCount()
    }
  }
}
