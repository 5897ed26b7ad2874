// The contract between Hookloom and its plugins, for TypeScript: generated from wit/plugin.wit by jco; do not edit.
declare module 'hookloom:plugin/types@1.0.0' {
  /**
   * A name and a value. Records of this package never grow once released; what may grow later travels in lists
   * of attributes. Ignore the names you do not know.
   */
  export interface Attribute {
    name: string,
    value: string,
  }
  /**
   * One event, as one subscription sees it.
   * 
   * There is no attempt number: what a plugin sees must not change between two attempts.
   */
  export interface Event {
    /**
     * The event's id: a uuid (version 7) in its usual text form.
     */
    id: string,
    /**
     * The tenant that owns the event.
     */
    tenant: string,
    /**
     * The id of the subscription this call is for.
     */
    subscription: string,
    /**
     * The event name as it was sent, such as `Contact is Created` or `Opportunity is Updated`.
     */
    name: string,
    /**
     * `Contact` or `Deal` (event names say "Opportunity" for a deal). Absent if the host does not know.
     */
    module?: string,
    /**
     * `eventData.id` as text, whether it was sent as a number or as a string. Absent if there is none.
     */
    entityId?: string,
    /**
     * When the host accepted the event: milliseconds since 1970-01-01T00:00:00Z. The plugin's clock shows the same.
     */
    receivedAt: bigint,
    /**
     * The body as it was accepted, byte for byte: a JSON object with the keys `eventName` and `eventData`.
     */
    payload: string,
    /**
     * Reserved for what later hosts may add.
     */
    attributes: Array<Attribute>,
  }
  /**
   * Why something was decided: shown to the people who own the subscription.
   */
  export interface Reason {
    /**
     * A short, stable word for programs, such as `low-probability`. At most 64 bytes are kept.
     */
    code: string,
    /**
     * A sentence for people. At most 1,024 bytes are kept.
     */
    message: string,
  }
  /**
   * One HTTP header to add to the request.
   */
  export interface Header {
    /**
     * The name, of any case. Names that the protocol or the signature needs are refused.
     */
    name: string,
    /**
     * The value: visible ASCII, blanks and tabs.
     */
    value: string,
  }
  /**
   * The body of a request.
   */
  export type Body = BodyText | BodyBinary;
  /**
   * Text, sent as UTF-8. When the content type is JSON (the default), the host checks that it parses.
   */
  export interface BodyText {
    tag: 'text',
    val: string,
  }
  /**
   * Any bytes, sent as they are. A content type must be given.
   */
  export interface BodyBinary {
    tag: 'binary',
    val: Uint8Array,
  }
  /**
   * What to send instead of the payload.
   */
  export interface Outgoing {
    /**
     * The request's body.
     */
    body: Body,
    /**
     * The `content-type` header. Absent: `application/json`.
     */
    contentType?: string,
    /**
     * Headers to add: at most 16, together at most 8 KiB, unless the subscription says otherwise.
     */
    headers: Array<Header>,
    /**
     * Another address for this one request. Its host must be on the subscription's list of allowed hosts.
     */
    url?: string,
    /**
     * Reserved. A name that the host does not know is an error, so that no request of yours is ignored.
     */
    attributes: Array<Attribute>,
  }
  /**
   * A wish to be asked again later.
   */
  export interface Postponement {
    /**
     * How long to wait, in milliseconds. The host rounds up to at least one second.
     */
    delayMs: bigint,
    /**
     * Why.
     */
    reason: Reason,
  }
  /**
   * What the plugin decides about an event.
   */
  export type Verdict = VerdictPass | VerdictReplace | VerdictDrop | VerdictLater;
  /**
   * Send the payload exactly as it came: not a byte is touched.
   */
  export interface VerdictPass {
    tag: 'pass',
  }
  /**
   * Send this instead. This host accepts a list of exactly one.
   */
  export interface VerdictReplace {
    tag: 'replace',
    val: Array<Outgoing>,
  }
  /**
   * Send nothing. The delivery ends as `dropped`, which is not a failure.
   */
  export interface VerdictDrop {
    tag: 'drop',
    val: Reason,
  }
  /**
   * Decide later. The event is shown again, unchanged, until the subscription's age limit.
   */
  export interface VerdictLater {
    tag: 'later',
    val: Postponement,
  }
  /**
   * Why the plugin could not decide.
   */
  export type Failure = FailureInvalidEvent | FailureTransient | FailureBadConfig;
  /**
   * This event can never work. The delivery ends as `dead` at once.
   */
  export interface FailureInvalidEvent {
    tag: 'invalid-event',
    val: Reason,
  }
  /**
   * It may work another time. The delivery is retried by the subscription's schedule.
   */
  export interface FailureTransient {
    tag: 'transient',
    val: Reason,
  }
  /**
   * The subscription's config is wrong. After 3 events in a row the subscription is paused and says why.
   */
  export interface FailureBadConfig {
    tag: 'bad-config',
    val: Reason,
  }
}
declare module 'hookloom:plugin/config@1.0.0' {
  /**
   * The value under a key. Absent if the owner wrote none.
   */
  export function get(key: string): string | undefined;
  /**
   * All keys and values, ordered by key.
   */
  export function entries(): Array<[string, string]>;
}
declare module 'hookloom:plugin/history@1.0.0' {
  /**
   * The latest event of the same contact or deal (the same tenant, module and entity id) that the host accepted before
   * this one, with its payload as it came: the whole entity as it was then. Every attempt, replay and dry run of an
   * event sees the same. Absent: there was none, it is older than the host keeps, or the event has no entity id.
   */
  export function previous(): Event | undefined;
  export type Event = import('hookloom:plugin/types@1.0.0').Event;
}
declare module 'hookloom:plugin/log@1.0.0' {
  /**
   * Write one line. A line is cut at 1 KiB, and a call keeps 16 KiB; what is over is counted and left out.
   */
  export function write(level: Level, message: string): void;
  /**
   * How much a line matters.
   * # Variants
   * 
   * ## `"debug"`
   * 
   * For the plugin's author.
   * ## `"info"`
   * 
   * Worth knowing.
   * ## `"warn"`
   * 
   * Odd, but the event was judged.
   * ## `"error"`
   * 
   * Wrong.
   */
  export type Level = 'debug' | 'info' | 'warn' | 'error';
}
declare module 'hookloom:plugin/secrets@1.0.0' {
  /**
   * HMAC-SHA256 of `data` with the named secret's bytes as the key: 32 bytes.
   */
  export function hmacSha256(name: string, data: Uint8Array): Uint8Array;
  /**
   * Why a secret could not be used.
   */
  export type SecretError = SecretErrorUnknownName | SecretErrorNotGranted;
  /**
   * The subscription has no secret of this name.
   */
  export interface SecretErrorUnknownName {
    tag: 'unknown-name',
  }
  /**
   * This subscription does not let its plugin use secrets.
   */
  export interface SecretErrorNotGranted {
    tag: 'not-granted',
  }
}
declare module 'hookloom:plugin/transform@1.0.0' {
  /**
   * Judge one event.
   */
  export function transform(event: Event): Verdict;
  export type Event = import('hookloom:plugin/types@1.0.0').Event;
  export type Verdict = import('hookloom:plugin/types@1.0.0').Verdict;
  export type Failure = import('hookloom:plugin/types@1.0.0').Failure;
}
