// node --expose-gc subject.js, forked: runs one scenario, in a process of its own so that nothing else is measured.

import { type Kind, Lab, type Load, type Report } from './lab.ts'
import { scenarios } from './scenarios.ts'

// Node.js opens it when it is first looked at, as it does for an error's stack; here, so that no scenario is blamed for it.
void process.stderr

process.once('message', async ({ name, kind, load }: { name: string; kind: Kind; load: Load }) => {
  const lab = new Lab(kind, load)
  let failure: string | undefined
  try {
    await scenarios[name]?.run(lab)
  } catch (error) {
    failure = (error as Error).stack ?? String(error)
  }
  const report = await lab.close()
  const whole: Report = failure === undefined ? report : { ...report, faults: [...report.faults, failure] }
  process.send?.(whole, () => process.exit())
})
// What stops a server by surprise is a fault of the run, not of the process.
process.on('disconnect', () => process.exit(1))
