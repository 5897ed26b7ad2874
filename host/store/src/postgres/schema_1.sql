-- Times are milliseconds since the epoch. Ids are uuids (version 7, so they sort by time). Numbers are int8, so that every number has
-- one type in the host; states and kinds are int2. JSON is text, because no statement looks into it. Key columns compare bytes
-- (COLLATE "C"), whatever the collation of the database. No foreign keys: the writer keeps rows together, and deletes in steps.

-- Number of the schema, what a host must know to work with it, and the master key that sealed the secrets.
CREATE TABLE host (
  only_row      bool PRIMARY KEY DEFAULT true CHECK (only_row),
  schema        int8 NOT NULL,
  needs         int8 NOT NULL,                    -- the least schema that a host must know
  needs_version text NOT NULL,                    -- the first version of Hookloom that knows that one
  master_key    bytea                             -- derived from the master key, so that another one is noticed
) WITH (fillfactor = 20);

-- Hosts with a lease or a lease that ended and was not taken over. Each renews its lease every second.
CREATE TABLE hosts (
  host           int2 PRIMARY KEY,
  identity       uuid NOT NULL UNIQUE,            -- of the host's data folder
  epoch          int8 NOT NULL,
  name           text NOT NULL,
  version        text NOT NULL,
  knows          int8 NOT NULL,                   -- the newest schema that its program knows
  started_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
  lease_until    timestamptz NOT NULL,
  generation     int8,                            -- the last change that is in force there; null: the host has not loaded the catalog
  attempts_per_s float8 NOT NULL DEFAULT 0,       -- for operators, as of the last renewal
  under_way      int8 NOT NULL DEFAULT 0
) WITH (fillfactor = 20);

-- One row for each number that a host ever had. A transaction of a host begins with an update of its row, so that it waits for a takeover
-- and the other way round, and so that a host learns after a lost answer whether its last transaction was committed.
CREATE TABLE fences (
  host        int2 PRIMARY KEY,
  epoch       int8 NOT NULL,                      -- raised by each registration and by a takeover
  transaction uuid
) WITH (fillfactor = 20);

-- Who runs the lanes of which subscriptions.
CREATE TABLE shards (
  shard         int2 PRIMARY KEY,
  owner         int2,                             -- null: the next host that registers
  taken_over_at timestamptz,                      -- when it was taken over from a host that may still have had attempts under way
  pinned_to     uuid                              -- identity of the host that an operator moved it to; null: the hosts balance it
) WITH (fillfactor = 50);
INSERT INTO shards (shard) SELECT generate_series(0, 255);

-- Hosts that were taken over and have not registered again, for operators.
CREATE TABLE lost_hosts (
  identity uuid PRIMARY KEY,
  host     int2 NOT NULL,
  name     text NOT NULL,
  version  text NOT NULL,
  lost_at  timestamptz NOT NULL
);

