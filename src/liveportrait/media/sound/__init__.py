"""Sound: the packets and samples of a file's audio, and copying it into another file."""
