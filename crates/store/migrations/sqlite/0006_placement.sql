-- How a job placed its tenants (defaults, zone, spread) when it was last planned, as JSON. Null: a fixed schedule, or planned
-- before there was this column.
ALTER TABLE @schedule_progress ADD COLUMN placement TEXT;

-- When a job that follows preferences was first planned from: a preference that comes late runs nothing from before. Null: before
-- there was this column.
ALTER TABLE @schedule_progress ADD COLUMN began INTEGER;
