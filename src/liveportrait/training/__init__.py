"""Training: the paper's two stages, fine-tuning, and the detector of animals' faces.

- `config`, `phase`, `checkpoint`: a run's settings, its one loop, its state on disk; resuming is exact.
- `data`: clips, samplers and batches. `losses`: small functions of tensors.
- `stage_one`: F, M, W and G. `stage_two`: stitching, eye and lip retargeting. `fine_tune` and `animals` stand on them.

Written for machines on which they have not been tried, and not to grow before they have: training by several GPUs or
machines (`distributed`, with batch norms over all processes) and shards streamed from a large store (`data.stream`).
Tests hold two processes on a CPU to the gradients of one, and a stream to the clips of a corpus in memory.
"""
