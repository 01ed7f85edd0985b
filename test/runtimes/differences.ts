// What other runtimes do otherwise than Node.js, and the tests that can't hold there. docs/runtimes.md tells it to users.

export interface Difference {
  /** The full titles of the tests that are left out. One that fits none fails the run, so that the list stays true. */
  readonly tests: RegExp
  readonly reason: string
}

export const runtime = process.versions.bun !== undefined ? 'bun' : process.versions.deno !== undefined ? 'deno' : 'node'

/** Specs of what is not public, or not there. */
export const NOT_RUN: Readonly<Record<string, string>> = {
  api: 'runs the compiler',
  'async/timer': 'looks at the handles of Node.js',
  'cli/': 'runs the command, a Node.js program',
  documentation: 'looks at the documents, not at the runtime',
  'examples/': 'runs the examples with Node.js',
  examples: 'runs the examples with Node.js',
  'faults/descriptors': 'starts Node.js with a limit of descriptors',
  'faults/forbidden-network': 'uses the permission model of Node.js',
  'faults/linear': 'counts what goes through the Buffer of Node.js',
  'faults/node-facts': 'pins faults of Node.js',
  house: 'looks at the sources, not at the runtime',
  'interop/detach-tls': 'detaches connections over TLS, which only Node.js can',
  'interop/forward': 'runs the command, a Node.js program',
  'load/': 'measures processes of Node.js',
  'model/': 'holds against a model what holds on Node.js without exception',
  package: 'looks at the package, not at the runtime',
  readme: 'compares what the documents print with what Node.js prints',
  'realms/': 'runs test runners with Node.js',
  'stream/net-transport': 'tests the seam to the handles of Node.js',
  'system/': 'tests what makes the kernel gate, which other runtimes do not have',
  'testing/clocks': 'stops the clocks of Node.js',
  'tls/ends': 'tests the seam to the handles of Node.js',
  'tls/laws-context': 'needs sessions and client certificates; runtimes/tls holds what is promised elsewhere',
  'tls/laws-ends': 'ends the carrier below TLS; runtimes/tls holds what is promised elsewhere',
  'tls/laws-identity': 'needs sessions and client certificates; runtimes/tls holds what is promised elsewhere',
  'tls/laws-limits': 'measures the buffers of Node.js; runtimes/tls holds what is promised elsewhere',
  'tls/loading': 'looks at what Node.js has loaded',
  'tls/passing': 'tests the seam to the handles of Node.js',
  'tls/tls-transport': 'tests the seam to the handles of Node.js',
  types: 'runs the compiler'
}

// The reasons are short enough for a title; docs/runtimes.md has the whole of them.
const WRITES_LATE = 'tells later than the call that bytes are with the system'
const NO_COUNT = 'does not tell how much of a write is still to go'
const NO_BACKLOG = 'listens with a backlog of its own, so that the test can fill no queue'
const LARGE_CHUNKS = 'reads up to 512 KiB at once'
const RESET_DISCARDS = 'throws away what had arrived before a reset'
const NOTICES_FIRST = 'notices a reset that nobody has looked for'
const WORDS = 'has other codes or words'
const INSIDES = 'takes other internal steps to write'
const EXAMINED = 'does not have what the test looks with'
const NO_EVAL = 'runs no program from the command line as Node.js does'
const CLOCK = 'needs the clock that the test stops'
const WORKERS = 'ends worker threads in its own time'
const WAITS_ITSELF = 'waits by itself for room in a full queue'
const CLOSES_LATE = 'closes a socket that is being connected only when the attempt has ended'
const END_IS_FAILURE = 'fails writes to a peer that has ended'
const NO_PUSH = 'has one way to read'
const OWN_TICKS = 'takes the ticks of its own net from where the test puts others'
const NO_SESSIONS = 'takes up no session and asks for no client certificate'
const TLS_ENDS_BOTH = 'ends both sides of TLS at once'
const READS_AHEAD = 'reads one chunk ahead'
const NO_NAMED_DIRECTORY = 'can not name files through a directory that is open'
const UNIX_RESET = 'takes what resets a unix socket for an end'

