-- How many requests a token may make in a window of time. Tokens that are issued for it have the same.
ALTER TABLE tokens ADD COLUMN quota_requests INTEGER NOT NULL DEFAULT 0;    -- 0: as many as it likes
ALTER TABLE tokens ADD COLUMN quota_window_ms INTEGER NOT NULL DEFAULT 0;
