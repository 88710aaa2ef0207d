// The organizations API as a page calls it: with the token of the person who is signed in, which only the application's
// own server can make.

/** An answer that is no success: `status`, `error` and `detail` of the API. */
export class ApiError extends Error {
  constructor(status, body, retryAfter) {
    super(typeof body.detail === "string" ? body.detail : "The request was refused.");
    this.status = status;
    this.error = body.error;
    this.retryAfter = retryAfter;
  }
}

const ATTEMPTS = 4;
const LONGEST_WAIT_SECONDS = 5;

export class Api {
  /** @param signIn returns `{api, organization_id, token}` of who is signed in, each time with a fresh token. */
  constructor(signIn) {
    this.signIn = signIn;
  }

  async open() {
    this.session = await this.signIn();
    return this.session;
  }

  get(path) {
    return this.call("GET", path);
  }

  /**
   * A change has a key of its own, so that it can be sent again when nobody knows what became of it: the answer is then
   * the first one.
   */
  change(method, path, body) {
    return this.call(method, path, body, crypto.randomUUID());
  }

  async call(method, path, body, key) {
    let renewed = false;
    for (let attempt = 1; ; attempt += 1) {
      const answer = await this.send(method, path, body, key).catch(() => null);
      if (answer === null) {
        if (attempt === ATTEMPTS) throw new Error("Billing cannot be reached.");
        await pause(attempt);
        continue;
      }
      if (answer.status === 401 && !renewed) {
        // Tokens are short-lived.
        renewed = true;
        await this.open();
        continue;
      }
      const text = await answer.text();
      const content = text === "" ? null : JSON.parse(text);
      if (answer.ok) return content;
      const wait = Number(answer.headers.get("retry-after")) || 0;
      const later = answer.status === 503 || (answer.status === 409 && wait > 0);
      if (!later || attempt === ATTEMPTS) throw new ApiError(answer.status, content ?? {}, wait);
      await pause(Math.min(wait || attempt, LONGEST_WAIT_SECONDS));
    }
  }

  send(method, path, body, key) {
    const { api, organization_id, token } = this.session;
    const headers = { authorization: `Bearer ${token}` };
    if (body !== undefined) headers["content-type"] = "application/json";
    if (key !== undefined) headers["idempotency-key"] = key;
    return fetch(`${api}/v1/organizations/${organization_id}${path}`, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  }
}

function pause(seconds) {
  return new Promise((resolve) => setTimeout(resolve, seconds * 1000));
}
