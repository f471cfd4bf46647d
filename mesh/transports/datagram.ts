/**
 * Which datagrams of an open connection may reach its DTLS layer.
 *
 * @module
 */

/** A DTLS record: u8 type, u16 version, u16 epoch, u48 sequence number, u16 length (RFC 6347). */
const RECORD_HEADER = 13, APPLICATION_DATA = 23, DTLS_1_2 = 0xfefd;

/** True for a datagram that consists of whole DTLS 1.2 records of encrypted application data. */
export function isApplicationData(datagram: Uint8Array): boolean {
  let at = 0;
  while (at < datagram.length) {
    if (datagram.length - at < RECORD_HEADER) return false;
    const type = datagram[at], version = datagram[at + 1] << 8 | datagram[at + 2];
    const epoch = datagram[at + 3] << 8 | datagram[at + 4],
      length = datagram[at + 11] << 8 | datagram[at + 12];
    if (type !== APPLICATION_DATA || version !== DTLS_1_2 || epoch !== 1 || length === 0) return false;
    at += RECORD_HEADER + length;
  }
  return at === datagram.length && at > 0;
}
