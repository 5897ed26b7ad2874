// The sdk of JavaScript and TypeScript plugins: the functions of scripts (pass, replace, drop, later, console, …) as globals, and
// the call of `transform`. Types: globals.d.ts.
//
// An error in the plugin's code ends the call with its message, place and functions. The sdk's and the engine's are not shown.
import { get, entries } from "hookloom:plugin/config@1.0.0";
import { write } from "hookloom:plugin/log@1.0.0";
import { hmacSha256 } from "hookloom:plugin/secrets@1.0.0";
import { previous } from "hookloom:plugin/history@1.0.0";
import { fail } from "hookloom:errors/report@1.0.0";
import prelude from "./prelude.js";
import { lossy } from "./numbers.js";
import { frames } from "./stack.js";

// Log lines of a call that reach the host, whose log is full long before. The rest is counted.
const LINES_MAX = 2000;
const LEVELS = ["debug", "info", "warn", "error"];
let lines = 0;
let random;

// The number of events that the event stands for, and the time of the first. Undefined: its subscription does not settle.
const settled = (attributes) => {
  const number = (name) => Number(attributes.find((one) => one.name === name)?.value);
  const numbers = [number("settled-events"), number("settled-since")];
  return numbers.every(Number.isFinite) ? numbers : undefined;
};

const fields = (event) => [
  event.id,
  event.name,
  event.module,
  event.entityId,
  Number(event.receivedAt),
  event.payload,
  lossy(event.payload),
  settled(event.attributes),
];

// A generator (sfc32) that is seeded by event and subscription, so that a retry sends the same bytes.
const seeded = (text) => {
  const state = [0x9e3779b9, 0x243f6a88, 0xb7e15162, 1];
  const next = () => {
    const sum = (state[0] + state[1] + state[3]) | 0;
    state[3] = (state[3] + 1) | 0;
    state[0] = state[1] ^ (state[1] >>> 9);
    state[1] = (state[2] + (state[2] << 3)) | 0;
    state[2] = (((state[2] << 21) | (state[2] >>> 11)) + sum) | 0;
    return sum >>> 0;
  };
  for (let i = 0; i < text.length; i++) {
    state[i % 3] = Math.imul(state[i % 3] ^ text.charCodeAt(i), 0x01000193);
    next();
  }
  for (let i = 0; i < 12; i++) next();
  return () => ((next() >>> 5) * 0x4000000 + (next() >>> 6)) / 0x20000000000000;
};

// The engine has no TextEncoder.
const utf8 = (text) => Uint8Array.from(unescape(encodeURIComponent(text.toWellFormed())), (byte) => byte.charCodeAt(0));

const native = {
  configGet: (key) => get(key) ?? undefined,
  configEntries: entries,
  hmac: (name, data, isHexadecimal) => {
    const bytes = isHexadecimal ? Uint8Array.fromHex(data) : utf8(data);
    try {
      return hmacSha256(name, bytes);
    } catch (error) {
      return error?.payload?.tag === "not-granted"
        ? "the subscription does not let its plugins use secrets"
        : `the subscription has no secret ${JSON.stringify(name)}`;
    }
  },
  previous: () => {
    const event = previous();
    return event == null ? undefined : fields(event);
  },
  write: (level, line) => {
    lines += 1;
    if (lines <= LINES_MAX) write(LEVELS[level], line);
  },
  random: () => random(),
};

const { begin, event: eventOf, read, explain } = prelude(native);

const ASYNC =
  "transform returned a promise, and nothing in this engine runs after transform has returned. Remove async and await: nothing in a plugin has to wait";

const isPromise = (value) => typeof value === "object" && value !== null && typeof value.then === "function";

const reason = ([first, message]) => {
  if (message !== undefined) return { code: first, message };
  return /^[!-~]{1,64}$/.test(first) ? { code: first, message: "" } : { code: "script", message: first };
};

const outgoing = (body, [, , contentType, headers, url]) => {
  const all = [];
  for (let i = 0; i < headers.length; i++) all[i] = { name: headers[i][0], value: headers[i][1] };
  return { tag: "replace", val: [{ body, contentType, headers: all, url, attributes: [] }] };
};

// Ends the call, or returns the contract's answer, or throws its failure.
const answered = (answer, map) => {
  switch (answer[0]) {
    case "pass":
      return { tag: "pass" };
    case "drop":
      return { tag: "drop", val: reason([answer[1][0], answer[1][1]]) };
    case "later":
      return { tag: "later", val: { delayMs: answer[1], reason: reason([answer[2][0], answer[2][1]]) } };
    case "text":
      return outgoing({ tag: "text", val: answer[1] }, Array.from(answer));
    case "bytes":
      return outgoing({ tag: "binary", val: Uint8Array.fromHex(answer[1]) }, Array.from(answer));
    case "wrong":
      return fail({ message: answer[1], frames: [] });
    case "error":
      return fail({ message: answer[1], frames: frames(answer[2], map) });
    default:
      throw { tag: answer[0], val: reason([answer[1][0], answer[1][1]]) };
  }
};

// Makes the contract's function of a plugin's. `map` is the source map of the bundle, if there is one.
export const plugin = (transform, map) => {
  if (typeof transform !== "function") {
    throw new TypeError("the plugin has no function to call: it must have `export function transform(event) { … }`");
  }
  const judge = (event) => {
    lines = 0;
    random = seeded(event.id + event.subscription);
    try {
      begin();
      const value = transform(eventOf(fields(event)));
      return isPromise(value) ? ["error", ASYNC, ""] : read(value);
    } catch (thrown) {
      return explain(thrown);
    }
  };
  return (event) => {
    const answer = judge(event);
    if (lines > LINES_MAX) write("warn", `${lines - LINES_MAX} more lines: the sdk hands over ${LINES_MAX} of a call`);
    return answered(answer, map);
  };
};
