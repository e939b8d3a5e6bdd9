/** A photo is opened once, then driven or edited frame by frame (animation/animator.py, portrait.py). */

import { constants } from "../constants.js";
import { cut, sourceWindow, toTensor } from "../face/crop.js";
import { openingRatios } from "../face/measures.js";
import { outlineOf } from "../face/outlines.js";
import { seenKeypoints, snapToLandmarks, through } from "../motion/landmarks.js";
import { flattened } from "../motion/lifting.js";
import { poseOf } from "../motion/geometry.js";
import { Compositor } from "./compositor.js";
import { MotionTransfer, SliderPoser } from "./posers.js";
import { Watermark } from "./watermark.js";

/** @typedef {import("../types.js").Tensor} Tensor @typedef {import("../types.js").Picture} Picture */

/** Opens portraits; the networks are loaded once. */
export class Animator {
    /** @param {import("../types.js").Networks} networks @param {() => number} depth frames rendered in parallel */
    constructor(networks, depth = () => 1) {
        Object.assign(this, { networks, depth });
    }

    /**
     * The portrait in a photo.
     *
     * @param {{picture: Picture, face: import("../types.js").Face, scores: Float32Array, outlines: Float32Array[],
     * mark: ?number}} seen the photo, the face in it, its blendshapes (52,), the outlines (36·3) px of the other faces, and
     * the code of the photo in the watermark; null for no watermark
     */
    async open({ picture, face, scores, outlines, mark }) {
        const window = sourceWindow(face.landmarks);
        const pixels = toTensor(cut(picture, window));
        const seen = through(seenKeypoints(face.landmarks), window);
        const motion = snapToLandmarks(motionOf(await this.networks.motion([pixels])), seen, window.size);
        const features = await this.networks.appearance([pixels]);
        const own = { motion, ratios: openingRatios(face.landmarks), shape: shapeOf(face, scores, seen, window) };
        const compositors = {
            photo: () => new Compositor(picture, window, { own: outlineOf(face), others: outlines }),
            face: () => Compositor.ofCrop(picture, window),
        };
        return new Portrait(this, own, features, compositors, mark);
    }
}

/** A photo whose face was found, cut out and measured once. */
export class Portrait {
    /**
     * @param {Animator} animator
     * @param {Record<"photo" | "face", () => Compositor>} compositors by view: the whole photo or only the face
     */
    constructor({ networks, depth }, face, features, compositors, mark) {
        Object.assign(this, { networks, depth, face, features, compositors, mark });
        this.home = poseOf(face.motion);
        this.watermarks = {}; // by kind of work
        this.show("photo");
    }

    /** Show the whole photo or only the face. @param {"photo" | "face"} view */
    show(view) {
        if (this.view !== view) {
            this.view = view;
            this.compositor = this.compositors[view]();
        }
    }

    /** The unchanged portrait. @returns {Picture} */
    get picture() {
        return this.compositor.photo;
    }

    /** The photo animated by a driver, frame by frame; each frame is valid until the next. @returns {AsyncGenerator<Picture>} */
    async *drive(driver, options) {
        let transfer = null;
        const waiting = []; // layers, in order
        for await (const driving of driver.play()) {
            transfer ??= this.transfer(driver.start, options);
            waiting.push((await this.startFrame(transfer, driving)).layers);
            if (waiting.length >= this.depth()) {
                yield this.compose(await waiting.shift(), "animated");
            }
        }
        for (const layers of waiting) {
            yield this.compose(await layers, "animated");
        }
    }

    /** The transfer from a driver's start to this face. @param {object} options those of `TransferOptions` */
    transfer(start, options) {
        return new MotionTransfer(this.networks, this.face, start, false, options);
    }

    /**
     * Start one frame: compute its pose and start rendering its layers, without waiting for them.
     * @param {MotionTransfer} transfer @returns {Promise<{layers: Promise<Tensor[]>}>}
     */
    async startFrame(transfer, driving) {
        const pose = await transfer.pose(driving);
        const layers = this.layersOf(pose, transfer.movesMouth ? driving.cues : null);
        layers.catch(() => {}); // errors surface where the layers are awaited
        return { layers };
    }

    /** The photo edited by sliders. @param {Record<string, number>} sliders @returns {Promise<Picture>} */
    async edit(sliders) {
        const pose = await new SliderPoser(this.networks, this.face).pose(sliders);
        return this.compose(await this.layersOf(pose, null), "edited");
    }

    /** Render the layers of a frame. @param {import("../types.js").Pose} pose of the face @param {?Float32Array} cues (5,) */
    layersOf(pose, cues) {
        const poses = [this.home, pose].flatMap(tensorsOf);
        const { cues: count } = constants.weights;
        const mouth = { dims: [1, count], data: cues ?? new Float32Array(count) };
        return this.networks.render([...this.features, ...poses, mouth]);
    }

    /** @param {Tensor[]} layers @returns {Picture} valid until the next */
    compose(layers, work) {
        return this.compositor.compose(layers, this.watermark(work));
    }

    /** Release the photo's features if they are on the GPU. */
    close() {
        this.features.forEach(({ device }) => device?.dispose());
    }

    /** The watermark for some kind of work; null if none is wanted. */
    watermark(work) {
        if (this.mark === null) {
            return null;
        }
        this.watermarks[work] ??= new Watermark({ work, source: this.mark, weights: constants.weights.mark });
        return this.watermarks[work];
    }
}

/** M's outputs as a motion. @param {Tensor[]} tensors @returns {import("../types.js").Motion} */
export function motionOf(tensors) {
    const [rotation, translation, scale, canonical, expression] = tensors.map(({ data }) => Float32Array.from(data));
    return { rotation, translation, scale, canonical, expression };
}

function tensorsOf({ keypoints, rotation, translation, scale, pin }) {
    return [
        { dims: [1, keypoints.length / 3, 3], data: keypoints },
        { dims: [1, 3, 3], data: rotation },
        { dims: [1, 3], data: translation },
        { dims: [1, 1], data: scale },
        { dims: [1, 1], data: pin },
    ];
}

/** The shape of the face, to which expressions are adapted (motion/expression.py's FaceShape). */
function shapeOf(face, scores, seen, window) {
    const rows = constants.measures.lifting.rows;
    const [a, b, x, c, d, y] = window.matrix;
    const points = new Float32Array(2 * rows.length);
    rows.forEach((row, index) => {
        const [px, py] = face.landmarks.subarray(3 * row, 3 * row + 2);
        points[2 * index] = (a * px + b * py + x) * (2 / window.size) - 1;
        points[2 * index + 1] = (c * px + d * py + y) * (2 / window.size) - 1;
    });
    const { landmarks, unit } = flattened(points, seen.rotation);
    return { landmarks, unit, scores };
}
