"""The joint phase of stage one (paper, section 3.2): F, M, W and G on pairs driven by M, against discriminators."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from liveportrait.face.identity import FaceIdentity
from liveportrait.networks import Networks
from liveportrait.networks.geometry import pose_of, transform_keypoints
from liveportrait.networks.interface import Motion
from liveportrait.networks.keypoints import MOUTH
from liveportrait.training.checkpoint import TrainingState, ema_copy
from liveportrait.training.losses.discriminator import Discriminators, adversarial_terms, discriminator_loss
from liveportrait.training.losses.motion import (
    consistency,
    deformation_prior,
    equivariance,
    head_pose,
    keypoint_prior,
    landmark_guide,
    motion_losses,
)
from liveportrait.training.losses.perceptual import identity_distance, perceptual_network
from liveportrait.training.losses.rendering import (
    REGIONS,
    Rendered,
    RenderWeights,
    cut_regions,
    face_and_lips,
    pyramid_l1,
    region_weights,
    render_losses,
    unneeded_motion,
)
from liveportrait.training.losses.transforms import Transform, random_transform
from liveportrait.training.phase import Objective, Terms, weighted_sum
from liveportrait.training.stage_one.config import JointSettings
from liveportrait.training.stage_one.joint_model import (
    CompactJointModel,
    JointModel,
    Pair,
    Scene,
    at,
    joint_model,
    resized,
)

Regions = dict[str, Tensor]  # pictures or boxes, by the name of the region


class JointTrainer:
    """Generator (F, M, W, G) and discriminators with their losses.

    `state` holds networks, optimisers and the moving average for a `Phase`; `average` is the result.
    """

    def __init__(
        self,
        networks: Networks,
        settings: JointSettings,
        device: torch.device,
        *,
        bf16: bool = True,
        from_scratch: bool = False,
        chips: Tensor | None = None,
        vgg19: Path | None = None,
    ) -> None:
        """`chips`: see `losses.perceptual.chip_map`, needed for the identity term; `vgg19`: its file, if chosen."""
        self.settings, self.device, self.bf16 = settings, device, bf16
        weights = settings.weights
        self.model: JointModel = joint_model(networks, from_scratch).to(device)
        self.model.train().requires_grad_(True)
        self.start: JointModel | None = ema_copy(self.model) if weights.anchor > 0 else None
        self.discriminators: Discriminators | None = None
        if weights.adversarial:
            judged = [n for n in REGIONS if weights.of_region("gan", n) or weights.of_region("matching", n)]
            self.discriminators = Discriminators(judged, settings.discriminator_channels).to(device)
        backbone = perceptual_network(settings.perceptual, vgg19)
        self.perceptual = None if backbone is None else backbone.to(device)
        self.identity: nn.Module | None = None
        if weights.identity > 0 and settings.identity != "none" and chips is not None:
            self.identity, self.chips = FaceIdentity().to(device), chips.to(device)
        self.average: JointModel = ema_copy(self.model)
        self.state = self._state()

    def _state(self) -> TrainingState:
        settings = self.settings
        decay = settings.schedule.weight_decay
        betas = (settings.betas[0], settings.betas[1])
        modules: dict[str, nn.Module] = {"generator": self.model}
        optimizers: dict[str, torch.optim.Optimizer] = {
            "generator": torch.optim.AdamW(self.model.parameters(), betas=betas, weight_decay=decay)
        }
        if self.discriminators is not None:
            parameters = list(self.discriminators.parameters())
            group = {"params": parameters, "lr_scale": settings.discriminator_lr_scale}
            modules["discriminator"] = self.discriminators
            optimizers["discriminator"] = torch.optim.AdamW([group], betas=betas, weight_decay=decay)
        return TrainingState(modules, optimizers, {"generator": self.average})

    def losses(self, pair: Pair) -> Iterator[Objective]:
        """The generator's objective and, from `adversarial_from` samples on, the discriminators'."""
        adversaries = self.discriminators if self.state.samples >= self.settings.adversarial_from else None
        if self.settings.fixed_statistics:
            self.model.fix_statistics()
        loss, terms, fake, real = self.generator_loss(pair, adversaries)
        yield Objective("generator", loss, terms)
        if adversaries is not None:
            loss = discriminator_loss(adversaries, fake, real)
            yield Objective("discriminator", loss, {"discriminator": loss})

    def generator_loss(
        self, pair: Pair, adversaries: Discriminators | None
    ) -> tuple[Tensor, Terms, Regions, Regions]:
        """The weighted sum, its terms, and the regions of the rendered and the true pictures."""
        settings, size = self.settings, self.settings.size
        moved, transform = self._moved(pair)
        known = pair.transform if float(torch.rand(())) < settings.known_motion else None
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            scene = self.model(pair.source, pair.driving, moved, size, known)
        target = resized(pair.driving, size)
        boxes = self._boxes(scene, pair)
        fake, real = cut_regions(scene.picture, boxes), cut_regions(target, boxes)
        terms, details = self._motion_terms(scene, pair, transform)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            terms |= self._picture_terms(scene, pair, fake, real)
        if isinstance(self.model, CompactJointModel) and settings.weights.layers > 0:
            keypoints = transform_keypoints(pair.driving_label or scene.driving).detach()
            found = layer_terms(scene, resized(pair.source, size), target, keypoints, settings.layers)
            terms["layers"] = weighted_sum(found, settings.layers)
            details |= {f"layers/{name}": value for name, value in found.items()}
        if adversaries is not None:
            terms |= adversarial_terms(adversaries, fake, real)
        return weighted_sum(terms, settings.weights), terms | details, fake, real

    def _moved(self, pair: Pair) -> tuple[Tensor | None, Transform | None]:
        """The driving picture under a new known transform, unless a transform already relates source and driving."""
        if pair.transform is not None or self.settings.weights.equivariance == 0:
            return None, pair.transform
        transform = random_transform(len(pair), device=self.device)
        return transform.pictures(pair.driving), transform

    def _boxes(self, scene: Scene, pair: Pair) -> Regions:
        """Boxes around face and lips of the driving picture, from its label or from M's keypoints."""
        if pair.driving_label is not None:
            labelled = transform_keypoints(pair.driving_label)
            return face_and_lips(labelled, at(labelled, MOUTH))
        found = transform_keypoints(scene.driving)
        return face_and_lips(found, at(found, self.model.lips))

    def _motion_terms(self, scene: Scene, pair: Pair, transform: Transform | None) -> tuple[Terms, Terms]:
        """The terms on keypoints and motion, and the parts of "labels" for the log."""
        weights, model = self.settings.weights, self.model
        source, driving = transform_keypoints(scene.source), transform_keypoints(scene.driving)
        terms: Terms = {}
        details: Terms = {}
        if transform is not None and weights.equivariance > 0:
            before, after = (
                (source, driving) if scene.moved is None else (driving, transform_keypoints(scene.moved))
            )
            terms["equivariance"] = equivariance(before, after, transform)
        if weights.keypoint_prior > 0:
            terms["keypoint_prior"] = keypoint_prior(driving, model.guided)
        if weights.deformation > 0:
            terms["deformation"] = deformation_prior(scene.driving.expression)
        if pair.transform is not None and weights.consistency > 0:
            terms["consistency"] = consistency(scene.driving, pair.transform.motion(scene.source))
        if self.start is not None:
            terms["anchor"] = anchor(self.start, scene, pair)
        if pair.source_label is None or pair.driving_label is None:
            return terms, details
        if weights.head_pose > 0:
            poses = ((scene.source, pair.source_label), (scene.driving, pair.driving_label))
            terms["head_pose"] = torch.stack([head_pose(a.rotation, b.rotation) for a, b in poses]).mean()
        if weights.guide > 0:
            labels = [
                at(transform_keypoints(m), model.guides)[..., :2]
                for m in (pair.source_label, pair.driving_label)
            ]
            found = at(source, model.guided), at(driving, model.guided)
            terms["guide"] = landmark_guide(*found, *labels)
        if isinstance(model, CompactJointModel) and weights.labels > 0:
            parts = label_terms(scene, pair.source_label, pair.driving_label)
            terms["labels"] = weighted_sum(parts, self.settings.labels)
            details = {f"labels/{name}": value for name, value in parts.items()}
        return terms, details

    def _picture_terms(self, scene: Scene, pair: Pair, fake: Regions, real: Regions) -> Terms:
        """Perceptual terms by region, identity, and pyramid L1."""
        weights = self.settings.weights
        terms: Terms = {}
        if self.perceptual is not None:
            for region in fake:
                if weights.of_region("perceptual", region) > 0:
                    terms[f"perceptual_{region}"] = self.perceptual(fake[region], real[region])
        if self.identity is not None and pair.driving_label is not None:
            points = self.chips @ transform_keypoints(pair.driving_label)[..., :2]
            terms["identity"] = identity_distance(self.identity, fake["whole"], real["whole"], points)
        if weights.picture > 0:
            everywhere = torch.ones_like(scene.picture[:, :1])
            terms["picture"] = pyramid_l1(scene.picture, real["whole"], everywhere)
        return terms


