/**
 * A small internet in network namespaces: a server in the middle, and two homes behind a NAT each.
 *
 * ```text
 * a 10.1.0.2 -- nat-a 198.51.100.2 -- wan 198.51.100.1, 203.0.113.1 -- 203.0.113.2 nat-b -- 10.2.0.2 b
 * ```
 *
 * @module
 */

/** Where the server in the middle is reached. */
export const SERVER = "198.51.100.1";

const homes = [
  { home: "a", outside: "198.51.100", inside: "10.1.0" },
  { home: "b", outside: "203.0.113", inside: "10.2.0" },
] as const;

/** Runs a command to its end. Throws with what it said. */
export async function command(...[name, ...args]: string[]): Promise<string> {
  const { code, stdout, stderr } = await new Deno.Command(name, {
    args,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).output();
  const text = new TextDecoder().decode(stdout);
  if (code !== 0) {
    throw new Error(`${name} ${args.join(" ")}: ${new TextDecoder().decode(stderr).trim() || text.trim()}`);
  }
  return text;
}

/** Why there can be no namespaces here; undefined: there can. */
export async function obstacle(): Promise<string | undefined> {
  if (Deno.build.os !== "linux") return "network namespaces are Linux's";
  if (Deno.uid() !== 0) return "network namespaces need root";
  for (
    const [name, what] of [["ip", "iproute2"], ["nft", "nftables"], ["turnserver", "coturn"], [
      "openssl",
      "openssl",
    ]]
  ) {
    try {
      await command("which", name);
    } catch {
      return `${name} is not there: apt-get install -y ${what}`;
    }
  }
  const probe = `volary-probe-${Deno.pid}`;
  try {
    await command("ip", "netns", "add", probe);
    await command("ip", "netns", "del", probe);
  } catch (error) {
    return `this machine gives no network namespaces (${(error as Error).message})`;
  }
}

/** The namespaces, while they exist. */
export class Internet {
  readonly #names: string[] = [];

  /** The full name of one of: wan, nat-a, nat-b, a, b. */
  static name(short: string): string {
    return `volary-${Deno.pid}-${short}`;
  }

  static async make(): Promise<Internet> {
    const internet = new Internet();
    try {
      for (const short of ["wan", "nat-a", "nat-b", "a", "b"]) {
        await command("ip", "netns", "add", Internet.name(short));
        internet.#names.push(Internet.name(short));
        await internet.run(short, "ip", "link", "set", "lo", "up");
      }
      for (const { home, outside, inside } of homes) {
        const nat = `nat-${home}`;
        await internet.#cable("wan", `to-${home}`, `${outside}.1/30`, nat, "out", `${outside}.2/30`);
        await internet.#cable(nat, "in", `${inside}.1/24`, home, "lan", `${inside}.2/24`);
        await internet.run(nat, "ip", "route", "add", "default", "via", `${outside}.1`);
        await internet.run(home, "ip", "route", "add", "default", "via", `${inside}.1`);
        await internet.run(nat, "sysctl", "-qw", "net.ipv4.ip_forward=1");
        await internet.run(nat, "nft", "add", "table", "ip", "nat");
        await internet.run(
          nat,
          "nft",
          "add",
          "chain",
          "ip",
          "nat",
          "out",
          "{ type nat hook postrouting priority 100 ; }",
        );
        await internet.run(nat, "nft", "add", "rule", "ip", "nat", "out", "oifname", "out", "masquerade");
      }
      await internet.run("wan", "sysctl", "-qw", "net.ipv4.ip_forward=1");
      return internet;
    } catch (error) {
      await internet.close();
      throw error;
    }
  }

  async #cable(
    one: string,
    end: string,
    address: string,
    other: string,
    otherEnd: string,
    otherAddress: string,
  ) {
    await this.run(
      one,
      "ip",
      "link",
      "add",
      end,
      "type",
      "veth",
      "peer",
      "name",
      otherEnd,
      "netns",
      Internet.name(other),
    );
    for (const [short, link, own] of [[one, end, address], [other, otherEnd, otherAddress]]) {
      await this.run(short, "ip", "address", "add", own, "dev", link);
      await this.run(short, "ip", "link", "set", link, "up");
    }
  }

  /** What runs a command inside. */
  within(short: string): string[] {
    return ["ip", "netns", "exec", Internet.name(short)];
  }

  async run(short: string, ...args: string[]): Promise<string> {
    return await command(...this.within(short), ...args);
  }

  /** Both NATs let no UDP through any more. */
  async blockUdp(): Promise<void> {
    for (const { home } of homes) {
      const nat = `nat-${home}`;
      await this.run(nat, "nft", "add", "table", "ip", "filter");
      await this.run(
        nat,
        "nft",
        "add",
        "chain",
        "ip",
        "filter",
        "pass",
        "{ type filter hook forward priority 0 ; }",
      );
      await this.run(nat, "nft", "add", "rule", "ip", "filter", "pass", "meta", "l4proto", "udp", "drop");
    }
  }

  async close(): Promise<void> {
    for (const name of this.#names.splice(0)) await command("ip", "netns", "del", name).catch(() => {});
  }
}
