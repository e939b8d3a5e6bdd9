/** Two ways to pose a face: by the motion of a driver, and by sliders (animation/posers.py). */

import { constants } from "../constants.js";
import { copyExpression, edit } from "../motion/editing.js";
import { OwnExpression, smoothed } from "../motion/expression.js";
import { difference, multiply, poseOf, scaled, sum, transposed } from "../motion/geometry.js";
import { retarget, usualEyes, widenLipGap } from "../motion/retargeting.js";
import {
    absolute,
    amplify,
    changeSince,
    fixCanonical,
    lockHead,
    lockScale,
    lockShoulders,
    relative,
    relativeFromPhoto,
    takePose,
    withMouth,
} from "../motion/transfer.js";

/** @typedef {import("../types.js").Pose} Pose @typedef {import("../motion/templates.js").Driving} Driving */
/**
 * @typedef {object} SourceFace
 * @property {import("../types.js").Motion} motion
 * @property {?Float32Array} ratios (3,) openings of left eye, right eye and lips; null where no face was found
 * @property {?import("../motion/expression.js").FaceShape} shape to which a driver's expressions are adapted
 */

const OPENS_LIPS = ["all", "expression", "lips"]; // regions

/** Transfers the motion of one driver to the face of a photo. */
export class MotionTransfer {
    /**
     * @param {SourceFace} face @param {Driving} start the reference of relative motion
     * @param {boolean} isPhoto whether the driver is a photo
     * @param {object} options those of `TransferOptions`, with Python's defaults
     */
    constructor(networks, face, start, isPhoto = false, options = {}) {
        const usual = constants.motion.options;
        const retargeting = { ...usual.retarget, ...options.retarget };
        this.options = { ...usual, ...options, retarget: retargeting };
        Object.assign(this, { networks, face, start, isPhoto });
        this.home = poseOf(face.motion);
        this.isRelative = this.options.motion === "relative";
        this.own = this.ownExpression();
        /** @type {WeakMap<Driving, Promise<import("../motion/expression.js").Addition>>} */
        this.additions = new WeakMap();
    }

    /** Whether the mouth follows the driver's. */
    get movesMouth() {
        return OPENS_LIPS.includes(this.options.region) && ["follow", "replace"].includes(this.options.mouth);
    }

    /** The source's pose for a frame of the driver. @param {Driving} driving @returns {Promise<Pose>} */
    async pose(driving) {
        let pose = this.own ? await this.ownPose(driving) : this.plainPose(driving);
        pose = await this.retargeted(pose, driving);
        if (this.options.stitching && this.networks.stitching) {
            pose = await stitched(this.networks, this.home, pose);
        }
        return amplify(this.home, pose, this.options.multiplier);
    }

    ownExpression() {
        const { options, face, networks } = this;
        const plain = !this.isRelative || this.isPhoto || options.expression === "landmarks";
        if (plain || !face.ratios || !face.shape || !networks.expression) {
            return null;
        }
        const { groups } = constants.motion;
        const silenced = ["own", "silent"].includes(options.mouth) ? groups.mouth : [];
        const mask = groups.relative[options.region].map(
            (follows, index) => follows && !silenced.includes(Math.floor(index / 3)),
        );
        return new OwnExpression(
            networks, face.shape, face.motion, face.ratios[2], mask, options.expressionStrength,
        );
    }

    /** The pose with the expression adapted to the face; the adaptation is smoothed over time. */
    async ownPose(driving) {
        const { own } = this;
        const { moved, change } = this.changed(driving);
        const added = driving.around
            ? smoothed(await Promise.all(driving.around.frames.map((frame) => this.added(frame))), driving.around.weights)
            : await own.addition(change);
        const whole = multiply(sum(change.expression, added.expression), moved.rotation);
        const expression = sum(this.base().expression, whole);
        return own.posed(poseOf(this.mouthed({ ...moved, expression })), change, added);
    }

    /** The addition of a frame, computed once, since neighbouring frames need it too. */
    added(frame) {
        let addition = this.additions.get(frame);
        if (!addition) {
            addition = this.own.addition(this.changed(frame).change);
            this.additions.set(frame, addition);
        }
        return addition;
    }

    /** The motion by plain differences, and the resulting change of the face at the requested strength. */
    changed(driving) {
        const start = driving.start ?? this.start;
        const { strength, source } = this.own;
        const moved = this.locked(this.followed(driving.motion, start.motion, source), source);
        const change = multiply(difference(moved.expression, source.expression), transposed(moved.rotation));
        const knowsLips = driving.ratios && start.ratios && this.movesMouth;
        return {
            moved,
            change: {
                expression: scaled(change, strength),
                lips: knowsLips ? strength * (driving.ratios[2] - start.ratios[2]) : null,
                scores: driving.scores && start.scores ? difference(driving.scores, start.scores) : null,
            },
        };
    }

