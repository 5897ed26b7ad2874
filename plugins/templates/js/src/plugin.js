// {{name}}: wraps each event in an envelope of its own; with the config key `only`, drops every other event.
// What is at hand: `hookloom plugin wit` prints the contract. Code outside of transform() runs once, at build time.
import { get } from "hookloom:plugin/config@1.0.0";
import { write } from "hookloom:plugin/log@1.0.0";

export const transform = {
  transform(event) {
    const only = get("only");
    if (only != null && only !== event.name) {
      return { tag: "drop", val: { code: "unwanted", message: `only ${only} is wanted` } };
    }
    write("debug", `wrapping ${event.name}`);
    // Numbers above 2^53 lose digits in JSON.parse: Agile CRM's ids are smaller, yours may not be.
    const payload = JSON.parse(event.payload);
    const body = JSON.stringify({ event: event.name, id: event.entityId, payload });
    return { tag: "replace", val: [{ body: { tag: "text", val: body }, headers: [], attributes: [] }] };
    // A failure is thrown: throw { tag: "invalid-event", val: { code: "no-email", message: "…" } };
  },
};
