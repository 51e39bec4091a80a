"""The revisions of the records' schema, for both databases; `api.migrate` runs them."""
