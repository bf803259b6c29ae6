-- A preference that does not say whether it is on leaves it to the job: it is not off.
UPDATE preferences SET enabled = 1
WHERE enabled = 0 AND json_valid(preference) AND json_extract(preference, '$.enabled') IS NULL;
