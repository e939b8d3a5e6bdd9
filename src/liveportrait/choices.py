"""The words that users choose between. Every room may import them, and importing them costs nothing."""

from __future__ import annotations

from typing import Literal

Region = Literal["all", "expression", "pose", "lips", "eyes"]
MotionMode = Literal["relative", "absolute"]
DrivingOption = Literal["expression-friendly", "pose-friendly"]
AudioMode = Literal["driving", "none"]
Precision = Literal["fp32", "bf16"]
