/**
 * What a werift connection is known by. werift does not make the other end prove that its certificate is its own, so that is
 * what both ends agreed on: keying material (RFC 5705), and both shares of the key exchange, because a share of low order would
 * give someone in the middle the same material at both ends. For the same reason nothing without the extended master secret
 * (RFC 7627) counts.
 *
 * @module
 */
import type { Buffer } from "node:buffer";
import type { ChannelBinding } from "../runtime.ts";
import { statement } from "../identity/statement.ts";

/** What is reached inside a werift DTLS transport. */
interface DtlsTransport {
  readonly role: "client" | "server" | "auto";
  readonly localParameters: { readonly fingerprints: readonly Fingerprint[] };
  readonly remoteParameters?: { readonly fingerprints: readonly Fingerprint[] };
  dtls?: Dtls;
}
interface Fingerprint {
  readonly algorithm: string;
  readonly value: string;
}
interface Dtls {
  readonly options: { readonly extendedMasterSecret?: boolean };
  readonly dtls: { readonly remoteExtendedMasterSecret: boolean };
  readonly cipher: {
    masterSecret: Buffer;
    readonly localKeyPair: { readonly publicKey: Buffer };
    readonly remoteKeyPair: { readonly publicKey: Buffer };
  };
  exportKeyingMaterial(label: string, length: number): Buffer;
}

/** RFC 5705 leaves labels that begin so to everyone. */
const EXPORTER_LABEL = "EXPERIMENTAL volary link", EXPORTER_BYTES = 32;

/**
 * Watches a transport before its handshake; the answer tells, once the connection is open, what it is known by. The parts are
 * taken at the moment at which the keys are made of them: werift writes over its own when a message of the handshake comes a
 * second time, late, as it does on lossy roads.
 */
export function watchAgreement(watched: object): () => ChannelBinding {
  const transport = watched as DtlsTransport;
  let handshake: Dtls | undefined, shared: Uint8Array | undefined;
  const agreed = (dtls: Dtls) => {
    const { localKeyPair, remoteKeyPair } = dtls.cipher;
    const shares = [localKeyPair.publicKey, remoteKeyPair.publicKey];
    if (transport.role === "server") shares.reverse();
    const material = dtls.exportKeyingMaterial(EXPORTER_LABEL, EXPORTER_BYTES);
    shared = statement("werift", material, ...shares);
  };
  Object.defineProperty(transport, "dtls", {
    get: () => handshake,
    set(dtls: Dtls) {
      handshake = dtls;
      let secret: Buffer;
      Object.defineProperty(dtls.cipher, "masterSecret", {
        get: () => secret,
        set(value: Buffer) {
          secret = value;
          agreed(dtls);
        },
      });
    },
  });
  return () => {
    const own = sha256(transport.localParameters.fingerprints);
    const peer = sha256(transport.remoteParameters?.fingerprints ?? []);
    const certificates = own === undefined || peer === undefined ? undefined : { own, peer };
    const extended = handshake?.dtls.remoteExtendedMasterSecret && handshake.options.extendedMasterSecret;
    return { ...(extended && shared ? { shared } : {}), certificates, proven: false };
  };
}

function sha256(fingerprints: readonly Fingerprint[]): string | undefined {
  return fingerprints.find(({ algorithm }) => algorithm.toLowerCase() === "sha-256")?.value.toUpperCase();
}
