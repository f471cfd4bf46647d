/**
 * The program of the page by which a browser's tab joins a mesh: `volary up` serves it with page.css and the bundle of
 * compute_thread.ts. The invite stands behind the # of the page's address, which no browser sends to a server.
 *
 * @module
 */
import { base64url, fromBase64url } from "../mesh/identity/base64url.ts";
import { fingerprint, type Identity, identityOfSeed, KEY_BYTES } from "../mesh/identity/identity.ts";
import { parseInvite } from "../mesh/identity/invite.ts";
import { ENDED_IN_ORDER } from "../mesh/control/control.ts";
import { joinMesh, type RunningWorker, type WorkerEvent } from "./browser.ts";

/** The part of the page that is used. */
interface Part {
  value: string;
  textContent: string | null;
  hidden: boolean;
  disabled: boolean;
  max: number;
  readonly dataset: Record<string, string>;
  append(...parts: unknown[]): void;
  replaceChildren(): void;
  addEventListener(event: string, handle: (event: Event) => void): void;
  onclick: (() => void) | null;
}
const { document, location, sessionStorage, isSecureContext } = globalThis as unknown as {
  readonly document: {
    title: string;
    querySelector(selector: string): Part;
    createElement(name: string): Part;
  };
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

/** What the page looks like; page.css knows each of them. */
type State = "asking" | "joining" | "joined" | "training" | "left" | "error";

function enter(state: State, text: string): void {
  document.querySelector("main").dataset.state = state;
  document.title = state === "asking" || state === "error" ? "Volary" : `Volary: ${state}`;
  part("state").textContent = text;
}

/** "1.2 MB": three digits, a prefix of thousands and the unit. */
function scaled(value: number, unit: string): string {
  const prefixes = ["", "k", "M", "G", "T", "P"];
  let prefix = 0;
  while (value >= 999.5 && prefix + 1 < prefixes.length) {
    value /= 1_000;
    prefix++;
  }
  return `${Number(value.toPrecision(3))} ${prefixes[prefix]}${unit}`;
}

const SLOW = "no WebGPU here: one processor thread, slow";
/** What of the rounds is added up. */
const total = { rounds: 0, busy: 0, elapsed: 0, sent: 0 };

function tell(event: WorkerEvent): void {
  switch (event.type) {
    case "profiled": {
      const { device, deviceName, flops } = event.profile;
      return show(
        "device",
        `${device === "webgpu" ? `WebGPU, ${deviceName}` : SLOW}; ${scaled(flops, "FLOPS")}`,
      );
    }
    case "waiting":
      return enter("joining", event.reason);
    case "joined":
      show("worker", event.id);
      return enter("joined", "Joined. Waiting for work; nothing is computed meanwhile.");
    case "assigned": {
      const layers = event.layers.map(([from, to]) =>
        to - from === 1 ? `layer ${from}` : `layers ${from}-${to - 1}`
      );
      let experts = 0;
      for (const own of event.experts.values()) experts += own.length;
      show("holds", [...layers, ...(experts > 0 ? [`${experts} experts`] : [])].join(", ") || "nothing");
      return enter("joined", "Loading its part of the model.");
    }
    case "loading": {
      const { done, total } = event;
      part("loading").hidden = done >= total;
      if (done >= total) enter("joined", "Linking to the other workers.");
      part("loading").max = Math.max(1, total);
      part("loading").value = `${done}`;
      return;
    }
    case "linked":
      part("loading").hidden = true;
      show("linked to", event.peers.join(", ") || "nobody: it holds the whole model");
      if (event.peers.length > 0) show("connections", "WebRTC data channels of this browser, encrypted");
      return enter("training", "Training.");
    case "round": {
      const { busy, elapsed, sent } = event.report;
      total.rounds++, total.busy += busy, total.elapsed += elapsed, total.sent += sent;
      show("rounds", `${total.rounds}, the last in ${scaled(elapsed / 1_000, "s")}`);
      show("busy", `${Math.round(100 * Math.min(1, total.busy / Math.max(1, total.elapsed)))} % of the time`);
      show("sent", scaled(total.sent, "B"));
      return enter("training", "Training.");
    }
    case "stopped":
      return enter("joined", `Waiting for work: ${event.reason}`);
    case "failed":
      return enter("joined", `Waiting for work: ${event.reason}`);
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

/** What this worker did before it left. */
function thanks(): string {
  const { rounds } = total;
  return rounds === 0
    ? ""
    : ` This machine took part in ${rounds} ${rounds === 1 ? "round" : "rounds"}: thank you.`;
}

async function start(): Promise<void> {
  part("join").disabled = true;
  part("facts").replaceChildren();
  facts.clear();
  Object.assign(total, { rounds: 0, busy: 0, elapsed: 0, sent: 0 });
  enter("joining", "Opening the device and measuring it ...");
  let worker: RunningWorker | undefined, leaving = false;
  const close = () => void worker?.leave("its user closed the page");
  const leave = () => {
    leaving = true;
    part("leave").disabled = true;
    part("state").textContent = "Leaving: what the run needs of this worker is saved first.";
    worker?.leave("its user ended it");
  };
  try {
    const identity = await tabsOwn(), share = Number(part("share").value), line = part("invite").value.trim();
    part("invite-label").hidden = false; // until it has proved to be one
    const { address, coordinator } = parseInvite(line);
    part("invite-label").hidden = given !== "";
    worker = await joinMesh({
      invite: line,
      name: `browser-${fingerprint(identity.publicKey).slice(0, 8)}`,
      identity,
      thread: new URL("/compute_thread.js", location.href),
      ...(share < 1 ? { lent: { share } } : {}),
      onevent: (event) => {
        tell(event);
        // Behind the device, which stands first.
        if (event.type !== "profiled") return;
        if (share < 1) show("lent", `${100 * share} % of its time`);
        show("coordinator", `${new URL(address).host}, ${fingerprint(coordinator)}`);
      },
    });
    part("join").textContent = "Join again";
    part("leave").disabled = false;
    part("leave").hidden = false;
    part("leave").onclick = leave;
    globalThis.addEventListener("pagehide", close);
    const reason = await worker.ended;
    if (leaving) enter("left", `You left.${thanks()}`);
    else if (reason === ENDED_IN_ORDER) enter("left", `The coordinator ended.${thanks()}`);
    else enter("error", `The coordinator is gone: ${reason}.${thanks()}`);
  } catch (error) {
    enter("error", error instanceof Error ? error.message : String(error));
  } finally {
    globalThis.removeEventListener("pagehide", close);
    part("loading").hidden = true;
    part("leave").hidden = true;
    part("join").disabled = false;
  }
}

/** Says before anybody joins what would compute here. */
async function look(): Promise<void> {
  interface Gpu {
    requestAdapter(): Promise<
      { readonly info: { readonly vendor: string; readonly architecture: string } } | null
    >;
  }
  const { gpu } = (globalThis as unknown as { readonly navigator: { readonly gpu?: Gpu } }).navigator;
  const adapter = await gpu?.requestAdapter().catch(() => null);
  if (facts.size > 0) return; // measured meanwhile
  const info = adapter?.info;
  show(
    "device",
    info == null ? SLOW : `WebGPU, ${[info.vendor, info.architecture].filter(Boolean).join(" ")}`,
  );
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
if (isSecureContext) look();
else {
  part("join").disabled = true;
  enter(
    "error",
    "This page came over http:// from another machine, and a browser gives its GPU and its keys to pages of https:// and " +
      "of its own machine only. Ask for a link that begins with https:// (volary up --public with a certificate), or join " +
      "without a browser: deno task volary join.",
  );
}