const BUN: readonly Difference[] = [
  {
    tests: /^PROXY headers drawn by chance.* every valid header/,
    reason: 'refuses spellings of IPv6 in the URL that the test compares by'
  },
  { tests: /which gets our TLS connections by detach\(\)/, reason: 'detaches no connection over TLS' },
  { tests: /gnutls-cli verifies us over TLSv1/, reason: TLS_ENDS_BOTH },
  { tests: /^connection\.socket .* tls\.connect\(\) over it is noticed/, reason: INSIDES },
  { tests: /^Connection is .* TLS .* law 4: when the end of the peer has been noticed/, reason: TLS_ENDS_BOTH },
  { tests: /^Memory of what nobody reads is bounded by readerBufferSize and a chunk/, reason: LARGE_CHUNKS },
  { tests: /leaves no timer behind once the handler is called, or the client is turned away/, reason: EXAMINED },
  { tests: /a path as long as the system allows leaves room to bind|also if its directory is renamed/, reason: NO_NAMED_DIRECTORY },
  { tests: /one address that comes a thousand times|a thousand senders of nonsense leave no descriptor/, reason: NOTICES_FIRST },
  { tests: /^detach\(\) .* no error is unhandled between the two owners/, reason: NOTICES_FIRST },
  { tests: /undici, as its connector/, reason: 'has an undici of its own' },
  { tests: /^toDuplex.* backpressure: who does not read holds the peer back/, reason: LARGE_CHUNKS },
  { tests: /is not loaded with it-tcp/, reason: EXAMINED },
  { tests: /s_client without a certificate, .* against clientCert required|s_server asks for our certificate/, reason: NO_SESSIONS },
  { tests: /^Faults of others, over TLS.* the peer’s end while our write waits/, reason: TLS_ENDS_BOTH },
  { tests: /^Faults of others, over TLS.* gone when their session tickets are sent/, reason: EXAMINED },
  {
    tests: /TLS.* keeps the law: (closing the writer leaves the reader open|close\(\) does not lose|a connection closes by itself)/,
    reason: TLS_ENDS_BOTH
  },
  { tests: /^TlsContext .*(fills in the defaults|over TLSv1)/, reason: NO_SESSIONS },
  { tests: /^TlsContext .*refuses ciphers that nobody knows|when the peer speaks no TLS, and nothing is read/, reason: WORDS },
  { tests: /takes up the session of an earlier connection/, reason: NO_SESSIONS },
  { tests: /tells a truncation by the server/, reason: 'sends a close_notify when the test ends the carrier' },
  { tests: /writes and sinks go on while all of them are faked/, reason: OWN_TICKS },
  { tests: /^Deadline leaves neither timer nor listener behind/, reason: EXAMINED },
  { tests: /no string is as long as what its bytes are counted in/, reason: 'allows strings of 4 GiB, which nobody writes' },
  { tests: /all that holds in .* holds with buffers that Node\.js makes/, reason: NO_PUSH },
  { tests: /^Truncation: .* (also where a write has met the reset before|is given before the error)/, reason: RESET_DISCARDS },
  { tests: /nothing leaks to a child process: while one lives/, reason: 'frees a port only some time after close' },
  { tests: /^Truncation: .* over a unix socket, .* whatever has arrived before/, reason: UNIX_RESET },
  { tests: /^Through a proxy, over TCP .* though some of it arrives with the reset/, reason: RESET_DISCARDS },
  { tests: /^Clients that break off .* that resets everybody at once/, reason: INSIDES },
  { tests: /while the peer does not answer, and nothing stays open|leaves no timer and no listener on the signal/, reason: NO_BACKLOG },
  { tests: /connect\(\) gives up after 30 s by default|the stack of a ConnectTimeoutError/, reason: NO_BACKLOG },
  { tests: /goes past an address that does not answer and one that refuses/, reason: NO_BACKLOG },
  { tests: /a full queue is tried again/, reason: NO_BACKLOG },
  { tests: /userland gate\) backlog is that of the kernel|the queue is as long as backlog says/, reason: NO_BACKLOG },
  { tests: /a localAddress that is not of this machine/, reason: WORDS },
  { tests: /the path does not exist, is a directory, a plain file, below one/, reason: WORDS },
  { tests: /bind\(\) without any is a ListenError with the cause EMFILE/, reason: WORDS },
  { tests: /if nobody watches finished, .* it ends with the error/, reason: WORDS },
  { tests: /^Connection .* TCP_NODELAY is on/, reason: 'has it on everywhere, so that the test can tell no difference' },
  { tests: /^Reader .* law 4: .* (holds no more|holds 64 KiB|goes on as soon as|still gives a read)/, reason: LARGE_CHUNKS },
  { tests: /backpressure a pipeline reads no faster than its end is read/, reason: LARGE_CHUNKS },
  { tests: /^Reader .* delivers (what a reset finds unread|unread bytes after a write has met the reset)/, reason: RESET_DISCARDS },
  { tests: /law 3: .* (a reset behind more than the reader has room for|after a FIN only a write notices)/, reason: NOTICES_FIRST },
  { tests: /law 6: after abort.* abort\(\) (after|while) (writer\.)?close\(\)/, reason: WRITES_LATE },
  { tests: /abort\(\) after a failed write tells later calls of the abort/, reason: NOTICES_FIRST },
  {
    tests: /abort\(\) closes a connection whose peer takes nothing|TCP connection law 2: .* when forceAfter has passed, and aborts/,
    reason: 'tells a paused peer, which is what the test has, of no reset'
  },
  { tests: /child processes inherit nothing the port can be bound again/, reason: 'frees a port only some time after close' },
  { tests: /^Writer .* (bytesWritten and bytesPending together|bytesPending goes down|bytesWritten never goes back)/, reason: NO_COUNT },
  {
    tests: /^Writer .* law 6: .* (keeps a (peer|connection)|aborts with BufferAgeLimitError a connection whose peer never reads)/,
    reason: NO_COUNT
  },
  { tests: /^Writer .* law 2: .* (write\(\) (lets|counts|hands the first write of every)|gathers)/, reason: INSIDES }
]