    plainPose(driving) {
        const source = this.base();
        const strength = this.options.expressionStrength;
        const start = driving.start ?? this.start;
        const moved = this.locked(this.followed(driving.motion, start.motion, source), source);
        if (this.isRelative && strength !== 1) {
            const change = scaled(difference(moved.expression, source.expression), strength);
            moved.expression = sum(source.expression, change);
        }
        return poseOf(this.mouthed(moved, source));
    }

    /** The motion to which the driver's change is added: the source's, with `mouth` "replace" with its mouth at rest. */
    base() {
        const { motion } = this.face;
        return this.options.mouth === "replace" ? withMouth(motion, motion, true) : motion;
    }

    /** The motion with the mouth as the options request. */
    mouthed(moved, source = this.face.motion) {
        const { mouth } = this.options;
        return ["follow", "replace"].includes(mouth) ? moved : withMouth(moved, source, mouth === "silent");
    }

    /** The source moved by a driver's motion since its start, by plain differences. */
    followed(driving, start, source) {
        const { motion, region, photoPose } = this.options;
        if (motion === "absolute") {
            return absolute(source, driving, region);
        }
        if (!this.isPhoto) {
            return relative(source, changeSince(fixCanonical(driving, start), start), region);
        }
        const moved = relativeFromPhoto(source, driving, region);
        return photoPose && ["all", "pose"].includes(region) ? takePose(moved, driving) : moved;
    }

    /** The motion with the parts that the user has locked kept still. */
    locked(moved, source) {
        const { options } = this;
        const sized = options.lockScale ? lockScale(moved, source) : moved;
        const placed = options.lockShoulders ? lockShoulders(sized, source) : sized;
        return options.lockHead ? lockHead(placed, source) : placed;
    }

    /** The pose with the requested openings. */
    async retargeted(pose, driving) {
        const { mouth, retarget: openings } = this.options;
        const wanted = [
            openings.leftEyeOpening ?? openings.eyeOpening,
            openings.rightEyeOpening ?? openings.eyeOpening,
            openings.lipOpening ?? (mouth === "silent" ? 0 : null),
        ];
        const normalizesLips = openings.normalizeLips && this.isRelative;
        const normalizesEyes = openings.normalizeEyes && this.isRelative;
        if (wanted.every((opening) => opening === null) && !normalizesLips && !normalizesEyes) {
            return pose;
        }
        const source = requireRatios(this.face);
        const ratios = { source, driver: driving.ratios };
        const eyes = normalizesEyes ? usualEyes(source) : null;
        return retarget(this.networks, pose, this.home, ratios, wanted, normalizesLips, eyes);
    }
}

/** Poses the face of a photo by sliders. */
export class SliderPoser {
    /** @param {SourceFace} face @param {?import("../types.js").Motion} copied motion whose expression is copied */
    constructor(networks, face, copied = null) {
        Object.assign(this, { networks, face, copied });
    }

    /** The pose for slider values by name; null leaves an opening as it is. @param {Record<string, ?number>} sliders */
    async pose(sliders, stitching = true) {
        const { networks, face } = this;
        const values = movedSliders(sliders);
        const home = poseOf(face.motion);
        const motion = this.copied ? copyExpression(face.motion, this.copied, sliders.copy ?? 1) : face.motion;
        let pose = poseOf(edit(motion, values));
        const wanted = [
            values.left_eye_opening ?? values.eye_opening ?? null,
            values.right_eye_opening ?? values.eye_opening ?? null,
            values.lip_opening ?? null,
        ];
        if (wanted.some((opening) => opening !== null)) {
            pose = await retarget(networks, pose, home, { source: requireRatios(face), driver: null }, wanted);
        }
        if ("lips" in values && !("lip_opening" in values)) {
            pose = widenLipGap(pose, home);
        }
        return stitching && networks.stitching ? stitched(networks, home, pose) : pose;
    }
}

/** The sliders that are not at rest. Throws if one does not exist or its value is out of range. */
function movedSliders(sliders) {
    const values = {};
    for (const [name, value] of Object.entries(sliders)) {
        const limits = constants.motion.sliders[name];
        if (!limits) {
            throw new Error(`There is no slider ${name}.`);
        }
        if (value !== null && !(value >= limits.low && value <= limits.high)) {
            throw new Error(`${name} is ${value}: choose a number from ${limits.low} to ${limits.high}.`);
        }
        if (value !== null && value !== limits.rest) {
            values[name] = value;
        }
    }
    return values;
}

function requireRatios(face) {
    if (!face.ratios) {
        throw new Error("Openings of eyes and lips need a face, and none was found in the picture.");
    }
    return face.ratios;
}

/** The driving pose, stitched: keypoints moved, everything outside the head pinned. */
async function stitched(networks, source, driving) {
    const dims = [1, driving.keypoints.length / 3, 3];
    const [moved] = await networks.stitching([
        { dims, data: source.keypoints },
        { dims, data: driving.keypoints },
    ]);
    return { ...driving, keypoints: Float32Array.from(moved.data), pin: Float32Array.of(1) };
}
