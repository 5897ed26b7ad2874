"""{{name}}: wraps each event in an envelope of its own; with the config key `only`, drops every other event.

What is at hand: sdk/hookloom.py. Code outside of transform() runs once, at build time; imports stand at the top.
"""

import logging

from hookloom import Event, Verdict, config, drop, replace


def transform(event: Event) -> Verdict:
    only = config.get("only")
    if only is not None and only != event.name:
        return drop("unwanted", f"only {only} is wanted")
    logging.debug("wrapping %s", event.name)
    # A failure is raised: raise invalid_event("no-email", "…")
    return replace({"event": event.name, "id": event.entity_id, "payload": event.payload})
