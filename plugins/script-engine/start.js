// Called for each event. It returns one of:
//   pass()               send the event as it came
//   replace(body)        send this instead: JSON, or a text
//   drop("reason")       send nothing
//   later(60_000, "why") ask again in a minute
export function transform(event) {
  const data = event.payload.eventData;
  console.log(`${event.name}, id ${event.entityId}`);

  if (event.module === "Contact") return pass();
  if (data.expected_value < 1000) return drop("too-small");
  return replace({ text: `${data.name}: ${data.milestone}` });
}
