import { expect } from 'chai'
import { type RunningServer, runExample, useExamples } from '../helpers/examples.ts'
import { readToEnd } from '../helpers/raw.ts'
import { useScope } from '../helpers/scope.ts'

const TEXT = Buffer.from('colour: blue\nlength: 5\n\nhello')
const BINARY = Buffer.from([0, 0, 0, 0, 3, 1, 2, 3])

describe('protocol-framing', function () {
  this.timeout(30_000)
  const scope = useScope()
  const { startServer } = useExamples(scope)

  async function answers(server: RunningServer, ...pieces: Uint8Array[]): Promise<string> {
    const socket = await server.connect()
    for (const piece of pieces) await new Promise((resolve) => socket.write(piece, resolve))
    socket.end()
    return `${await readToEnd(socket)}`
  }

  it('answers itself without arguments, and ends', async () => {
    const { code, stdout, stderr } = await runExample('protocol-framing', [])
    expect({ code, stderr }, stdout).to.deep.equal({ code: 0, stderr: '' })
    expect(stdout.split('\n').slice(1)).to.deep.equal([
      'text, 5 bytes',
      'binary, 3 bytes',
      'Cannot read a frame: a body of 999999999 bytes',
      ''
    ])
  })

  it('reads both kinds of frames, one after the other, a byte at a time too', async () => {
    const server = await startServer('protocol-framing', '0')
    const frames = Buffer.concat([TEXT, BINARY, Buffer.from('length: 0\n\n'), BINARY, TEXT])
    const expected = 'text, 5 bytes\nbinary, 3 bytes\ntext, 0 bytes\nbinary, 3 bytes\ntext, 5 bytes\n'
    expect(await answers(server, frames)).to.equal(expected)
    expect(await answers(server, ...Array.from(frames, (byte) => Uint8Array.of(byte)))).to.equal(expected)
    expect(await answers(server)).to.equal('')
  })

  it('takes no end inside a frame for the end of one', async () => {
    const server = await startServer('protocol-framing', '0')
    const words =
      /^Cannot read a frame: (?:headers without an end.*|an end inside a frame|Cannot read \d+ bytes as the stream ended after \d+)\n$/
    for (const frame of [TEXT, BINARY, Buffer.from('length: 0\n\n')]) {
      for (let length = 1; length < frame.length; length++) {
        expect(await answers(server, frame.subarray(0, length)), `${length} of ${frame}`).to.match(words)
      }
    }
  })

  it('refuses headers without an end, bodies that are too long, and headers without a length', async () => {
    const server = await startServer('protocol-framing', '0')
    expect(await answers(server, Buffer.alloc(100_000, 'x'))).to.match(/^Cannot read a frame: [^\n]+\n$/)
    expect(await answers(server, Buffer.from([0, 255, 255, 255, 255]))).to.equal('Cannot read a frame: a body of 4294967295 bytes\n')
    for (const headers of ['length: 1e3', 'length: -1', 'length: 9999999999999999', 'depth: 5']) {
      const expected = 'Cannot read a frame: headers without an end, or without a length\n'
      expect(await answers(server, Buffer.from(`${headers}\n\nhello`)), headers).to.equal(expected)
    }
    expect(await answers(server, TEXT)).to.equal('text, 5 bytes\n')
    server.signal('SIGINT')
    expect(await server.exit).to.deep.equal({ code: 0, signal: null })
    expect(server.complaints()).to.equal('')
  })
})
