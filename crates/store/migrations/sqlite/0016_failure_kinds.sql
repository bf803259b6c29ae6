-- What did not work: the handler, or the fetch of the tenant's data. Of results, status 4 is a failure of data.
ALTER TABLE @dead_letters ADD COLUMN failure_kind TEXT NOT NULL DEFAULT 'handler';
