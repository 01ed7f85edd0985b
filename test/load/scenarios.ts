// Every scenario, by name.

import type { Scenario } from './lab.ts'
import { crash } from './scenarios/crash.ts'
import { deaf, endlessLine, greedy, halfClose, neverCloses, overload, resets, silent, trickle, unread } from './scenarios/hostile.ts'
import { granularity, idle, silentGate, slowReaders } from './scenarios/idle.ts'
import { accepted, dialled, servers } from './scenarios/leaks.ts'

export const scenarios: Readonly<Record<string, Scenario>> = {
  silent,
  trickle,
  deaf,
  greedy,
  unread,
  'endless-line': endlessLine,
  resets,
  'half-close': halfClose,
  overload,
  'never-closes': neverCloses,
  idle,
  'silent-gate': silentGate,
  'slow-readers': slowReaders,
  granularity,
  accepted,
  dialled,
  servers,
  crash
}
