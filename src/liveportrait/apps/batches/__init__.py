"""The jobs of a manifest: reading it, recording what is done, and running the rest."""