-- What hosts load again: changes of tenants, credentials, subscriptions and plugins, and deliveries that an operator changed. Each is
-- written by a transaction that runs alone in the fleet, so the numbers grow in the order of the commits.
CREATE TABLE fleet_changes (
  generation int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  kind       text NOT NULL,
  tenant     text,
  id         uuid,
  hash       bytea,
  made_at    timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Hints of hosts that cannot notify each other, because they are behind a pooler: the last ones of each host. A crash may empty the table.
CREATE UNLOGGED TABLE hints (
  host          int2 NOT NULL,
  slot          int2 NOT NULL,                    -- -1: who is a member or owns what has changed
  number        int8 NOT NULL,
  subscriptions uuid[],                           -- that have new deliveries; null: any may have
  PRIMARY KEY (host, slot)
) WITH (fillfactor = 50);

-- Begins a transaction of a host. Returns the last change.
CREATE FUNCTION fence(of_host int2, of_epoch int8, of_transaction uuid) RETURNS int8 LANGUAGE plpgsql AS $$
BEGIN
  UPDATE fences SET transaction = of_transaction WHERE host = of_host AND epoch = of_epoch;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'another host has taken over' USING ERRCODE = 'HL001';
  END IF;
  RETURN (SELECT coalesce(max(generation), 0) FROM fleet_changes);
END $$;

-- Begins a transaction that no other transaction of any host runs beside.
CREATE FUNCTION fence_all(of_host int2, of_epoch int8, of_transaction uuid) RETURNS int8 LANGUAGE plpgsql AS $$
BEGIN
  PERFORM 1 FROM fences ORDER BY host FOR UPDATE;
  PERFORM set_config('hookloom.alone', 'on', true);
  RETURN fence(of_host, of_epoch, of_transaction);
END $$;

-- Records a change. The transaction must be alone, or a host could miss it.
CREATE FUNCTION note_change(of_kind text, of_tenant text, of_id uuid, of_hash bytea) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF current_setting('hookloom.alone', true) IS DISTINCT FROM 'on' THEN
    RAISE EXCEPTION 'a change of % is not alone in the fleet', of_kind;
  END IF;
  INSERT INTO fleet_changes (kind, tenant, id, hash) VALUES (of_kind, of_tenant, of_id, of_hash);
END $$;

-- Written by each readiness check: only a write that changes something is flushed, and only a flush tells.
CREATE TABLE readiness (
  only_row      bool PRIMARY KEY DEFAULT true CHECK (only_row),
  checked_at_ms int8 NOT NULL
);

CREATE TABLE tenants (
  id                text COLLATE "C" PRIMARY KEY,
  event_types       text NOT NULL,                -- JSON: {"Contact is Deleted": {"module": "Contact"}}
  limits_max        text NOT NULL,                -- JSON: maxima for plugin calls, such as {"cpu_ms": 20}
  egress            text NOT NULL,                -- JSON: {"deny": ["203.0.113.0/24"], "only": []}
  created_at_ms     int8 NOT NULL,
  alerts            text NOT NULL DEFAULT '{}',   -- JSON: recipients, thresholds, quiet hours
  deleting_since_ms int8                          -- null: the tenant is not being deleted
);

-- The part of a tenant's ledger that cannot be counted from the other tables, and the usage, which triggers count. Each host adds to
-- its own row of a tenant, so that hosts do not wait for each other: the tenant's numbers are the sums, and a row may be negative.
CREATE TABLE ledgers (
  tenant                     text COLLATE "C" NOT NULL,
  host                       int2 NOT NULL DEFAULT 0, -- 0: connections of no host, and what was moved from another database
  replayed                   int8 NOT NULL DEFAULT 0,
  tests                      int8 NOT NULL DEFAULT 0,
  events_pruned              int8 NOT NULL DEFAULT 0,
  fan_out_pruned             int8 NOT NULL DEFAULT 0,
  delivered_pruned           int8 NOT NULL DEFAULT 0,
  dropped_pruned             int8 NOT NULL DEFAULT 0,
  dead_pruned                int8 NOT NULL DEFAULT 0,
  cancelled_pruned           int8 NOT NULL DEFAULT 0,
  superseded_pruned          int8 NOT NULL DEFAULT 0,
  events_kept                int8 NOT NULL DEFAULT 0,
  bytes_kept                 int8 NOT NULL DEFAULT 0,
  bytes_of_events            int8 NOT NULL DEFAULT 0,
  bytes_of_deliveries        int8 NOT NULL DEFAULT 0,
  bytes_of_attempts          int8 NOT NULL DEFAULT 0,
  bytes_of_plugins           int8 NOT NULL DEFAULT 0,
  bytes_of_subscriptions     int8 NOT NULL DEFAULT 0,
  bytes_of_bins              int8 NOT NULL DEFAULT 0,
  bytes_of_rejected_requests int8 NOT NULL DEFAULT 0,
  bytes_of_idempotency_keys  int8 NOT NULL DEFAULT 0,
  bytes_of_changes           int8 NOT NULL DEFAULT 0,
  bytes_of_access            int8 NOT NULL DEFAULT 0,
  bytes_of_statistics        int8 NOT NULL DEFAULT 0,
  PRIMARY KEY (tenant, host)
) WITH (fillfactor = 50);

-- Only hashes: a stolen database opens no door.
CREATE TABLE keys (
  id            uuid PRIMARY KEY,
  tenant        text COLLATE "C",                 -- null: an admin key
  hash          bytea NOT NULL UNIQUE,
  hint          text NOT NULL,                    -- the first characters, to tell keys apart
  scopes        text NOT NULL,                    -- JSON: ["send", "read", "manage"]
  label         text NOT NULL,
  created_at_ms int8 NOT NULL,
  used_at_ms    int8
);
CREATE INDEX keys_of_tenant ON keys (tenant);

CREATE TABLE intake_tokens (
  tenant        text COLLATE "C" NOT NULL,
  id            uuid NOT NULL,
  hash          bytea NOT NULL UNIQUE,
  hint          text NOT NULL,
  label         text NOT NULL,
  created_at_ms int8 NOT NULL,
  PRIMARY KEY (tenant, id)
);

-- Who is signed in to the pages: the hash of a cookie, and the key that it stands for.
CREATE TABLE sessions (
  hash          bytea PRIMARY KEY,
  key           uuid NOT NULL,
  csrf          text NOT NULL,
  created_at_ms int8 NOT NULL,
  expires_at_ms int8 NOT NULL
);
CREATE INDEX sessions_of_key ON sessions (key, created_at_ms);
CREATE INDEX sessions_by_end ON sessions (expires_at_ms);

-- Links that sign in once.
CREATE TABLE sign_in_links (
  hash          bytea PRIMARY KEY,
  key           uuid NOT NULL,
  expires_at_ms int8 NOT NULL
);
CREATE INDEX sign_in_links_of_key ON sign_in_links (key, expires_at_ms);
CREATE INDEX sign_in_links_by_end ON sign_in_links (expires_at_ms);

-- Portal: links that sign a customer of a platform in once, and the sessions that began with them.
CREATE TABLE portal_sessions (
  hash          bytea PRIMARY KEY,                -- of the link's token, or of the session's cookie
  tenant        text COLLATE "C" NOT NULL,
  id            uuid NOT NULL,                    -- a session keeps that of its link
  csrf          text,                             -- null: a link that was not used
  session_s     int8 NOT NULL,
  read_only     boolean NOT NULL,
  return_url    text,
  created_at_ms int8 NOT NULL,                    -- of the link, or the beginning of the session
  expires_at_ms int8 NOT NULL
);
CREATE INDEX portal_sessions_of_tenant ON portal_sessions (tenant, created_at_ms);
CREATE INDEX portal_sessions_by_end ON portal_sessions (expires_at_ms);

CREATE TABLE subscriptions (
  tenant           text COLLATE "C" NOT NULL,
  id               uuid NOT NULL,
  settings         text NOT NULL,                 -- JSON, without secrets
  sealed           bytea NOT NULL,                -- signing secrets and plugin secrets, encrypted
  state            int2 NOT NULL,                 -- 0 active, 1 paused, 2 disabled
  state_reason     text,
  paused_at_ms     int8,                          -- when the age clock stopped
  generation       int8 NOT NULL,
  created_at_ms    int8 NOT NULL,
  failing_since_ms int8,
  pauses           text NOT NULL DEFAULT '[]',    -- JSON, [[from, to], …]: time that is not part of the age of deliveries
  PRIMARY KEY (tenant, id)
);

-- Components by content; tenants that upload the same bytes share a row but never see each other's versions.
CREATE TABLE components (
  sha256 text COLLATE "C" PRIMARY KEY,
  bytes  bytea NOT NULL
);

CREATE TABLE plugin_versions (
  tenant        text COLLATE "C" NOT NULL,
  name          text COLLATE "C" NOT NULL,
  sha256        text COLLATE "C" NOT NULL,
  seq           int8 GENERATED ALWAYS AS IDENTITY, -- the order of the uploads
  size          int8 NOT NULL,
  report        text NOT NULL,                    -- JSON: what the check found
  created_at_ms int8 NOT NULL,
  created_by    text NOT NULL,
  PRIMARY KEY (tenant, name, sha256)
);
CREATE INDEX plugin_versions_of_component ON plugin_versions (sha256);

CREATE TABLE plugins (
  tenant          text COLLATE "C" NOT NULL,
  name            text COLLATE "C" NOT NULL,
  active_sha256   text COLLATE "C" NOT NULL,
  activated_at_ms int8 NOT NULL,
  activated_by    text NOT NULL,
  PRIMARY KEY (tenant, name)
);

-- The last component that came from each file of the plugins folder: the same file does not come twice, so a restart
-- never undoes an activation by API.
CREATE TABLE plugin_files (
  tenant text COLLATE "C" NOT NULL,
  name   text COLLATE "C" NOT NULL,
  sha256 text COLLATE "C" NOT NULL,
  PRIMARY KEY (tenant, name)
);

-- Rollouts of versions in addition to the active one: at most one for each plugin. An ended rollout stays, with its reason.
CREATE TABLE rollouts (
  tenant        text COLLATE "C" NOT NULL,
  name          text COLLATE "C" NOT NULL,
  kind          int2 NOT NULL,                    -- 0 canary, 1 shadow
  sha256        text COLLATE "C" NOT NULL,
  percent       float8 NOT NULL,                  -- of a canary: how much of the events it judges
  started_at_ms int8 NOT NULL,
  ended_reason  text,                             -- null: under way
  earlier       text NOT NULL DEFAULT '[]',       -- JSON, [[ms, percent], …]: the arm of an event never changes
  PRIMARY KEY (tenant, name)
);

-- Counts of each host for the latest rollout of a plugin, as JSON of the plugin runtime, so that a restart forgets nothing.
CREATE TABLE rollout_counts (
  tenant text COLLATE "C" NOT NULL,
  name   text COLLATE "C" NOT NULL,
  host   int2 NOT NULL,
  counts text NOT NULL,
  PRIMARY KEY (tenant, name, host)
);

-- Versions of plugins in whose call the host died, and which it does not call again.
CREATE TABLE quarantine (
  tenant   text COLLATE "C" NOT NULL,
  sha256   text COLLATE "C" NOT NULL,
  since_ms int8 NOT NULL,
  reason   text NOT NULL,
  PRIMARY KEY (tenant, sha256)
);

-- Columns of a fixed size come first, without gaps between them.
CREATE TABLE events (
  id             uuid NOT NULL,
  seq            int8 GENERATED ALWAYS AS IDENTITY, -- the order of acceptance
  received_at_ms int8 NOT NULL,
  fan_out        int8 NOT NULL,                   -- number of deliveries at acceptance
  tenant         text COLLATE "C" NOT NULL,
  name           text COLLATE "C" NOT NULL,
  module         text COLLATE "C" NOT NULL,
  entity_id      text COLLATE "C",
  payload        bytea NOT NULL,
  PRIMARY KEY (tenant, id)
);
-- What plugins read as history: the last event of the same entity that was accepted before.
CREATE INDEX events_of_entity ON events (tenant, module, entity_id, seq) WHERE entity_id IS NOT NULL;

-- In two parts, between which a row moves when its state changes: what is pending is small and changes often, and what has ended is
-- large and rarely changes. So a vacuum reads few pages, and a new delivery has entries only in the indexes that lanes need.
CREATE TABLE deliveries (
  id              uuid NOT NULL,
  event           uuid NOT NULL,
  subscription    uuid NOT NULL,
  due_at_ms       int8 NOT NULL,
  attempts_made   int8 NOT NULL DEFAULT 0,        -- ever
  budget_spent    int8 NOT NULL DEFAULT 0,        -- of the schedule, since it was last made pending by hand
  age_from_ms     int8 NOT NULL,
  created_at_ms   int8 NOT NULL,
  updated_at_ms   int8 NOT NULL,
  kind            int2 NOT NULL,                  -- 0 promised when the event was accepted, 1 replayed, 2 a test
  state           int2 NOT NULL,                  -- 0 pending, 1 delivered, 2 dropped, 3 dead, 4 cancelled, 5 superseded
  awaiting_plugin bool NOT NULL DEFAULT false,    -- true: due when version or config changes, at the latest at due_at_ms
  tenant          text COLLATE "C" NOT NULL,
  order_key       bytea,                          -- the entity, where deliveries of one entity keep their order
  reason          text,                           -- JSON: {"code", "message"} of the last attempt or of the end
  last_attempt    text,                           -- JSON: the attempt that ended the delivery first, as it is shown
  settles_key      bytea,                         -- the entity, until the delivery is taken up or superseded
  settles_until_ms int8,                          -- latest due time of the burst
  settled_events   int8,                          -- number of events that the delivery stands for
  settled_first    uuid,                          -- the first of them
  superseded_by    uuid                           -- the delivery that stands for this one
) PARTITION BY LIST (state);

CREATE TABLE deliveries_pending PARTITION OF deliveries (PRIMARY KEY (tenant, id)) FOR VALUES IN (0)
  WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);
