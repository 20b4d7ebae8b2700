-- Keys of people that mean something within one scope alone: a caller, or a session. NULL: everywhere. `scope` is a digest; who
-- ends a scope destroys its keys.
ALTER TABLE subject_keys ADD COLUMN scope BLOB CHECK (scope IS NULL OR length(scope) = 32);

CREATE INDEX subject_keys_by_scope ON subject_keys (scope) WHERE scope IS NOT NULL;
