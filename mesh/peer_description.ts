/**
 * What two ends of a WebRTC connection tell each other, as typed values. Session descriptions are text that a parser
 * must trust; so a peer sends these few values, and each end writes the text for its own library itself.
 *
 * @module
 */
import { z } from "zod";
import { limits } from "./limits.ts";

/** An address where a peer may be reached over UDP. Literals only: a name would make this machine look it up. */
const Candidate = z.strictObject({
  address: z.union([z.ipv4(), z.ipv6()]),
  port: z.int().min(1).max(65_535),
  priority: z.int().min(0).max(0xffff_ffff),
  type: z.enum(["host", "srflx", "relay"]),
});
export type Candidate = z.infer<typeof Candidate>;

/** Everything that one end needs to know of the other. */
export const PeerDescription = z.strictObject({
  role: z.enum(["offer", "answer"]),
  /** ICE's user fragment and password: its alphabet and lengths are RFC 8839's. */
  ufrag: z.string().regex(/^[A-Za-z0-9+/]{4,256}$/),
  pwd: z.string().regex(/^[A-Za-z0-9+/]{22,256}$/),
  /** SHA-256 of the certificate. */
  fingerprint: z.string().regex(/^(?:[0-9A-F]{2}:){31}[0-9A-F]{2}$/),
  candidates: z.array(Candidate).max(limits.candidates),
});
export type PeerDescription = z.infer<typeof PeerDescription>;

/** The session description of one data channel connection with these values (RFC 8841). */
export function sessionDescription(peer: PeerDescription, maxMessage: number): string {
  const lines = [
    "v=0",
    "o=- 1 0 IN IP4 0.0.0.0",
    "s=-",
    "t=0 0",
    "a=group:BUNDLE 0",
    "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
    "c=IN IP4 0.0.0.0",
    ...peer.candidates.map(({ address, port, priority, type }, i) => {
      // A derived candidate must name where it derives from; that stays with its owner.
      const related = type === "host" ? "" : " raddr 0.0.0.0 rport 0";
      return `a=candidate:${i + 1} 1 udp ${priority} ${address} ${port} typ ${type}${related}`;
    }),
    "a=end-of-candidates",
    `a=ice-ufrag:${peer.ufrag}`,
    `a=ice-pwd:${peer.pwd}`,
    `a=fingerprint:sha-256 ${peer.fingerprint}`,
    `a=setup:${peer.role === "offer" ? "actpass" : "active"}`,
    "a=mid:0",
    "a=sctp-port:5000",
    `a=max-message-size:${maxMessage}`,
  ];
  return lines.join("\r\n") + "\r\n";
}
