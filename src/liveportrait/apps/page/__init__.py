"""The web page: portraits animated and edited in a browser, over the same portrait object as everything else."""
