/**
 * A relay of datagrams between two ends of WebRTC connections, with a road's round trip, loss and cuts, drawn from a seed.
 * It stands between the two ends' descriptions: each is told an address of the relay in place of the other's.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createSocket, type Socket } from "node:dgram";
import { keepOrder } from "../../mesh/transports/orderly_socket.ts";
import { PeerDescription } from "../../mesh/transports/peer_description.ts";

/** Timers fire late by a millisecond or so: what is due this soon goes at once, ms. */
const EARLY = 0.5;

/** What kind of road. */
export interface RelayOptions {
  /** There and back, ms. */
  readonly roundTrip: number;
  /** Share of datagrams that are lost, each way. */
  readonly loss: number;
  readonly seed: number;
}

/** One end as the relay sees it: the socket that stands for it, and where it really is. */
interface End {
  readonly socket: Socket;
  address?: { readonly address: string; readonly port: number };
}

/** A datagram on the road. */
interface Travelling {
  readonly at: number;
  readonly datagram: Buffer;
  readonly from: End;
  readonly to: End;
}

export class Relay {
  /** Datagrams that came, and those of them that were lost by chance or by a cut. */
  readonly counters = { came: 0, lost: 0 };
  readonly #pairs = new Map<string, { offer: End; answer: End }>();
  /** In order of arrival, as all take the same time. */
  readonly #road: Travelling[] = [];
  #head = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #state: number;
  #cut = false;

  constructor(private readonly options: RelayOptions) {
    this.#state = options.seed >>> 0;
  }

  /** From now on (or no longer) every datagram is lost. */
  set cut(cut: boolean) {
    this.#cut = cut;
  }

  /** A signal's body on its way to the other end; `connection` names the pair it belongs to. */
  async pass(connection: string, body: unknown): Promise<unknown> {
    const parsed = PeerDescription.safeParse(body);
    if (!parsed.success) return body;
    const { role, candidates } = parsed.data;
    let pair = this.#pairs.get(connection);
    if (pair === undefined) {
      const [offer, answer] = await Promise.all([socket(), socket()]);
      this.#pairs.set(connection, pair = { offer: { socket: offer }, answer: { socket: answer } });
      this.#listen(pair.offer, pair.answer);
      this.#listen(pair.answer, pair.offer);
    }
    const end = pair[role], own = candidates.find(({ address }) => address === "127.0.0.1");
    if (own === undefined) throw new Error("An end behind the relay does not offer 127.0.0.1");
    end.address = own;
    return { ...parsed.data, candidates: [{ ...own, port: end.socket.address().port }] };
  }

  close(): void {
    clearTimeout(this.#timer);
    for (const { offer, answer } of this.#pairs.values()) {
      offer.socket.close();
      answer.socket.close();
    }
    this.#pairs.clear();
  }

  /** What the end `to` sends to the socket that stands for `from` goes on to `from`. */
  #listen(from: End, to: End): void {
    from.socket.on("message", (datagram: Buffer, { port }: { port: number }) => {
      if (port !== to.address?.port) return; // another interface of the same end
      this.counters.came++;
      if (this.#cut || this.#uniform() < this.options.loss) return void this.counters.lost++;
      this.#road.push({ at: performance.now() + this.options.roundTrip / 2, datagram, from: to, to: from });
      this.#timer ??= setTimeout(() => this.#deliver(), this.options.roundTrip / 2 - EARLY);
    });
  }

  #deliver(): void {
    const now = performance.now();
    for (; this.#head < this.#road.length && this.#road[this.#head].at <= now + EARLY; this.#head++) {
      const { datagram, from, to } = this.#road[this.#head];
      if (!this.#cut && to.address) from.socket.send(datagram, to.address.port, to.address.address);
    }
    if (this.#head > 1_024) this.#head -= this.#road.splice(0, this.#head).length;
    const next = this.#road[this.#head];
    this.#timer = next && setTimeout(() => this.#deliver(), Math.max(0, next.at - now - EARLY));
  }

  /** mulberry32 (Tommy Ettinger, public domain). */
  #uniform(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ t >>> 15, t | 1);
    t ^= t + Math.imul(t ^ t >>> 7, t | 61);
    return ((t ^ t >>> 14) >>> 0) / 2 ** 32;
  }
}

function socket(): Promise<Socket> {
  const made = createSocket("udp4");
  return new Promise((resolve, reject) => {
    made.once("error", reject);
    made.bind(0, "127.0.0.1", () => {
      // Deno makes an array of the receive buffer's size for each datagram: this is twice the largest.
      made.setRecvBufferSize(1 << 10);
      keepOrder(made);
      resolve(made);
    });
  });
}
