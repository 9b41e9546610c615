"""The archive: older entries of the log in Parquet files outside Redis, with their writer, verification, reader and search."""
