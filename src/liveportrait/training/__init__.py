"""Training: the paper's two stages, fine-tuning, and the detector of animals' faces.

- `config`, `phase`, `checkpoint`: a run's settings, its one training loop, its state on disk; resuming is exact.
- `data`: clips, samplers and batches. `losses`: small functions of tensors.
- `stage_one`: F, M, W and G. `stage_two`: stitching, eye and lip retargeting. `fine_tune` and `animals` build on them.

Two parts have never run on the hardware they are meant for: training on several GPUs or machines (`distributed`, with
batch norms over all processes) and streaming shards from a large store (`data.stream`). They should not grow before
they have. Tests compare the gradients of two CPU processes with those of one, and a stream's clips with those of a
corpus in memory.
"""
