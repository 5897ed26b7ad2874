/* {{name}}: wraps each event in an envelope of its own; with the config key `only`, drops every other event.
   The types are in generated/plugin.h, made from the contract by `wit-bindgen c`. FAIL("…") ends the call with an error. */
#include "../generated/plugin.h"
#include "../sdk/hookloom.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef exports_hookloom_plugin_transform_event_t event_t;
typedef exports_hookloom_plugin_transform_verdict_t verdict_t;
typedef exports_hookloom_plugin_transform_failure_t failure_t;

static plugin_string_t text(const char *c) {
  plugin_string_t made;
  plugin_string_dup(&made, c);
  return made;
}

/* A verdict that sends nothing. */
static void drop(verdict_t *verdict, const char *code, const char *message) {
  verdict->tag = HOOKLOOM_PLUGIN_TYPES_VERDICT_DROP;
  verdict->val.drop.code = text(code);
  verdict->val.drop.message = text(message);
}

/* A verdict that sends this JSON. The host frees what a verdict holds. */
static void replace(verdict_t *verdict, char *body, size_t length) {
  hookloom_plugin_types_outgoing_t *outgoing = calloc(1, sizeof *outgoing);
  outgoing->body.tag = HOOKLOOM_PLUGIN_TYPES_BODY_TEXT;
  outgoing->body.val.text.ptr = (uint8_t *)body;
  outgoing->body.val.text.len = length;
  verdict->tag = HOOKLOOM_PLUGIN_TYPES_VERDICT_REPLACE;
  verdict->val.replace.ptr = outgoing;
  verdict->val.replace.len = 1;
}

bool exports_hookloom_plugin_transform_transform(event_t *event, verdict_t *verdict, failure_t *failure) {
  (void)failure; /* Set it and return false when the event cannot be judged. */
  plugin_string_t key = text("only"), only;
  if (hookloom_plugin_config_get(&key, &only) &&
      (only.len != event->name.len || memcmp(only.ptr, event->name.ptr, only.len) != 0)) {
    char message[512];
    snprintf(message, sizeof message, "only %.*s is wanted", (int)only.len, (const char *)only.ptr);
    drop(verdict, "unwanted", message);
    return true;
  }
  /* The payload is JSON already, and names and ids of Agile CRM need no escaping. */
  size_t room = event->name.len + event->payload.len + event->entity_id.val.len * event->entity_id.is_some + 64;
  char *body = malloc(room);
  if (body == NULL) FAIL("no memory for a body of %zu bytes", room);
  int length = snprintf(body, room, "{\"event\":\"%.*s\",\"id\":%s%.*s%s,\"payload\":%.*s}",
                        (int)event->name.len, (const char *)event->name.ptr,
                        event->entity_id.is_some ? "\"" : "null",
                        event->entity_id.is_some ? (int)event->entity_id.val.len : 0, (const char *)event->entity_id.val.ptr,
                        event->entity_id.is_some ? "\"" : "",
                        (int)event->payload.len, (const char *)event->payload.ptr);
  replace(verdict, body, (size_t)length);
  return true;
}
