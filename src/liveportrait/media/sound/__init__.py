"""The sound of a file: its packets, its samples, and how it gets into another file."""