const DENO: readonly Difference[] = [
  {
    tests: /servers in network namespaces of their own|without libc it is taken over too|^a program as a service as PID 1/,
    reason: NO_EVAL
  },
  { tests: /waiting clients are reset while a child lives/, reason: 'frees a port only some time after close' },
  { tests: /which gets our TLS connections by detach\(\)/, reason: 'detaches no connection over TLS' },
  { tests: /^toDuplex.* destroy\(\) is close\(\{ forceAfter: 0, linger: 0 \}\)/, reason: WRITES_LATE },
  { tests: /^connection\.socket .* (wrapping it in a TLSSocket|tls\.connect\(\) over it) is noticed/, reason: INSIDES },
  { tests: /a path as long as the system allows leaves room to bind|also if its directory is renamed/, reason: NO_NAMED_DIRECTORY },
  { tests: /userland gate\) whatever the umask/, reason: NO_EVAL },
  { tests: /a thousand senders of nonsense leave no descriptor/, reason: NOTICES_FIRST },
  { tests: /keeps the law: (while nobody reads, the peer is held back|close\(\{ forceAfter: 0 \}\) aborts)/, reason: NO_COUNT },
  { tests: /is not loaded with it-tcp|thousands of replacements take no memory/, reason: NO_EVAL },
  { tests: /s_client without a certificate, .* against clientCert required|s_server asks for our certificate/, reason: NO_SESSIONS },
  { tests: /s_server with the certificate of another name/, reason: WORDS },
  { tests: /closing the server and then the idle clients of node:http ends everything/, reason: 'counts no connections that it was given' },
  { tests: /^relay.* goes as fast as the receiver takes it/, reason: END_IS_FAILURE },
  { tests: /close\(\{ linger \}\) of a connection that is being written to refuses what is no time/, reason: NO_COUNT },
  { tests: /backpressure: nothing is read ahead, and a peer that does not read/, reason: READS_AHEAD },
  { tests: /^TlsContext .*(fills in the defaults|over TLSv1)/, reason: NO_SESSIONS },
  { tests: /^TlsContext .*takes text and bytes, a chain, an encrypted key/, reason: 'reads no encrypted key of this kind' },
  { tests: /^TlsContext .*refuses ciphers that nobody knows/, reason: 'overlooks ciphers' },
  {
    tests: /knows an address in every spelling|(0x7f\.1|127\.1)' as serverName|certificate is for '0x7f\.1'/,
    reason: 'reads addresses in one spelling'
  },
  { tests: /takes up the session of an earlier connection/, reason: NO_SESSIONS },
  { tests: /goes on in TLSv1\.[23] with the same connection, reader and writer/, reason: 'exports no keying material' },
  {
    tests: /what is written meanwhile is never sent to a peer that is not verified/,
    reason: 'does not tell the peer of the test that it is gone'
  },
  { tests: /gives node:dns no order of its own/, reason: NO_EVAL },
  { tests: /timeout is one for dialling and all steps/, reason: CLOCK },
  { tests: /all that holds in .* holds with buffers that Node\.js makes/, reason: NO_PUSH },
  { tests: /^Through a proxy, over TCP .* though some of it arrives with the reset/, reason: RESET_DISCARDS },
  { tests: /^Through a proxy, .* half-close a FIN while the other side writes/, reason: END_IS_FAILURE },
  { tests: /^Clients that break off .* over a unix socket that sends and resets at once/, reason: RESET_DISCARDS },
  { tests: /turns TCP_NODELAY on|sets TCP keep-alive to|TCP_NODELAY is on/, reason: EXAMINED },
  { tests: /signal is aborted when the descriptor is gone, and not before/, reason: EXAMINED },
  { tests: /fd is the listening descriptor|listeningOn, address and listeningSocket tell where/, reason: EXAMINED },
  { tests: /the queue is as long as backlog says/, reason: EXAMINED },
  { tests: /the path does not exist, is a directory, a plain file, below one|of servers that start at once/, reason: NO_EVAL },
  { tests: /a full queue is tried again/, reason: WAITS_ITSELF },
  {
    tests:
      /while the peer does not answer, and nothing stays open|leaves no timer and no listener on the signal|connect\(\) gives up after 30 s|the stack of a ConnectTimeoutError/,
    reason: CLOSES_LATE
  },
  { tests: /goes past an address that does not answer and one that refuses/, reason: CLOSES_LATE },
  { tests: /a numeric IPv6 host may have a zone/, reason: 'knows no zones of addresses' },
  { tests: /a localAddress that is not of this machine/, reason: WORDS },
  { tests: /close\(\) with forceAfter 0 aborts at once what is not handed over/, reason: WRITES_LATE },
  { tests: /nothing leaks to a child process: while one lives/, reason: 'frees a port only some time after close' },
  { tests: /with ipv6Only leaves IPv4 alone/, reason: 'overlooks ipv6Only' },
  { tests: /a host that is not ours|bind\(\) without any is a ListenError with the cause EMFILE/, reason: WORDS },
  { tests: /^Connection is an accepted TCP connection law 2: .* leaving an await using scope closes/, reason: END_IS_FAILURE },
  { tests: /keeps the process alive also while the gate is shut|does not keep the process alive/, reason: NO_EVAL },
  { tests: /after 30 s the connections that are open are aborted, not before|beyond what a timer can hold is honoured/, reason: CLOCK },
  { tests: /a worker thread that is terminated|the worker thread of a server/, reason: WORKERS },
  { tests: /forceAfter (beyond what a timer can hold does not|Infinity waits for a peer)/, reason: END_IS_FAILURE },
  { tests: /is not released before the FIN is read, behind more/, reason: RESET_DISCARDS },
  { tests: /delivers bytes and a reset that arrive together/, reason: RESET_DISCARDS },
  { tests: /close\(\) with forceAfter keeps what is handed over/, reason: WRITES_LATE },
  { tests: /law 6: after abort.* abort\(\) (after|while) (writer\.)?close\(\)/, reason: WRITES_LATE },
  {
    tests: /^Writer .* law 2: .* write\(\) (hands|lets|counts)|flushed\(\) resolves for a write of a turn that is not over/,
    reason: WRITES_LATE
  },
  { tests: /backpressure a pipeline reads no faster than its end is read/, reason: NO_COUNT },
  { tests: /^Writer .* (bytesWritten and bytesPending together|bytesPending goes down|bytesWritten never goes back)/, reason: NO_COUNT },
  {
    tests: /^Writer .* law 6: .* (keeps a (peer|connection)|aborts with BufferAgeLimitError a connection whose peer never reads)/,
    reason: NO_COUNT
  }
]

export const differences: readonly Difference[] = { bun: BUN, deno: DENO, node: [] }[runtime]