-- First attempts and further ones are read apart, so that no backlog of retries stands before new events.
CREATE INDEX deliveries_due ON deliveries_pending (tenant, subscription, (attempts_made > 0), due_at_ms, id);
CREATE INDEX deliveries_in_order ON deliveries_pending (tenant, subscription, order_key, id) WHERE order_key IS NOT NULL;
-- What waits for another plugin version or config, and the oldest delivery that was attempted before.
CREATE INDEX deliveries_retried ON deliveries_pending (tenant, subscription, awaiting_plugin, id) WHERE attempts_made > 0;
-- Ids of events are unique, so the tenant would only make the entries larger.
CREATE INDEX deliveries_pending_of_event ON deliveries_pending (event);

-- What a later event of the same entity supersedes.
CREATE INDEX deliveries_settling ON deliveries_pending (subscription, settles_key) WHERE settles_key IS NOT NULL;

CREATE TABLE deliveries_ended PARTITION OF deliveries (PRIMARY KEY (tenant, id)) FOR VALUES IN (1, 2, 3, 4, 5);
CREATE INDEX deliveries_of_subscription ON deliveries_ended (tenant, subscription, id);
CREATE INDEX deliveries_of_event ON deliveries_ended (event);
-- What people look for among a million: what did not end well.
CREATE INDEX deliveries_ended_otherwise ON deliveries_ended (tenant, state, id) WHERE state >= 2;

