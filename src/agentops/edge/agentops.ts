// A function at Supabase that lets an agentops server do its work: it checks its own flag, then forwards method,
// headers, query and raw body (webhook signatures are over the bytes), and answers what the server answers.
//
//   AGENTOPS_URL                the server, as agentops status shows it
//   FEATURE_AGENT_…             the flag: 1, true, yes or on
//
// Every answer says in x-agentops-flag whether the flag was on. A webhook that is off answers 200, so that nobody sends
// again, a tool 403 in the words of the server; where the server cannot be reached the answer is 503, so that they do.

const TRUTHY = new Set(["1", "true", "yes", "on"]);
const HOP_BY_HOP = [
  "connection",
  "content-length",
  "host",
  "keep-alive",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
];
// Answers of these statuses have no body.
const BODILESS = new Set([101, 204, 205, 304]);

export interface Forwarder {
  slug: string;
  /** The flag's name, and the one that counts where it is not set. */
  flag: string;
  fallback?: string;
  /** The event that tells of a call while the flag is off; only webhooks have one. */
  disabled?: string;
  /** How long the server may take, in milliseconds. */
  milliseconds: number;
}

// As the server takes it; anything else gets an id of its own.
const CORRELATION_ID = /^[A-Za-z0-9._:-]{1,128}$/;

type Environment = (name: string) => string | undefined;

export function isOn(forwarder: Forwarder, environment: Environment): boolean {
  const own = environment(forwarder.flag);
  const value = own ?? (forwarder.fallback ? environment(forwarder.fallback) : undefined);
  return TRUTHY.has((value ?? "").trim().toLowerCase());
}

export async function forward(
  request: Request,
  forwarder: Forwarder,
  environment: Environment = (name) => Deno.env.get(name),
): Promise<Response> {
  const on = isOn(forwarder, environment);
  const given = request.headers.get("x-correlation-id") ?? "";
  const correlation = CORRELATION_ID.test(given) ? given : crypto.randomUUID();
  const say = (level: string, event: string, data: Record<string, unknown> = {}) =>
    console.log(JSON.stringify({
      timestamp: new Date().toISOString(),
      level,
      event,
      correlation_id: correlation,
      function: forwarder.slug,
      ...data,
    }));
  const answer = (status: number, body: unknown, extra: Record<string, string> = {}) =>
    new Response(JSON.stringify(body), {
      status,
      headers: {
        "content-type": "application/json",
        "x-agentops-flag": on ? "on" : "off",
        "x-correlation-id": correlation,
        ...extra,
      },
    });
  // A GET changes nothing: health checks and a webhook's verification are answered whatever the flag says.
  if (!on && request.method !== "GET") {
    if (forwarder.disabled) {
      say("info", forwarder.disabled);
      return answer(200, { received: true });
    }
    return answer(403, { success: false, error: "feature_disabled" });
  }
  const server = environment("AGENTOPS_URL");
  if (!server) {
    say("error", "ai.forward.error", { error: "AGENTOPS_URL is not set" });
    return answer(503, { success: false, error: "not configured" }, { "retry-after": "30" });
  }
  const begun = performance.now();
  try {
    const headers = new Headers(request.headers);
    HOP_BY_HOP.forEach((name) => headers.delete(name));
    headers.set("x-correlation-id", correlation);
    // fetch takes some encodings off and leaves others: none is safest.
    headers.set("accept-encoding", "identity");
    const body = request.method === "GET" || request.method === "HEAD" ? undefined : await request.arrayBuffer();
    const address = `${server.replace(/\/+$/, "")}/functions/v1/${forwarder.slug}${new URL(request.url).search}`;
    const there = await fetch(address, {
      method: request.method,
      headers,
      body,
      redirect: "manual",
      signal: AbortSignal.timeout(forwarder.milliseconds),
    });
    const back = new Headers(there.headers);
    HOP_BY_HOP.forEach((name) => back.delete(name));
    back.set("x-agentops-flag", on ? "on" : "off");
    back.set("x-correlation-id", there.headers.get("x-correlation-id") ?? correlation);
    const content = await there.arrayBuffer();
    return new Response(BODILESS.has(there.status) ? null : content, { status: there.status, headers: back });
  } catch (error) {
    const latency_ms = Math.round(performance.now() - begun);
    say("error", "ai.forward.error", { error: error instanceof Error ? error.name : "unknown", latency_ms });
    return answer(503, { success: false, error: "the agentops server does not answer" }, { "retry-after": "5" });
  }
}
