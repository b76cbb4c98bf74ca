"""Store: what the station remembers, in a database, and its images and models, as files."""
