/** Ends of WebRTC connections that belong to nobody honest: werift as it comes, with certificates of one's choice. */
import { Buffer } from "node:buffer";
import {
  CipherContext,
  HashAlgorithm,
  NamedCurveAlgorithm,
  RTCDtlsTransport,
  RTCPeerConnection,
  SignatureAlgorithm,
} from "werift";
import { PeerDescription, sessionDescription } from "../../mesh/transports/peer_description.ts";
import type { Signal } from "../../mesh/runtime.ts";

type Certificate = Awaited<ReturnType<typeof CipherContext.createSelfSignedCertificateWithKey>>;

/** A certificate of the attacker's own. */
export function ownCertificate(): Promise<Certificate> {
  return CipherContext.createSelfSignedCertificateWithKey(
    { signature: SignatureAlgorithm.ecdsa_3, hash: HashAlgorithm.sha256_4 },
    NamedCurveAlgorithm.secp256r1_23,
  );
}

/** The certificate that every honest end of this process shows, with a key that is not its own. */
export async function clonedCertificate(): Promise<Certificate> {
  const { certPem } = await RTCDtlsTransport.SetupCertificate();
  return { ...await ownCertificate(), certPem };
}

/** An end of a connection in the attacker's hands. */
export interface RawEnd {
  send(message: Uint8Array): void;
  /** Messages, also those that came before it was set. */
  onmessage(handler: (message: Uint8Array) => void): void;
  readonly opened: Promise<void>;
  close(): Promise<void>;
}

/** Connects as the worker at this end of `signal` would; without a certificate it has that of the honest, key and all. */
export async function rawEnd(signal: Signal, initiator: boolean, keys?: Certificate): Promise<RawEnd> {
  const pc = new RTCPeerConnection({
    iceServers: [],
    iceAdditionalHostAddresses: ["127.0.0.1"],
    ...(keys ? { dtls: { keys } } : {}),
  });
  const remote = new Promise((resolve) => signal.onbody = resolve);
  const setRemote = async () => {
    const peer = PeerDescription.parse(await remote);
    await pc.setRemoteDescription({ type: peer.role, sdp: sessionDescription(peer) });
  };
  if (!initiator) await setRemote();
  const channel = pc.createDataChannel("volary", { negotiated: true, id: 0, ordered: true });
  for (const { connection } of pc.iceTransports) {
    (connection as { stunServer: unknown }).stunServer = undefined;
  }
  const early: Uint8Array[] = [];
  let handler: ((message: Uint8Array) => void) | undefined;
  channel.onMessage.subscribe((data) => {
    const message = new Uint8Array(data as Buffer);
    if (handler) handler(message);
    else early.push(message);
  });
  const opened = new Promise<void>((resolve) => {
    channel.stateChanged.subscribe((state) => state === "open" && resolve());
  });
  await pc.setLocalDescription(initiator ? await pc.createOffer() : await pc.createAnswer());
  const { localParameters, localCandidates } = pc.iceTransports[0];
  signal.send({
    role: initiator ? "offer" : "answer",
    ufrag: localParameters.usernameFragment,
    pwd: localParameters.password,
    fingerprint: pc.dtlsTransports[0].localParameters.fingerprints[0].value.toUpperCase(),
    candidates: localCandidates.map(({ ip, port, priority }) => ({
      address: ip,
      port,
      priority,
      type: "host",
    })),
  });
  if (initiator) setRemote();
  return {
    opened,
    send: (message) => channel.send(Buffer.from(message)),
    onmessage(next) {
      handler = next;
      for (const message of early.splice(0)) next(message);
    },
    close: () => pc.close(),
  };
}
