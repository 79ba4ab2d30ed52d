// The gateway's public API, as every other client has it. The key, where the gateway wants one, lives in this tab alone.

const KEY = "coterie.key";

export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

/** What the gateway refused, in its own words. */
export class Refusal extends Error {
  constructor(status, message, retryAfter) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

async function call(path, body, signal) {
  const headers = key.get() ? { Authorization: `Bearer ${key.get()}` } : {};
  if (body) headers["Content-Type"] = "application/json";
  const response = await fetch(path, {
    method: body ? "POST" : "GET", headers, signal, cache: "no-store", body: body && JSON.stringify(body),
  });
  if (response.ok) return response;
  let message = `the gateway answered ${response.status}`;
  try {
    message = (await response.json()).error.message;
  } catch {
    // A proxy in between answered with something else.
  }
  throw new Refusal(response.status, message, response.headers.get("retry-after"));
}

export const get = async (path) => (await call(path)).json();
export const post = async (path, body, signal) => (await call(path, body, signal)).json();

/** The events of a streamed answer: `{data}` parsed, or `{comment}`, until `[DONE]`. */
export async function* stream(path, body, signal) {
  const response = await call(path, { ...body, stream: true }, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Refusal(0, "the connection ended before the answer did");
    text += value;
    const lines = text.split("\n");
    text = lines.pop();
    for (const line of lines) {
      if (line.startsWith(":")) yield { comment: line.slice(1).trim() };
      if (!line.startsWith("data: ")) continue;
      if (line === "data: [DONE]") return;
      const data = JSON.parse(line.slice(6));
      if (data.error) throw new Refusal(0, data.error.message);
      yield { data };
    }
  }
}
