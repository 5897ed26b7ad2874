// What a plugin sees: global functions and objects, as in a script.

declare namespace Hookloom {
  /** One event, as one subscription sees it. */
  interface Event {
    /** The event's id: a uuid (version 7). */
    id: string;
    /** The event name as it was sent, such as `Contact is Created` or `Opportunity is Updated`. */
    name: string;
    /** `Contact` or `Deal`. Undefined: the host does not know. */
    module?: "Contact" | "Deal" | (string & {});
    /** `eventData.id` as text, whether it was sent as a number or as a string. */
    entityId?: string;
    /** When the host accepted the event, in milliseconds since 1970. The clock shows the same. */
    receivedAt: number;
    /** The payload, parsed. Numbers that JavaScript cannot hold are sent as they came, unless you calculate with them. */
    payload: Payload;
    /** The payload, byte for byte. */
    text: string;
    /** The events that it stands for. Undefined: the subscription does not settle bursts. */
    settled?: Settled;
  }
  interface Settled {
    /** Number of events, with this one. */
    events: number;
    /** When the host accepted the first of them, in milliseconds since 1970. */
    since: number;
  }
  interface Payload {
    eventName: string;
    eventData: { [field: string]: any };
  }
  /** What pass, replace, drop and later return. `transform` must return one. */
  interface Verdict {
    readonly " verdict": never;
  }
  /** What invalidEvent, transient and badConfig return: throw or return it. */
  interface Failure extends Error {
    readonly " failure": never;
  }
  interface Options {
    /** Headers to add. */
    headers?: { [name: string]: string | number | boolean };
    /** Another address for this one request, on a host that the subscription allows. */
    url?: string;
    /** The content type. Without it: `application/json`. */
    contentType?: string;
  }
}

/** Sends the payload as it came. */
declare function pass(): Hookloom.Verdict;
/** Sends this instead: a text and bytes as they are, everything else as JSON. Bytes need `contentType`. */
declare function replace(body: unknown, options?: Hookloom.Options): Hookloom.Verdict;
/** Sends nothing. A single text with blanks is a message. */
declare function drop(code: string, message?: string): Hookloom.Verdict;
/** Shows the event again after so many milliseconds. */
declare function later(ms: number, why?: string): Hookloom.Verdict;

/** This event can never work: the delivery ends. */
declare function invalidEvent(code: string, message?: string): Hookloom.Failure;
/** It may work another time: the delivery is retried. */
declare function transient(code: string, message?: string): Hookloom.Failure;
/** The subscription's config is wrong: after 3 events in a row it is paused. */
declare function badConfig(code: string, message?: string): Hookloom.Failure;

/** The subscription's config. */
declare const config: { readonly [key: string]: string | undefined };

declare const secrets: {
  /** HMAC-SHA256 with the named secret as the key. */
  hmacSha256(name: string, data: string | Uint8Array | ArrayBuffer): Uint8Array & { toHex(): string; toBase64(): string };
};

declare const history: {
  /** The event before of the same contact or deal. */
  previous(): Hookloom.Event | undefined;
};

/** The log of the attempt. */
declare const console: {
  debug(...values: unknown[]): void;
  log(...values: unknown[]): void;
  info(...values: unknown[]): void;
  warn(...values: unknown[]): void;
  error(...values: unknown[]): void;
};
