"""The portrait: a source opened once, then driven, edited or moved live, to frames or to files."""
