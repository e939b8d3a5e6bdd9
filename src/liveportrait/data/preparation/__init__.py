"""Preparing training shards from raw videos and pictures; docs/training/data.md explains the steps."""
