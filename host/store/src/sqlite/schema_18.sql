-- What was counted of a rollout: JSON of the plugin runtime, so that a restart forgets nothing.
ALTER TABLE rollouts ADD COLUMN counts TEXT NOT NULL DEFAULT '';
