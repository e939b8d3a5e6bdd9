"""Many jobs of a manifest: what it asks for, what is done already, and who does the rest."""
