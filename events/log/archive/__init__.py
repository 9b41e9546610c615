"""The log's older entries in Parquet files outside Redis: written, verified, moved, read, and searched by column."""
