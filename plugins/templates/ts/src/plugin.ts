// {{name}}: wraps each event in an envelope of its own; with the config key `only`, drops every other event.
// What is at hand: sdk/globals.d.ts. Code outside of transform() runs once, at build time.

export function transform(event: Hookloom.Event): Hookloom.Verdict {
  if (config.only !== undefined && config.only !== event.name) {
    return drop("unwanted", `only ${config.only} is wanted`);
  }
  console.debug(`wrapping ${event.name}`);
  // A failure is thrown: throw invalidEvent("no-email", "…");
  return replace({ event: event.name, id: event.entityId, payload: event.payload });
}
