-- Rollouts have one name: earlier hosts wrote down their beginning and end as trials.
UPDATE changes SET action = 'plugin.begin-rollout' WHERE action = 'plugin.trial';
UPDATE changes SET action = 'plugin.end-rollout' WHERE action = 'plugin.end-trial';
