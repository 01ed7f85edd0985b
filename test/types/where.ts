// The kind of address is part of the type of a descriptor.

import {
  type InetAddress,
  type InetWhereToConnect,
  type InetWhereToListen,
  onFile,
  onFileDescriptor,
  onInherited,
  onPort,
  onPortChosenByOs,
  type SocketAddress,
  toFile,
  toHostAndPort,
  toInetAddress,
  toUnixAddress,
  type UnixAddress,
  type UnixWhereToConnect,
  type UnixWhereToListen,
  type WhereToConnect,
  WhereToListen
} from 'it-tcp'
import { same } from './same.ts'

declare const inet: InetAddress
declare const unix: UnixAddress

// where to connect
same<InetWhereToConnect, WhereToConnect<InetAddress>>()
same<UnixWhereToConnect, WhereToConnect<UnixAddress>>()
toHostAndPort('localhost', 80, { localAddress: '127.0.0.1', localPort: 0 }) satisfies InetWhereToConnect
toInetAddress(inet, { localPort: 0 }) satisfies InetWhereToConnect
toFile('/run/app.sock') satisfies UnixWhereToConnect
toUnixAddress(unix) satisfies UnixWhereToConnect
toFile('/run/app.sock') satisfies WhereToConnect<SocketAddress>
// @ts-expect-error a file is no internet address
toFile('/run/app.sock') satisfies InetWhereToConnect
// @ts-expect-error a host is no file
toHostAndPort('localhost', 80) satisfies UnixWhereToConnect
// @ts-expect-error an address of the other kind
toInetAddress(unix)
// @ts-expect-error an address of the other kind
toUnixAddress(inet)
// @ts-expect-error a port is a number
toHostAndPort('localhost', '80')
// @ts-expect-error a unix socket is not bound to an address
toFile('/run/app.sock', { localPort: 0 })
// @ts-expect-error a descriptor that could be of either kind is not known to be of one
same<UnixWhereToConnect, WhereToConnect<SocketAddress>>()

// where to listen
same<InetWhereToListen, WhereToListen<InetAddress, number>>()
same<UnixWhereToListen, WhereToListen<UnixAddress, string>>()
onPort(0, { host: '::', ipv6Only: true, reusePort: true }) satisfies InetWhereToListen
onPortChosenByOs() satisfies InetWhereToListen
onFile('/run/app.sock', { mode: 0o600 }) satisfies UnixWhereToListen
onFileDescriptor(3) satisfies WhereToListen<SocketAddress, SocketAddress>
onFileDescriptor(3, { duplicate: true }) satisfies WhereToListen<SocketAddress, SocketAddress>
onInherited('web') satisfies WhereToListen<SocketAddress, SocketAddress> | undefined
// @ts-expect-error there may be none
onInherited('web') satisfies WhereToListen<SocketAddress, SocketAddress>
// @ts-expect-error options are an object
onPort(8080, '127.0.0.1')
// @ts-expect-error a file is no port
onFile('/run/app.sock') satisfies InetWhereToListen
// @ts-expect-error a port is no file
onPort(0) satisfies UnixWhereToListen
// @ts-expect-error only a file has a mode
onPort(0, { mode: 0o600 })
// @ts-expect-error which kind an inherited socket has is known at run time only
onFileDescriptor(3) satisfies UnixWhereToListen

// listeningOn is whatever its maker makes of the address
const custom = WhereToListen.create({ address: inet, listeningOn: ({ address, port }) => `${address}:${port}` })
custom satisfies WhereToListen<InetAddress, string>
// @ts-expect-error the text that was made is no number
custom satisfies WhereToListen<InetAddress, number>
// @ts-expect-error an internet address has no path
WhereToListen.create({ address: inet, listeningOn: ({ path }) => path })
WhereToListen.create({ address: unix, listeningOn: ({ path }) => path }) satisfies UnixWhereToListen

// addresses are told apart by their family
declare const address: SocketAddress
if (address.family === 'unix') same<UnixAddress, typeof address>()
else same<InetAddress, typeof address>()
// @ts-expect-error addresses are values
inet.port = 80
