// The model test by hand: `npm run model -- --runs 50000 --seed 1`, and with `--path` one failing program again.

import { parseArgs } from 'node:util'
import { check } from './check.ts'

// `repeat`: for a program that does not always fail. `shrink-for`: seconds for which a smaller one is looked for.
const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '50000' },
    seed: { type: 'string' },
    path: { type: 'string' },
    repeat: { type: 'string', default: '1' },
    'shrink-for': { type: 'string', default: '30' }
  }
})

const runs = Number(values.runs)
const seed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(values.seed)
const repeat = Number(values.repeat)
const start = performance.now()
console.log(`seed ${seed}, ${process.env.IT_TCP_READ === 'push' ? 'push' : 'onread'}`)

let total = 0
for (let round = 0; round < repeat && process.exitCode === undefined; round++) {
  const { count, failure } = await check({
    runs,
    seed,
    shrinkFor: 1000 * Number(values['shrink-for']),
    ...(values.path !== undefined && { path: values.path }),
    onProgram(number) {
      if (number % 1000 === 0) console.log(`${number} programs, ${Math.round((performance.now() - start) / 1000)} s`)
    }
  })
  total += count
  if (failure !== undefined) {
    console.log(failure)
    process.exitCode = 1
  }
}
console.log(`${total} programs ran well, in ${((performance.now() - start) / 1000).toFixed(1)} s`)