-- Attempts that did not end their delivery first.
CREATE TABLE attempts (
  tenant   text COLLATE "C" NOT NULL,
  delivery uuid NOT NULL,
  number   int8 NOT NULL,
  detail   text NOT NULL,                         -- JSON: the attempt as it is shown
  PRIMARY KEY (tenant, delivery, number)
);

-- Requests whose events are durable and whose deliveries are not all made yet: they are made in steps, also after a restart.
CREATE TABLE fan_outs (
  tenant text COLLATE "C" NOT NULL,
  id     uuid NOT NULL,
  events uuid[] NOT NULL,                         -- events that lack deliveries, in their order
  after  uuid,                                    -- the subscription up to which the first of them has its deliveries; null: none has
  made   int8 NOT NULL,                           -- number of deliveries that the first of them has
  lacks  int8 NOT NULL,                           -- number of deliveries that all of them lack
  PRIMARY KEY (tenant, id)
);

-- Requests with an Idempotency-Key, and what was answered.
CREATE TABLE idempotency_keys (
  tenant         text COLLATE "C" NOT NULL,
  key            text COLLATE "C" NOT NULL,
  body_sha256    bytea NOT NULL,
  answer         text NOT NULL,                   -- JSON: [[event, deliveries], …]
  received_at_ms int8 NOT NULL,
  PRIMARY KEY (tenant, key)
);
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (received_at_ms);