def label_terms(scene: Scene, source: Motion, driving: Motion) -> Terms:
    """`motion_losses` of M against the labels, the mean over source and driving picture."""
    count = len(source.scale)
    coarse = scene.parts["coarse"]
    both = [
        motion_losses(scene.source, coarse[:count], source),
        motion_losses(scene.driving, coarse[count : 2 * count], driving),
    ]
    return {name: (both[0][name] + both[1][name]) / 2 for name in both[0]}


def layer_terms(
    scene: Scene, source: Tensor, target: Tensor, keypoints: Tensor, weights: RenderWeights
) -> Terms:
    """`render_losses` of W's and G's layers; pictures at the compared size, driving keypoints (B,21,3)."""
    rendered = Rendered(scene.picture, scene.parts["painting"], scene.parts["logits"])
    terms = render_losses(rendered, scene.parts, target, region_weights(keypoints, target.shape[-1], weights))
    poses = (pose_of(motion.map(Tensor.detach)) for motion in (scene.source, scene.driving))
    terms["still"] = unneeded_motion(scene.parts["flow"], source, target, *poses)
    return terms


def anchor(start: JointModel, scene: Scene, pair: Pair) -> Tensor:
    """Mean |x_c − x_c⁰| + mean |R − R⁰| on the source, where ⁰ marks the starting weights' values."""
    with torch.no_grad():
        before: Motion = start.read(pair.source)[0]
    canonical = (scene.source.canonical - before.canonical).abs().mean()
    return canonical + (scene.source.rotation - before.rotation).abs().mean()
