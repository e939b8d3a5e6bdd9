"""The page that needs no server: its files, the folder that they are built into, and the command that serves it."""
