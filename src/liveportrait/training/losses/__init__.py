"""The losses of the paper's joint training, one file a family; docs/training/losses.md lists them with their weights.

Every loss is a small function of tensors that returns a scalar, a mean over the batch. Keypoints are in the
crop's coordinates, [-1, 1] from side to side, x right and y down.
"""

from liveportrait.training.losses.weights import JointWeights

__all__ = ["JointWeights"]
