"""V, which moves a face by a voice: speech to lips, the free part to head, eyes and brows, and a scorer of both."""
