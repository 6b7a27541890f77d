// Asks the service that the page came from, and no other.

export class Refused extends Error {
  constructor(status, answer) {
    super(answer.error ?? `The service answered ${status}.`);
    this.status = status;
    this.labels = answer.labels ?? [];
    this.suggestions = answer.suggestions ?? {};
  }
}

let key = "";

export function useKey(text) {
  key = text;
}

export function wait(milliseconds) {
  return new Promise((done) => setTimeout(done, milliseconds));
}

// Returns the answer; a service that is busy is asked again.
export async function ask(path, fields, signal) {
  const body = fields && new FormData();
  for (const [name, value] of fields ?? []) {
    if (value instanceof Blob) body.append(name, value, value.name ?? "picture.png");
    else body.append(name, value);
  }
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  const method = fields ? "POST" : "GET";
  for (let tries = 0; ; tries++) {
    const answer = await fetch(`../${path}`, { method, body, headers, signal });
    const content = await answer.json().catch(() => ({}));
    if (answer.ok) return content;
    if (![429, 503].includes(answer.status) || tries === 5) {
      throw new Refused(answer.status, content);
    }
    await wait(1000 * Number(answer.headers.get("Retry-After") ?? 1));
  }
}
