/**
 * What two ends of a WebRTC connection tell each other, as typed values. Session descriptions are text that a parser
 * must trust; so a peer sends these few values, and each end writes the text for its own library itself.
 *
 * @module
 */
import { z } from "zod";
import { LinkError } from "../errors.ts";
import { limits } from "../limits.ts";
import type { Signal } from "../runtime.ts";

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

/** Names the data channels' part of a session description. */
export const MID = "0";

/** A candidate in the words of a session description (RFC 8839); `place` is its place in the list. */
export function candidateText({ address, port, priority, type }: Candidate, place: number): string {
  // A derived candidate must name where it derives from; that stays with its owner.
  const related = type === "host" ? "" : " raddr 0.0.0.0 rport 0";
  return `a=candidate:${place + 1} 1 udp ${priority} ${address} ${port} typ ${type}${related}`;
}

/** The session description of one data channel connection with these values (RFC 8841). */
export function sessionDescription(peer: PeerDescription): string {
  const lines = [
    "v=0",
    "o=- 1 0 IN IP4 0.0.0.0",
    "s=-",
    "t=0 0",
    `a=group:BUNDLE ${MID}`,
    "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
    "c=IN IP4 0.0.0.0",
    ...peer.candidates.map(candidateText),
    "a=end-of-candidates",
    `a=ice-ufrag:${peer.ufrag}`,
    `a=ice-pwd:${peer.pwd}`,
    `a=fingerprint:sha-256 ${peer.fingerprint}`,
    `a=setup:${peer.role === "offer" ? "actpass" : "active"}`,
    `a=mid:${MID}`,
    "a=sctp-port:5000",
    `a=max-message-size:${limits.channelBytes}`,
  ];
  return lines.join("\r\n") + "\r\n";
}

/** The values of this end, read from the text that its own library wrote; host names among the addresses are left out. */
export function readDescription(sdp: string, role: PeerDescription["role"]): PeerDescription {
  const line = (name: string) => sdp.match(new RegExp(`^a=${name}:(.*?)\\s*$`, "m"))?.[1];
  const candidates = [...sdp.matchAll(/^a=candidate:\S+ 1 udp (\d+) (\S+) (\d+) typ (host|srflx|relay)/gmi)]
    .map(([, priority, address, port, type]) => ({
      priority: Number(priority),
      address,
      port: Number(port),
      type: type.toLowerCase(),
    }))
    .filter(({ address }) => !address.endsWith(".local"))
    .slice(0, limits.candidates);
  const parsed = PeerDescription.safeParse({
    role,
    ufrag: line("ice-ufrag"),
    pwd: line("ice-pwd"),
    fingerprint: line("fingerprint")?.replace(/^sha-256 /i, "").toUpperCase(),
    candidates,
  });
  if (!parsed.success) {
    throw new LinkError("Cannot describe this end of a connection: its WebRTC library gave unusual values");
  }
  return parsed.data;
}

/** The first description that comes over a signal; rejects for anything else than one of the role. */
export function awaitDescription(signal: Signal, role: PeerDescription["role"]): Promise<PeerDescription> {
  const promise = new Promise<PeerDescription>((resolve, reject) => {
    signal.onbody = (body) => {
      const parsed = PeerDescription.safeParse(body);
      if (parsed.success && parsed.data.role === role) return resolve(parsed.data);
      reject(new LinkError("Cannot connect to the peer: it describes its end in a way that is not valid"));
    };
  });
  promise.catch(() => {}); // it is awaited later, perhaps after it failed
  return promise;
}
