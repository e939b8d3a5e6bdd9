"""The networks of V, which drives a face by a voice: the listener, the speech network, and the sync scorer."""