-- Changes whose effect on deliveries is not complete: these become due in steps, also after a restart. One of the two names what
-- changed; the other one is empty.
CREATE TABLE sweeps (
  tenant       text COLLATE "C" NOT NULL,
  plugin       text COLLATE "C" NOT NULL,         -- '': a subscription changed
  subscription uuid NOT NULL,                     -- the nil uuid: a plugin changed
  at_ms        int8 NOT NULL,
  PRIMARY KEY (tenant, plugin, subscription)
);

-- Every change that somebody made: who, what, and how it was before and after, without secrets.
CREATE TABLE changes (
  tenant  text COLLATE "C" NOT NULL,              -- '': the host's own
  id      uuid NOT NULL,
  at_ms   int8 NOT NULL,
  who     text NOT NULL,
  action  text NOT NULL,
  subject text NOT NULL,
  before  text,                                   -- JSON
  after   text,                                   -- JSON
  PRIMARY KEY (tenant, id)
);

-- What /in received and could not be an event: kept for 7 days, because the vendor sends nothing twice.
CREATE TABLE rejected_requests (
  tenant         text COLLATE "C" NOT NULL,
  id             uuid NOT NULL,
  received_at_ms int8 NOT NULL,
  reason         text NOT NULL,
  truncated      bool NOT NULL,
  body           bytea NOT NULL,
  PRIMARY KEY (tenant, id)
);

-- Request inspectors.
-- Something of a tenant that is or was wrong, and what was told of it.
CREATE TABLE incidents (
  tenant  text COLLATE "C" NOT NULL,
  id      uuid NOT NULL,                          -- version 7: sorts by time
  kind    text NOT NULL,
  subject text NOT NULL,
  live    int2 NOT NULL,                          -- 1: it is open, or still to be told to be over
  record  text NOT NULL,                          -- JSON
  PRIMARY KEY (tenant, id)
);
CREATE UNIQUE INDEX incidents_live ON incidents (tenant, kind, subject) WHERE live = 1;

