// Verifies webhooks that Hookloom signs, as https://www.standardwebhooks.com describes. Needs Node.js 18 or newer, and no package.

import { createHmac, timingSafeEqual } from "node:crypto";

const TOLERANCE_S = 300;

// Returns true if the request was signed with the secret ("whsec_…") within five minutes.
// headers: names in lower case, as `request.headers` has them. body: the raw bytes, before they are parsed.
export function isSigned(secret, headers, body) {
  const id = headers["webhook-id"] ?? "";
  const timestamp = headers["webhook-timestamp"] ?? "";
  if (!/^\d+$/.test(timestamp) || Math.abs(Date.now() / 1000 - Number(timestamp)) > TOLERANCE_S) return false;
  const key = Buffer.from(secret.replace(/^whsec_/, ""), "base64");
  const digest = createHmac("sha256", key).update(`${id}.${timestamp}.`).update(body).digest("base64");
  const expected = Buffer.from(`v1,${digest}`);
  // While the secret is rotated, there are several signatures.
  return (headers["webhook-signature"] ?? "").split(" ").some((signature) => {
    const given = Buffer.from(signature);
    return given.length === expected.length && timingSafeEqual(given, expected);
  });
}
