"""From raw videos and pictures to training shards; docs/training/data.md tells the steps and the reasons."""