-- E-mails about incidents.
CREATE TABLE alert_emails (
  tenant    text COLLATE "C" NOT NULL,
  id        uuid NOT NULL,                        -- version 7: sorts by time
  due_at_ms int8,                                 -- null: it was sent, or given up
  record    text NOT NULL,                        -- JSON
  PRIMARY KEY (tenant, id)
);
CREATE INDEX alert_emails_due ON alert_emails (due_at_ms) WHERE due_at_ms IS NOT NULL;

CREATE TABLE bins (
  id            text COLLATE "C" PRIMARY KEY,     -- what the receiving URL holds: cannot be guessed
  tenant        text COLLATE "C" NOT NULL,
  settings      text NOT NULL,                    -- JSON
  created_at_ms int8 NOT NULL,
  received      int8 NOT NULL DEFAULT 0           -- ever: which answer of a script is next
);
CREATE INDEX bins_of_tenant ON bins (tenant, id);

CREATE TABLE bin_requests (
  bin            text COLLATE "C" NOT NULL,
  id             uuid NOT NULL,
  received_at_ms int8 NOT NULL,
  head           text NOT NULL,                   -- JSON: method, path, query, headers, remote address, size
  body           bytea NOT NULL,
  PRIMARY KEY (bin, id)
);
CREATE INDEX bin_requests_by_age ON bin_requests (received_at_ms);

-- What happened in a span of time, for the overview: counts and latencies. Spans are a minute, kept for a day, and an hour,
-- kept for eight days.
CREATE TABLE figures (
  tenant       text COLLATE "C" NOT NULL,
  span_s       int8 NOT NULL,
  at_s         int8 NOT NULL,                     -- the span's beginning, since the epoch
  subscription uuid NOT NULL,
  plugin       text COLLATE "C" NOT NULL,         -- '': without one
  figures      text NOT NULL,                     -- JSON
  PRIMARY KEY (tenant, span_s, at_s, subscription, plugin)
);

-- Notes that a row changed. Arguments: the kind, and the columns of the tenant, the id and the hash ('' if there is none).
CREATE FUNCTION note_row() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  changed jsonb := to_jsonb(CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END);
BEGIN
  PERFORM note_change(TG_ARGV[0], changed ->> TG_ARGV[1], (changed ->> TG_ARGV[2])::uuid, (changed ->> TG_ARGV[3])::bytea);
  RETURN NULL;
END $$;

CREATE TRIGGER note_tenant AFTER INSERT OR DELETE OR UPDATE ON tenants
  FOR EACH ROW EXECUTE FUNCTION note_row('tenant', 'id', '', '');
CREATE TRIGGER note_key AFTER INSERT OR DELETE OR UPDATE OF hash, scopes, label ON keys
  FOR EACH ROW EXECUTE FUNCTION note_row('key', 'tenant', 'id', 'hash');
CREATE TRIGGER note_token AFTER INSERT OR DELETE OR UPDATE ON intake_tokens
  FOR EACH ROW EXECUTE FUNCTION note_row('token', 'tenant', 'id', 'hash');
CREATE TRIGGER note_session AFTER INSERT OR DELETE OR UPDATE ON sessions
  FOR EACH ROW EXECUTE FUNCTION note_row('session', '', '', 'hash');
CREATE TRIGGER note_subscription AFTER INSERT OR DELETE OR UPDATE ON subscriptions
  FOR EACH ROW EXECUTE FUNCTION note_row('subscription', 'tenant', 'id', '');
CREATE TRIGGER note_plugin AFTER INSERT OR DELETE OR UPDATE ON plugins
  FOR EACH ROW EXECUTE FUNCTION note_row('plugin', 'tenant', '', '');
CREATE TRIGGER note_version AFTER DELETE ON plugin_versions
  FOR EACH ROW EXECUTE FUNCTION note_row('plugin', 'tenant', '', '');
CREATE TRIGGER note_rollout AFTER INSERT OR DELETE OR UPDATE OF kind, sha256, percent, started_at_ms, ended_reason, earlier ON rollouts
  FOR EACH ROW EXECUTE FUNCTION note_row('plugin', 'tenant', '', '');
CREATE TRIGGER note_quarantine AFTER INSERT OR DELETE OR UPDATE ON quarantine
  FOR EACH ROW EXECUTE FUNCTION note_row('plugin', 'tenant', '', '');
