-- How a job placed its tenants (defaults, zone, spread) when it was last planned, as JSON. Null: a fixed schedule, or planned
-- before there was this column.
ALTER TABLE schedule_progress ADD COLUMN placement TEXT;
