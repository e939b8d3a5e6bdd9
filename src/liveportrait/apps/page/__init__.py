"""The web page: animate and edit portraits in a browser, on the same `Portrait` object as everything else."""
