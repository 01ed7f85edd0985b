import { expect } from 'chai'
import { DelimiterNotFoundError, type LineOptions } from '../../src/index.ts'
import { expectRefusal } from '../helpers/bad-input.ts'
import { FedReader } from '../helpers/fed.ts'
import { rejection } from '../helpers/rejection.ts'

/** All lines that a reader finds in `pieces`, each by the method named. */
async function linesOf(
  pieces: readonly (string | Uint8Array)[],
  options: LineOptions,
  by: 'readLine' | 'lines' | 'lineBatches'
): Promise<string[]> {
  const reader = new FedReader(1024 * 1024)
  for (const piece of pieces) reader.received(Buffer.from(piece as string))
  reader.peerEnded()
  const found: string[] = []
  if (by === 'readLine')
    for (let line = await reader.readLine(options); line !== null; line = await reader.readLine(options)) found.push(line)
  else if (by === 'lines') for await (const line of reader.lines(options)) found.push(line)
  else for await (const batch of reader.lineBatches(options)) found.push(...batch)
  return found
}

const TEXT = 'a\r\nb\nc\rd\r\ne\r\r\n\r\nlast\n'
const AS_CRLF = ['a', 'b\nc\rd', 'e\r', '', 'last\n']
const AS_ANY = ['a', 'b', 'c\rd', 'e\r', '', 'last']

describe('Lines', () => {
  for (const by of ['readLine', 'lines', 'lineBatches'] as const) {
    describe(`by ${by}()`, () => {
      for (const [how, pieces] of Object.entries({ 'in one piece': [TEXT], 'byte by byte': [...TEXT] })) {
        it(`with ending 'crlf' a lone \\n or \\r is no end, ${how}`, async () => {
          expect(await linesOf(pieces, { ending: 'crlf' }, by)).to.deep.equal(AS_CRLF)
          expect(await linesOf(pieces, { ending: 'crlf', encoding: 'latin1' }, by)).to.deep.equal(AS_CRLF)
        })

        it(`with ending 'any', and without a word, both \\n and \\r\\n are ends, ${how}`, async () => {
          expect(await linesOf(pieces, { ending: 'any' }, by)).to.deep.equal(AS_ANY)
          expect(await linesOf(pieces, {}, by)).to.deep.equal(AS_ANY)
          expect(await linesOf(pieces, { encoding: 'latin1' }, by)).to.deep.equal(AS_ANY)
        })
      }

      it("encoding 'latin1' gives a character for each byte, 'utf8' what UTF-8 says", async () => {
        const bytes = Uint8Array.of(0xe9, 0x0a, 0xc3, 0xa9, 0x0a)
        expect(await linesOf([bytes], { encoding: 'latin1' }, by)).to.deep.equal(['é', 'Ã©'])
        expect(await linesOf([bytes], { encoding: 'utf8' }, by)).to.deep.equal(['\uFFFD', 'é'])
      })
    })
  }

  it("a lone \\n in the middle of a message ends no line of SMTP: with 'crlf' the commands behind it are not seen", async () => {
    const smuggled = 'text\r\n\n.\n\r\nMAIL FROM:<evil>\r\n.\r\n'
    expect(await linesOf([smuggled], { ending: 'crlf' }, 'lines')).to.deep.equal(['text', '\n.\n', 'MAIL FROM:<evil>', '.'])
    expect((await linesOf([smuggled], {}, 'lines')).indexOf('.')).to.be.lessThan(3)
  })

  for (const ending of ['any', 'crlf'] as const) {
    it(`maxLength counts no ending with '${ending}': as many are a line, one more is an error, and the bytes stay`, async () => {
      const reader = new FedReader(1024)
      reader.received(Buffer.from('abcd\r\nabcde\r\n'))
      expect(await reader.readLine({ ending, maxLength: 4 })).to.equal('abcd')
      expect(await rejection(reader.readLine({ ending, maxLength: 4 }))).to.be.instanceOf(DelimiterNotFoundError)
      expect(await reader.readLine({ ending, maxLength: 5 })).to.equal('abcde')
    })

    it(`a line that is too long is told before its end arrives, with '${ending}'; a carriage return may still be on the way`, async () => {
      const reader = new FedReader(1024)
      const line = rejection(reader.readLine({ ending, maxLength: 4 }))
      reader.received(Buffer.from('abcde'))
      expect(await line).to.be.instanceOf(DelimiterNotFoundError)
      const other = new FedReader(1024)
      const fits = other.readLine({ ending, maxLength: 4 })
      other.received(Buffer.from('abcd\r'))
      other.received(Buffer.from('\n'))
      expect(await fits).to.equal('abcd')
    })
  }

  for (const [name, value] of [
    ['ending', 'lf'],
    ['ending', 1],
    ['encoding', 'utf16le'],
    ['encoding', null]
  ] as const) {
    it(`refuses ${name}: ${value} before anything happens`, async () => {
      const reader = new FedReader(1024)
      reader.received(Buffer.from('a line\n'))
      const options = { [name]: value } as never
      expectRefusal(await rejection(reader.readLine(options)), name, 'Cannot read', value)
      expect(() => reader.lines(options)).to.throw(TypeError)
      expect(() => reader.lineBatches(options)).to.throw(TypeError)
      expect(await reader.readLine()).to.equal('a line')
    })
  }
})
