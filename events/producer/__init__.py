"""The way in: typed commands, decided against what stands and appended in batches."""
