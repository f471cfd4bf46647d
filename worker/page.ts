/**
 * The program of the page by which a browser's tab joins a mesh: `volary up` serves it with page.css and the bundle of
 * compute_thread.ts. The invite stands behind the # of the page's address, which no browser sends to a server.
 *
 * @module
 */
import { base64url, fromBase64url } from "../mesh/identity/base64url.ts";
import { fingerprint, type Identity, identityOfSeed, KEY_BYTES } from "../mesh/identity/identity.ts";
import { joinMesh, type RunningWorker, type WorkerEvent } from "./browser.ts";

/** The part of the page that is used. */
interface Part {
  value: string;
  textContent: string | null;
  hidden: boolean;
  disabled: boolean;
  append(...parts: unknown[]): void;
  addEventListener(event: string, handle: (event: Event) => void): void;
}
const { document, location, sessionStorage, isSecureContext } = globalThis as unknown as {
  readonly document: { querySelector(selector: string): Part; createElement(name: string): Part };
  readonly location: { readonly hash: string; readonly href: string };
  readonly sessionStorage: { getItem(key: string): string | null; setItem(key: string, value: string): void };
  readonly isSecureContext: boolean;
};

const part = (id: string) => document.querySelector(`#${id}`);
const facts = new Map<string, Part>();

/** Shows a fact under its name, in the order in which names came first. */
function show(name: string, text: string): void {
  let value = facts.get(name);
  if (value === undefined) {
    const term = document.createElement("dt");
    term.textContent = name;
    value = document.createElement("dd");
    part("facts").append(term, value);
    facts.set(name, value);
  }
  value.textContent = text;
}

function state(text: string): void {
  part("state").textContent = text;
}

const scaled = (value: number, unit: string) =>
  new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 }).format(value) + unit;

/** What of the rounds is added up. */
const total = { rounds: 0, busy: 0, elapsed: 0, sent: 0 };

function tell(event: WorkerEvent): void {
  switch (event.type) {
    case "profiled": {
      const { device, deviceName, flops } = event.profile;
      return show(
        "device",
        `${deviceName}${device === "webgpu" ? "" : " (no WebGPU: slow)"}, ${scaled(flops, "FLOPS")}`,
      );
    }
    case "waiting":
      return state(`Waiting: ${event.reason}`);
    case "joined":
      show("worker", event.id);
      return state("Joined; waiting for work.");
    case "assigned": {
      const layers = event.layers.map(([from, to]) =>
        to - from === 1 ? `layer ${from}` : `layers ${from}-${to - 1}`
      );
      let experts = 0;
      for (const own of event.experts.values()) experts += own.length;
      show("holds", [...layers, ...(experts > 0 ? [`${experts} experts`] : [])].join(", ") || "nothing");
      return state("Loading its part of the model.");
    }
    case "loading":
      return show("loaded", `${Math.floor(100 * event.done / Math.max(1, event.total))} %`);
    case "linked":
      show("linked to", event.peers.join(", ") || "nobody: it holds the whole model");
      return state("Training.");
    case "round": {
      const { busy, elapsed, sent } = event.report;
      total.rounds++, total.busy += busy, total.elapsed += elapsed, total.sent += sent;
      show("rounds", String(total.rounds));
      show("busy", `${Math.round(100 * Math.min(1, total.busy / Math.max(1, total.elapsed)))} % of the time`);
      show("sent", scaled(total.sent, "B"));
      return state("Training.");
    }
    case "stopped":
      return state(`Waiting for work (${event.reason}).`);
    case "failed":
      return state(`Waiting for work: ${event.reason}`);
  }
}

/** This tab's own key: the coordinator knows it again after a reload. */
async function tabsOwn(): Promise<Identity> {
  const seed = fromBase64url(sessionStorage.getItem("volary key") ?? "");
  if (seed?.length === KEY_BYTES) return await identityOfSeed(seed);
  const fresh = crypto.getRandomValues(new Uint8Array(KEY_BYTES));
  sessionStorage.setItem("volary key", base64url(fresh));
  return await identityOfSeed(fresh);
}

async function start(): Promise<void> {
  part("join").disabled = true;
  state("Opening the device and measuring it ...");
  let worker: RunningWorker | undefined;
  const leave = () => void worker?.leave("its user left the page");
  try {
    if (!isSecureContext) {
      throw new Error("A browser gives its GPU and its keys to pages of https:// and of this machine only.");
    }
    const identity = await tabsOwn(), share = Number(part("share").value);
    worker = await joinMesh({
      invite: part("invite").value,
      name: `browser-${fingerprint(identity.publicKey).slice(0, 8)}`,
      identity,
      thread: new URL("/compute_thread.js", location.href),
      ...(share < 1 ? { lent: { share } } : {}),
      onevent: tell,
    });
    part("leave").hidden = false;
    part("leave").addEventListener("click", leave);
    globalThis.addEventListener("pagehide", leave);
    state(`Left: ${await worker.ended}.`);
  } catch (error) {
    state(error instanceof Error ? error.message : String(error));
  } finally {
    part("leave").hidden = true;
    part("join").disabled = false;
  }
}

const given = decodeURIComponent(location.hash.slice(1));
if (given !== "") {
  part("invite").value = given;
  part("invite-label").hidden = true;
}
document.querySelector("form").addEventListener("submit", (event) => {
  event.preventDefault();
  start();
});
