"""The losses, one file per family; docs/training/losses.md lists those of the paper's joint training and their weights.

Every loss is a small function of tensors that returns a scalar, a mean over the batch. Keypoints are in the
crop's coordinates, [-1, 1] from side to side, x right and y down.
"""
