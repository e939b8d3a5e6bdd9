"""From raw videos and pictures to training shards; docs/data.md tells the steps and the reasons."""
