// {{name}}: wraps each event in an envelope of its own; with the config key `only`, drops every other event.
// The types are in hookloom.d.ts, made from the contract. Code outside of transform() runs once, at build time.
import type { Event, Verdict } from "hookloom:plugin/types@1.0.0";
import { get } from "hookloom:plugin/config@1.0.0";
import { write } from "hookloom:plugin/log@1.0.0";

export const transform = {
  transform(event: Event): Verdict {
    const only = get("only");
    if (only != null && only !== event.name) {
      return { tag: "drop", val: { code: "unwanted", message: `only ${only} is wanted` } };
    }
    write("debug", `wrapping ${event.name}`);
    // Numbers above 2^53 lose digits in JSON.parse: Agile CRM's ids are smaller, yours may not be.
    const payload: unknown = JSON.parse(event.payload);
    const body = JSON.stringify({ event: event.name, id: event.entityId, payload });
    return { tag: "replace", val: [{ body: { tag: "text", val: body }, headers: [], attributes: [] }] };
    // A Failure is thrown: throw { tag: "invalid-event", val: { code: "no-email", message: "…" } } satisfies Failure;
  },
};
