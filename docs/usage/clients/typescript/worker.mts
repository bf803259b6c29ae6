// Receives webhooks of Punctual, answers 202, does the work, and completes it over HTTP. Node.js 22.18, no packages.
//
//     WEBHOOK_SECRET=whsec_... PUNCTUAL_URL=https://punctual.example/ PORT=8096 node worker.mts
//
// Replace `work`. The rest can stay as it is.

import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

type Json = null | boolean | number | string | Json[] | { [name: string]: Json };
/** The fields of an item that this worker reads. */
type Item = { tenant_id: string; preference: { template_overrides: { [name: string]: Json } } };
type Progress = (text: string) => Promise<void>;

const secret = process.env["WEBHOOK_SECRET"];
if (!secret) throw new Error("WEBHOOK_SECRET is not set; expected the secret of the webhook purpose");
const key = secret.startsWith("whsec_") ? Buffer.from(secret.slice(6), "base64") : Buffer.from(secret);
// Completion addresses begin with it: the signature does not cover them. End it with a slash.
const punctualUrl = process.env["PUNCTUAL_URL"] ?? "http://127.0.0.1:8080/";
const TOLERANCE = 300; // Seconds that a signature may be old.
const RETRY_FOR = 3600; // Seconds in which a completion is retried.
const EARLY = 60; // Seconds in which it is retried after 409 with Retry-After.
const MAX_BODY = 16 * 1024 * 1024;

/** The work has failed: `permanent` is not retried, `retryable` and `throttled` are, as the job's retry policy says. */
class Failure extends Error {
  readonly kind: "permanent" | "retryable" | "throttled";
  constructor(kind: Failure["kind"], message: string) {
    super(message);
    this.kind = kind;
  }
}

/** Punctual does not wait for this work any more: it was cancelled, or its deadline has passed. */
class Refused extends Error {}

/** What takes long. Returns the output. */
async function work(item: Item, progress: Progress): Promise<Json> {
  const subject = item.preference.template_overrides["subject"];
  if (typeof subject !== "string") {
    throw new Failure("permanent", `invalid subject ${JSON.stringify(subject ?? null)}; expected a text`);
  }
  for (const page of [1, 2, 3]) await progress(`page ${page} of 3`);
  return { report: `${subject} for ${item.tenant_id}`, pages: 3 };
}

/** One run of the work: the address of the latest call for it, and the output once there is one. */
type Run = { url: string; output?: Json };
// By webhook-id, so that a call that comes twice does its work once. In memory, which is enough for an example: a restart forgets
// it, and it grows. In production, use a table with a unique key, and remove old rows.
const runs = new Map<string, Run>();

/** Posts until Punctual has taken it. */
async function post(url: string, content: Json): Promise<void> {
  const began = Date.now();
  for (let delay = 1; ; delay = Math.min(delay * 2, 60)) {
    let reason: string;
    let after = "";
    try {
      const headers = { "Content-Type": "application/json" };
      const signal = AbortSignal.timeout(30_000);
      const answer = await fetch(url, { method: "POST", body: JSON.stringify(content), headers, signal });
      const text = await answer.text();
      if (answer.ok) return;
      reason = `${answer.status} ${text}`;
      after = answer.headers.get("Retry-After") ?? "";
      // The completion may be faster than Punctual stores that the work waits for it.
      const isEarly = answer.status === 409 && after !== "" && Date.now() - began < EARLY * 1000;
      if (answer.status < 500 && answer.status !== 429 && !isEarly) throw new Refused(reason);
    } catch (error) {
      if (error instanceof Refused) throw error;
      reason = String(error); // For example: the connection is refused while the agent restarts.
    }
    if (Date.now() - began > RETRY_FOR * 1000) throw new Refused(reason);
    await sleep(1000 * (/^\d+$/.test(after) ? Number(after) : delay));
  }
}

/** Does the work and reports its end to the latest call. */
async function perform(id: string, run: Run, item: Item): Promise<void> {
  const progress = async (text: string): Promise<void> => {
    const url = run.url;
    try {
      await post(`${url}/extend`, { seconds: 600, progress: text });
    } catch (error) {
      // Where there is a later call, the work goes on for that.
      if (run.url === url) throw error;
    }
  };
  try {
    run.output = await work(item, progress);
  } catch (error) {
    runs.delete(id); // A retry does the work again.
    if (error instanceof Refused) return;
    const kind = error instanceof Failure ? error.kind : "retryable";
    const message = error instanceof Error ? error.message : String(error);
    return report(`${run.url}/fail`, { kind, message });
  }
  await report(`${run.url}/complete`, run.output);
}

async function report(url: string, content: Json): Promise<void> {
  try {
    await post(url, content);
  } catch (error) {
    console.log(`Punctual has not taken an end: ${String(error)}`); // The address is a secret.
  }
}

/** Checks a signature after the Standard Webhooks specification. */
function isSigned(request: IncomingMessage, body: Buffer): boolean {
  const { "webhook-id": id, "webhook-timestamp": at, "webhook-signature": given } = request.headers;
  const isRecent = Math.abs(Date.now() / 1000 - Number(at)) <= TOLERANCE;
  if (!isRecent || typeof given !== "string") return false;
  const expected = createHmac("sha256", key).update(`${id}.${at}.`).update(body).digest();
  return given.split(" ").some((signature) => {
    const digest = Buffer.from(signature.replace(/^v1,/, ""), "base64");
    return signature.startsWith("v1,") && digest.length === expected.length && timingSafeEqual(digest, expected);
  });
}

/** The status and the text to answer. */
async function answer(request: IncomingMessage): Promise<[number, string]> {
  const length = Number(request.headers["content-length"]);
  if (request.method !== "POST") return [405, "expected POST"];
  if (!(length <= MAX_BODY)) return [413, `expected a Content-Length of at most ${MAX_BODY}`];
  const pieces: Buffer[] = [];
  for await (const piece of request) pieces.push(piece);
  const body = Buffer.concat(pieces);
  if (!isSigned(request, body)) return [401, "the signature is invalid or too old"];
  if (request.headers["punctual-dry-run"] === "1") return [200, "would write a report"]; // A preview: it changes nothing.
  const id = String(request.headers["webhook-id"]);
  const url = String(request.headers["punctual-completion-url"] ?? "");
  if (!url.startsWith(punctualUrl)) {
    return [400, `Punctual-Completion-Url does not begin with ${punctualUrl}; check PUNCTUAL_URL`];
  }
  const known = runs.get(id);
  if (known === undefined) {
    const [run, item] = [{ url }, JSON.parse(body.toString()) as Item];
    runs.set(id, run);
    void perform(id, run, item);
  } else {
    known.url = url;
    if (known.output !== undefined) void report(`${url}/complete`, known.output);
  }
  return [202, "accepted"];
}

const server = createServer((request, response) => {
  const write = ([status, text]: [number, string]) => response.writeHead(status).end(text);
  // What fails here is the connection, or a body that is not JSON.
  answer(request).then(write, () => response.destroy());
});
server.listen(Number(process.env["PORT"] ?? 8096), "127.0.0.1", () => {
  console.log(`Listening on http://127.0.0.1:${(server.address() as AddressInfo).port}`);
});
