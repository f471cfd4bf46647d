/**
 * Datagrams that leave in the order in which they were sent. For Deno only.
 *
 * @module
 */
import type { Socket } from "node:dgram";

/** What is told when a datagram has left. */
type Done = (error: Error | null, bytes: number) => void;
/** A datagram, where it goes, and whom to tell. */
type Sent = [datagram: Uint8Array, port: number, address: string, done?: Done];

/** What is used of a socket. */
export interface Sending {
  send(datagram: Uint8Array, port: number, address: string, done?: Done): void;
}

/**
 * Has a socket hand over one datagram at a time. Deno 2.9.6 makes a task of each, and where several cannot leave at once
 * (the socket is new, or its loop has done much in one turn) the last one goes first. SCTP takes that for loss: it sends
 * again and halves its window. What can leave at once has left by the next microtask, so waiting for it costs next to
 * nothing. To be deleted once Deno keeps the order.
 */
export function keepOrder(socket: Sending | Socket): void {
  const send = socket.send.bind(socket) as Sending["send"], waiting: Sent[] = [];
  let sending = false;
  const next = (): void => {
    const sent = waiting.shift();
    sending = sent !== undefined;
    if (sent === undefined) return;
    const [datagram, port, address, done] = sent;
    try {
      send(datagram, port, address, (error, bytes) => {
        done?.(error, bytes);
        next();
      });
    } catch {
      // The socket is closed, which its owner hears from the socket itself.
      waiting.length = 0;
      sending = false;
    }
  };
  socket.send = ((...sent: Sent) => {
    waiting.push(sent);
    if (!sending) next();
  }) as Socket["send"];
}
