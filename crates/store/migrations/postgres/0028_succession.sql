-- The chunk with the earlier runs of the items of a chunk that makes up for missed runs: it is claimed first. Null: there is none.
ALTER TABLE chunks ADD COLUMN behind TEXT;
