-- Several gateways on one store: a connection is renewed by one of them at a time, which claims what it has seen, and what
-- it stores takes the place of exactly that. A claim ends by itself.

ALTER TABLE connections ADD COLUMN revision      TEXT NOT NULL DEFAULT '';
ALTER TABLE connections ADD COLUMN claimed_by    TEXT;
ALTER TABLE connections ADD COLUMN claimed_until INTEGER;
