"""{{name}}: wraps each event in an envelope of its own; with the config key `only`, drops every other event.

The types are in generated/wit_world, made from the contract at each build. Code outside of transform() runs once, at
build time; imports stand at the top.
"""

import json

from wit_world import exports
from wit_world.imports import config, log
from wit_world.imports.types import Body_Text, Event, Outgoing, Reason, Verdict, Verdict_Drop, Verdict_Replace


class Transform(exports.Transform):
    def transform(self, event: Event) -> Verdict:
        only = config.get("only")
        if only is not None and only != event.name:
            return Verdict_Drop(Reason("unwanted", f"only {only} is wanted"))
        log.write(log.Level.DEBUG, f"wrapping {event.name}")
        body = json.dumps({"event": event.name, "id": event.entity_id, "payload": json.loads(event.payload)})
        return Verdict_Replace([Outgoing(Body_Text(body), None, [], None, [])])
        # A failure is raised: raise componentize_py_types.Err(Failure_InvalidEvent(Reason("no-email", "…")))
