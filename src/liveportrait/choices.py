"""The words that users choose between. Any package may import them, and importing them costs nothing."""

from __future__ import annotations

from typing import Literal

Region = Literal["all", "expression", "pose", "lips", "eyes"]
MotionMode = Literal["relative", "absolute"]
DrivingOption = Literal["expression-friendly", "pose-friendly"]
ExpressionMode = Literal["faithful", "landmarks"]
Framing = Literal["steady", "follow"]  # whether a driver's camera moves the portrait's head
MouthMode = Literal["follow", "own", "silent", "replace", "speak"]
AudioMode = Literal["driving", "source", "none"]
VideoCodec = Literal["auto", "prores"]
PasteMask = Literal["template", "face"]
Reduction = Literal["area", "bilinear"]  # how pictures are scaled down: by averaging or by interpolation
Subject = Literal["auto", "person", "animal"]
ReferenceName = Literal["match", "first", "auto"]
Reference = int | ReferenceName  # frame of a driver: its number, counted from 0, or how to find it
Precision = Literal["fp32", "bf16", "fp16"]
PrecisionChoice = Literal["auto"] | Precision
BackendName = Literal["auto", "eager", "compile", "cudagraphs", "onnx", "openvino", "tensorrt", "winograd"]
ExportFormat = Literal["onnx", "openvino", "tensorrt", "web"]
# Opening of an eye or the lips, height over width; None leaves it to the motion.
Opening = float | Literal["driver"] | None
MAX_OPENING = 0.8  # end of the published retargeting modules' range
