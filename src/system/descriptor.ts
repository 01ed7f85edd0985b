// The old name of these files, until whoever imports it has moved on.

export { closeOnExec, descriptorLimit, duplicate, isDescriptorFree, kernelGateAvailable } from './descriptors.ts'
export { checkListening, unixPathOf } from './inherited-socket.ts'
export {
  adopt,
  type HandleAddress,
  handleOf,
  hasNodeHandles,
  type NodeHandle,
  type NodeHandle as TcpOrPipeHandle
} from './node-internals.ts'
export { systemError, systemErrorNamed } from './system-error.ts'
