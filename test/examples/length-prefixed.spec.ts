import { expect } from 'chai'
import { runExample } from '../helpers/examples.ts'

describe('length-prefixed', function () {
  this.timeout(30_000)

  it('carries whole messages, however long and with whatever is in them', async () => {
    const finished = await runExample('length-prefixed', [])
    expect(finished).to.deep.equal({ code: 0, signal: null, stdout: '3 bytes\n0 bytes\n22 bytes\n100000 bytes\n', stderr: '' })
  })

  it('takes messages from the command line', async () => {
    const finished = await runExample('length-prefixed', ['äöü', 'x'.repeat(127), 'x'.repeat(128)])
    expect(finished).to.deep.equal({ code: 0, signal: null, stdout: '6 bytes\n127 bytes\n128 bytes\n', stderr: '' })
  })
})
