export function transform(event) {
  const deal = event.payload.eventData;
  if (deal.expected_value < 1000) return drop("too-small");
  return replace({ text: `${deal.name}: ${deal.milestone}` }, { headers: { "x-source": "crm" } });
}
