-- What is rare is found without looking through what is over: batches in a status, and deliveries that have not been made.
CREATE INDEX @batches_of_status ON @batches (status, scheduled_at, batch_id);
CREATE INDEX @deliveries_of_state ON @deliveries (state);
