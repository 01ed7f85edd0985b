// What a PROXY header says: the words that its reader and its writer share.

import type { SocketAddress } from '../address.ts'

/**
 * What a PROXY header says of a connection: who the client is and what it dialled, in the words of the balancer in between.
 */
export interface ProxyHeader {
  /** 1 is a line of text, 2 is binary. */
  readonly version: 1 | 2
  /** `'local'` is the balancer's own connection, such as a health check, on nobody's behalf (version 2 only). */
  readonly command: 'proxy' | 'local'
  /** The client; null for `'local'`, UNKNOWN and UNSPEC, where the addresses of the socket itself are all there is. */
  readonly source: SocketAddress | null
  /** What the client dialled; null exactly where `source` is. */
  readonly destination: SocketAddress | null
  /**
   * The values of version 2 by their type, as they came; of several of one type the first. Empty for version 1 and `'local'`.
   * Among them `0x03` (the checksum, which has been checked), `0x20` (what the client's TLS was) and those of the clouds, from `0xe0` on.
   */
  readonly tlvs: ReadonlyMap<number, Uint8Array>
  /** The host name that the client asked for (SNI), type `0x02`. */
  readonly authority: string | null
  /** The application protocol that was negotiated, such as `'h2'`, type `0x01`. */
  readonly alpn: string | null
  /** The balancer's identifier of this connection, at most 128 bytes, type `0x05`. */
  readonly uniqueId: Uint8Array | null
}

/** What {@link ProxyHeader} to write on behalf of a client. A header that was read is one, too. */
export interface ProxiedHeaderInit {
  /** That there is a client. */
  readonly command?: 'proxy'
  /**
   * The client; null together with `destination` if it is not known (UNKNOWN, UNSPEC). Not every receiver takes UNSPEC and unix paths in
   * version 2: HAProxy 2.6 refuses both. Where one of the two is an IPv4 and the other an IPv6
   * address, the former is sent as an IPv4-mapped one. The zone of an IPv6 address stays here.
   */
  readonly source: SocketAddress | null
  /** What the client dialled. */
  readonly destination: SocketAddress | null
  /**
   * 1 for a line of text, which only internet addresses and no `tlvs` fit into, 2 for the binary form.
   *
   * @default 2
   */
  readonly version?: 1 | 2
  /** Further values, by their type from 0 to 255, at most 65,535 bytes together; a checksum (`0x03`) among them is computed again. */
  readonly tlvs?: Iterable<readonly [type: number, value: Uint8Array]>
  /**
   * Whether a CRC32C checksum of the whole header goes with it.
   *
   * @default false
   */
  readonly crc32c?: boolean
}

/** A header for a connection on nobody's behalf: a health check. Version 2, without addresses and values. */
export interface LocalHeaderInit {
  /** That there is no client. */
  readonly command: 'local'
}

/** What header to write. */
export type ProxyHeaderInit = ProxiedHeaderInit | LocalHeaderInit

/** The types of values that are looked at here. */
export const TLV = { alpn: 0x01, authority: 0x02, crc32c: 0x03, uniqueId: 0x05 } as const

/** Bytes that an identifier may have. */
export const LONGEST_UNIQUE_ID = 128

/** The first bytes of version 2: no text, and nothing that another protocol begins with. */
export const SIGNATURE = new Uint8Array([0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a])

/** Bytes in front of what version 2 announces a length of. */
export const PREAMBLE = 16
/** Bytes of each path of the unix family, NULs at the end included. */
export const UNIX_PATH_SIZE = 108
/** Bytes of the CRC-32C that a header may have in a value of its own. */
export const CHECKSUM_LENGTH = 4

/** Bytes that a header of version 1 has at most, its CRLF included. */
export const LONGEST_LINE = 107

/** Bytes of both addresses, and of their ports, in version 2. */
export const ADDRESS_LENGTHS = { unspecified: 0, IPv4: 12, IPv6: 36, unix: 216 } as const

/** What the bytes so far are: a header and its length, or not enough, and how many there must be before another look is worth it. */
export type Parsed = { readonly header: ProxyHeader; readonly length: number } | { readonly header: undefined; readonly need: number }
