// The globals of a script, and how its answers and errors are read.
//
// Runs once, when the engine is built. A script may change every object that it can reach. So everything used after a script
// has begun is captured here before, arrays have no prototype, and answers are told by private fields, which nobody can forge.
(native) => {
  "use strict";
  const { parse, stringify, rawJSON } = JSON;
  const { create, defineProperty, getOwnPropertyDescriptor, keys, setPrototypeOf, freeze } = Object;
  const uncurried = Function.prototype.bind.bind(Function.prototype.call);
  const isArray = Array.isArray;
  const isError = Error.isError;
  const isView = ArrayBuffer.isView;
  const isFinite = Number.isFinite;
  const ceil = Math.ceil;
  const is = Object.is;
  const mapGet = uncurried(Map.prototype.get);
  const mapSet = uncurried(Map.prototype.set);
  const setHas = uncurried(Set.prototype.has);
  const setAdd = uncurried(Set.prototype.add);
  const lower = uncurried(String.prototype.toLowerCase);
  const functionText = uncurried(Function.prototype.toString);
  const bufferLength = uncurried(getOwnPropertyDescriptor(ArrayBuffer.prototype, "byteLength").get);
  const hexadecimal = uncurried(Uint8Array.prototype.toHex);
  const tagOf = uncurried(getOwnPropertyDescriptor(Object.getPrototypeOf(Uint8Array.prototype), Symbol.toStringTag).get);
  const viewBuffer = uncurried(getOwnPropertyDescriptor(Object.getPrototypeOf(Uint8Array.prototype), "buffer").get);
  const viewOffset = uncurried(getOwnPropertyDescriptor(Object.getPrototypeOf(Uint8Array.prototype), "byteOffset").get);
  const viewLength = uncurried(getOwnPropertyDescriptor(Object.getPrototypeOf(Uint8Array.prototype), "byteLength").get);
  const { Map: NewMap, Set: NewSet, Uint8Array: Bytes, TypeError: Wrong, Error: Plain, String: text } = globalThis;
  const list = (...items) => setPrototypeOf(items, null);

  // Answers.

  class Verdict {
    #answer;
    constructor(answer) {
      this.#answer = answer;
    }
    static read(value) {
      return typeof value === "object" && value !== null && #answer in value ? value.#answer : undefined;
    }
  }
  class Failure extends Error {
    #answer;
    constructor(answer, message) {
      super(message);
      this.#answer = answer;
    }
    static read(value) {
      return typeof value === "object" && value !== null && #answer in value ? value.#answer : undefined;
    }
  }
  defineProperty(Failure.prototype, "name", { value: "Failure" });
  for (const { prototype } of [Verdict, Failure]) {
    delete prototype.constructor;
    freeze(prototype);
  }
  const readVerdict = Verdict.read;
  const readFailure = Failure.read;

  const reason = (code, message, name) => {
    if (typeof code !== "string" || (message !== undefined && typeof message !== "string")) {
      throw new Wrong(`${name} takes texts: ${name}("code") or ${name}("code", "message")`);
    }
    return message === undefined ? list(code) : list(code, message);
  };

  // Numbers that JavaScript cannot hold. For each such double, the texts that mean it in the events of this call; for the objects
  // of a payload, which text stood where.
  let textsOf;
  let textAt;

  const readPayload = (source, numbers) => {
    if (numbers === undefined) return parse(source);
    textsOf ??= new NewMap();
    textAt ??= new NewMap();
    const lost = new NewSet();
    for (let i = 0; i < numbers.length; i++) {
      const number = numbers[i];
      const value = +number;
      let texts = mapGet(textsOf, value);
      if (texts === undefined) {
        texts = list();
        mapSet(textsOf, value, texts);
      }
      let known = false;
      for (let j = 0; j < texts.length; j++) known ||= texts[j] === number;
      if (!known) texts[texts.length] = number;
      setAdd(lost, number);
    }
    return parse(source, function (key, value, context) {
      if (typeof value === "number" && setHas(lost, context.source)) {
        let at = mapGet(textAt, this);
        if (at === undefined) {
          at = new NewMap();
          mapSet(textAt, this, at);
        }
        mapSet(at, key, context.source);
      }
      return value;
    });
  };

  // Returns the number as it stood in the event, if JavaScript could not hold it.
  const restored = (holder, key, value) => {
    const texts = mapGet(textsOf, value);
    if (texts === undefined) return value;
    const at = mapGet(textAt, holder);
    const exact = at === undefined ? undefined : mapGet(at, key);
    if (exact !== undefined && is(+exact, value)) return rawJSON(exact);
    if (texts.length === 1) return rawJSON(texts[0]);
    let shown = texts[0];
    for (let i = 1; i < texts.length; i++) shown = `${shown} and ${texts[i]}`;
    throw new Wrong(
      `the event's numbers ${shown} are the same number in JavaScript: take the digits from event.text, and send them as a text`,
    );
  };

  const losslessly = (value, replacer, space) => {
    if (textsOf === undefined) return stringify(value, replacer, space);
    const chosen = isArray(replacer) ? new NewSet() : undefined;
    if (chosen !== undefined) for (let i = 0; i < replacer.length; i++) setAdd(chosen, text(replacer[i]));
    const own = typeof replacer === "function" ? uncurried(replacer) : undefined;
    const each = function (key, value) {
      if (chosen !== undefined && key !== "" && !isArray(this) && !setHas(chosen, key)) return undefined;
      if (own !== undefined) value = own(this, key, value);
      return typeof value === "number" ? restored(this, key, value) : value;
    };
    return stringify(value, each, space);
  };

  const hidden = (object, name, value) =>
    defineProperty(object, name, { value, writable: true, configurable: true, enumerable: false });
  hidden(JSON, "stringify", function (value, replacer, space) {
    return losslessly(value, replacer, space);
  });
  // A BigInt has no JSON in JavaScript; here it is written in its digits.
  const bigText = uncurried(BigInt.prototype.toString);
  hidden(BigInt.prototype, "toJSON", function () {
    return rawJSON(bigText(this));
  });

  // The globals.

  const global = (name, value) => hidden(globalThis, name, value);
  global("pass", () => new Verdict(list("pass")));
  global("drop", (code, message) => new Verdict(list("drop", reason(code, message, "drop"))));
  global("later", (ms, why) => {
    if (typeof ms !== "number" || !(ms >= 0) || !isFinite(ms)) {
      throw new Wrong("later takes how many milliseconds to wait: later(60000, \"why\")");
    }
    return new Verdict(list("later", ceil(ms), why === undefined ? list("later") : reason(why, undefined, "later(ms, why)")));
  });
  const failures = (name, kind) =>
    global(name, (code, message) => new Failure(list(kind, reason(code, message, name)), message ?? code));
  failures("invalidEvent", "invalid-event");
  failures("transient", "transient");
  failures("badConfig", "bad-config");

  const headerList = (headers) => {
    if (typeof headers !== "object" || headers === null || isArray(headers)) {
      throw new Wrong("the headers of replace are an object: { \"x-source\": \"crm\" }");
    }
    const all = list();
    const names = keys(headers);
    for (let i = 0; i < names.length; i++) {
      const value = headers[names[i]];
      if (typeof value !== "string" && typeof value !== "number" && typeof value !== "boolean") {
        throw new Wrong(`the header ${names[i]} is ${kindOf(value)}, not a text`);
      }
      all[all.length] = list(names[i], text(value));
    }
    return all;
  };
  const optional = (value, name) => {
    if (value === undefined || typeof value === "string") return value;
    throw new Wrong(`${name} of replace is ${kindOf(value)}, not a text`);
  };
  // The bytes of an ArrayBuffer or of a view of one. Undefined for everything else.
  const bytesOf = (value) => {
    if (typeof value !== "object" || value === null) return undefined;
    if (isView(value)) {
      if (tagOf(value) === undefined) throw new Wrong("a DataView cannot be sent: wrap it in a Uint8Array");
      return new Bytes(viewBuffer(value), viewOffset(value), viewLength(value));
    }
    try {
      bufferLength(value);
    } catch {
      return undefined;
    }
    return new Bytes(value);
  };
  global("replace", (body, options) => {
    let contentType;
    let headers = list();
    let url;
    if (options !== undefined) {
      if (typeof options !== "object" || options === null) throw new Wrong("the second argument of replace is an object: { headers, url, contentType }");
      const names = keys(options);
      for (let i = 0; i < names.length; i++) {
        const name = names[i];
        if (name !== "headers" && name !== "url" && name !== "contentType") {
          throw new Wrong(`replace has no option ${name}: there are headers, url and contentType`);
        }
      }
      if (options.headers !== undefined) headers = headerList(options.headers);
      contentType = optional(options.contentType, "contentType");
      url = optional(options.url, "url");
    }
    const others = list();
    for (let i = 0; i < headers.length; i++) {
      if (lower(headers[i][0]) !== "content-type") others[others.length] = headers[i];
      else if (contentType === undefined) contentType = headers[i][1];
      else throw new Wrong("replace has two content types: the option contentType and a header");
    }
    if (typeof body === "string") return new Verdict(list("text", body, contentType, others, url));
    const bytes = bytesOf(body);
    if (bytes !== undefined) {
      if (contentType === undefined) throw new Wrong("replace with bytes needs the option contentType");
      return new Verdict(list("bytes", hexadecimal(bytes), contentType, others, url));
    }
    const json = losslessly(body);
    if (json === undefined) throw new Wrong(`the body of replace is ${kindOf(body)}, which has no JSON`);
    return new Verdict(list("text", json, contentType, others, url));
  });

  const { configGet, configEntries, hmac, previous, write, random } = native;
  const all = () => {
    const entries = configEntries();
    const object = create(null);
    for (let i = 0; i < entries.length; i++) object[entries[i][0]] = entries[i][1];
    return object;
  };
  const refuseWrite = () => {
    throw new Wrong("config cannot be changed by a script");
  };
  const config = new Proxy(
    create(null),
    setPrototypeOf(
      {
        get: (_, key) => (typeof key === "string" ? configGet(key) : undefined),
        has: (_, key) => typeof key === "string" && configGet(key) !== undefined,
        ownKeys: () => keys(all()),
        getOwnPropertyDescriptor: (_, key) => {
          const value = typeof key === "string" ? configGet(key) : undefined;
          return value === undefined ? undefined : { value, enumerable: true, configurable: true, writable: false };
        },
        set: refuseWrite,
        defineProperty: refuseWrite,
        deleteProperty: refuseWrite,
        setPrototypeOf: refuseWrite,
        preventExtensions: refuseWrite,
      },
      null,
    ),
  );
  global("config", config);
  global("secrets", {
    hmacSha256: (name, data) => {
      const bytes = typeof data === "string" ? data : bytesOf(data);
      if (typeof name !== "string" || bytes === undefined) {
        throw new Wrong("hmacSha256 takes the name of a secret, and a text or bytes: secrets.hmacSha256(\"name\", data)");
      }
      const answer = typeof bytes === "string" ? hmac(name, bytes, false) : hmac(name, hexadecimal(bytes), true);
      if (typeof answer === "string") throw new Plain(answer);
      return answer;
    },
  });
  global("history", {
    previous: () => {
      const before = previous();
      return before === undefined ? undefined : event(before);
    },
  });

  const kindOf = (value) => {
    if (value === null) return "null";
    if (isArray(value)) return "an array";
    const type = typeof value;
    return type === "undefined" ? type : type === "object" ? "an object" : `a ${type}`;
  };
  const shown = (value) => {
    if (typeof value === "string") return value;
    if (typeof value === "function") return `[function ${functionText(value)}]`;
    if (typeof value === "object" && value !== null) {
      if (isError(value)) return described(value);
      let json;
      try {
        json = stringify(value);
      } catch {}
      if (json !== undefined) return json;
    }
    try {
      return text(value);
    } catch {
      return kindOf(value);
    }
  };
  const described = (error) => {
    try {
      return `${text(error.name)}: ${text(error.message)}`;
    } catch {
      return "Error";
    }
  };
  const printer = (level) => (...values) => {
    let line = "";
    for (let i = 0; i < values.length; i++) line += (i > 0 ? " " : "") + shown(values[i]);
    write(level, line);
  };
  global("console", {
    debug: printer(0),
    log: printer(1),
    info: printer(1),
    warn: printer(2),
    error: printer(3),
  });
  hidden(Math, "random", () => random());

  // What the engine calls.

  const event = (fields) => ({
    id: fields[0],
    name: fields[1],
    module: fields[2],
    entityId: fields[3],
    receivedAt: fields[4],
    payload: readPayload(fields[5], fields[6]),
    text: fields[5],
    settled: fields[7] ? { events: fields[7][0], since: fields[7][1] } : undefined,
  });
  const read = (value) => {
    const answer = readVerdict(value) ?? readFailure(value);
    if (answer !== undefined) return answer;
    const got = value === undefined ? "nothing: is a return missing?" : `${kindOf(value)}, which is none of these`;
    return list("wrong", `transform must return pass(), replace(…), drop(…) or later(…). It returned ${got}`);
  };
  // Reads a thrown value: a failure that the script chose, or the message and the stack of an error.
  const explain = (thrown) => {
    const failure = readFailure(thrown);
    if (failure !== undefined) return failure;
    if (!isError(thrown)) return list("error", `the script threw ${kindOf(thrown)}: ${shown(thrown)}`, "");
    let stack = "";
    try {
      stack = text(thrown.stack);
    } catch {}
    return list("error", described(thrown), stack);
  };
  const begin = () => {
    textsOf = undefined;
    textAt = undefined;
  };
  return { begin, event, read, explain };
}
