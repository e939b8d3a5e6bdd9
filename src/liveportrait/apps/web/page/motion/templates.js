/** Motion templates: the safetensors files that Python reads and writes (motion/templates), and drivers made of them. */

import { constants } from "../constants.js";
import { smoothingWeights } from "./expression.js";
import { steadied } from "./framing.js";

/** @typedef {import("../types.js").Motion} Motion */
/**
 * @typedef {object} Driving one frame of a driver
 * @property {Motion} motion
 * @property {?Float32Array} ratios (3,) openings of left eye, right eye and lips, if they were measured
 * @property {?Float32Array} scores (52,) blendshapes, if they were measured
 * @property {?Float32Array} cues (5,) what the mouth shows, if known
 * @property {?{frames: Driving[], weights: number[]}} around the neighbouring frames, for smoothing, and their weights
 * @property {?Driving} start the reference of relative motion, if this frame's scene has its own
 */

const HEADER_LENGTH = 8; // bytes of a little-endian integer

/** What a face did, frame by frame. */
export class Template {
    /** @param {Record<string, {shape: number[], data: Float32Array}>} tensors @param {Record<string, string>} metadata */
    constructor(tensors, metadata) {
        const [numerator, denominator = "1"] = (metadata.fps ?? "").split("/");
        this.tensors = tensors;
        this.layout = metadata.layout ?? "";
        this.fps = Number(numerator) / Number(denominator);
        this.rate = [Number(numerator), Number(denominator)]; // fps as a fraction
        this.length = tensors.rotation.shape[0];
    }

    /** A row of a tensor; null if the template does not have it. */
    row(name, index) {
        const tensor = this.tensors[name];
        const width = tensor && tensor.data.length / this.length;
        return tensor ? tensor.data.slice(index * width, (index + 1) * width) : null;
    }

    /** @returns {Motion} */
    motion(index) {
        const expression = this.row("expression", index);
        return {
            rotation: this.row("rotation", index),
            translation: this.row("translation", index),
            scale: this.row("scale", index),
            canonical: this.row("canonical", index) ?? expression.map(() => NaN),
            expression,
        };
    }

    /** Openings (3,) of left eye, right eye and lips; null if they are not known. */
    ratios(index) {
        const [eyes, lips] = [this.row("eye_ratios", index), this.row("lip_ratios", index)];
        return eyes && lips && Float32Array.of(...eyes, ...lips);
    }
}

/** The template in a file's bytes. Throws if it is not a template or was made for other weights. @param {ArrayBuffer} buffer */
export function readTemplate(buffer, name = "the motion template") {
    const { format, version, shapes, required } = constants.motion.templates;
    const { tensors, metadata } = readSafetensors(buffer, name);
    const refuse = (reason) => {
        throw new Error(`Cannot use the motion template ${name}: ${reason}.`);
    };
    if (metadata.format !== format) {
        refuse("it is a safetensors file, but not a motion template");
    }
    if (metadata.version !== version) {
        refuse(`its version is ${metadata.version}, this program reads ${version}`);
    }
    const missing = required.filter((key) => !(key in tensors));
    if (missing.length) {
        refuse(`it lacks ${missing.join(", ")}`);
    }
    const frames = tensors.rotation.shape[0];
    for (const [key, shape] of Object.entries(shapes)) {
        if (key in tensors) {
            checkTensor(key, tensors[key], [frames, ...shape], refuse);
        }
    }
    const template = new Template(tensors, metadata);
    if (!(template.fps > 0 && template.fps <= constants.motion.templates.maxFps)) {
        refuse(`its frame rate ${metadata.fps} is not a fraction`);
    }
    if (template.layout !== constants.motion.groups.layout) {
        refuse(`it was made for the keypoint layout ${template.layout}, and these weights have another`);
    }
    return template;
}

function checkTensor(key, tensor, shape, refuse) {
    if (!shape[0] || tensor.shape.join() !== shape.join()) {
        refuse(`its ${key} has the shape ${tensor.shape.join("x")}, it should be ${shape.join("x")}`);
    }
    if (!tensor.data.every(Number.isFinite)) {
        refuse(`its ${key} holds numbers that are not finite`);
    }
    if (key === "scale" && tensor.data.some((scale) => scale <= 0)) {
        refuse("it has a frame whose scale is not positive");
    }
}

/** The float32 tensors of a safetensors file, and its metadata. */
function readSafetensors(buffer, name) {
    try {
        const length = Number(new DataView(buffer).getBigUint64(0, true));
        const text = new TextDecoder("utf-8", { fatal: true }).decode(new Uint8Array(buffer, HEADER_LENGTH, length));
        const { __metadata__: metadata = {}, ...parts } = JSON.parse(text);
        const tensors = {};
        for (const [key, { dtype, shape, data_offsets: [begin, end] }] of Object.entries(parts)) {
            if (dtype === "F32") {
                const from = HEADER_LENGTH + length;
                const data = new Float32Array(buffer.slice(from + begin, from + end));
                if (end > buffer.byteLength - from || data.length !== shape.reduce((a, b) => a * b, 1)) {
                    throw new RangeError(key);
                }
                tensors[key] = { shape, data };
            }
        }
        return { tensors, metadata };
    } catch (error) {
        throw new Error(`Cannot use the motion template ${name}: it is not a readable safetensors file.`, {
            cause: error,
        });
    }
}

/** A recorded motion as a driver: position and size are bounded, and every frame has its neighbours. */
export class TemplateDriver {
    /** @param {Template} template */
    constructor(template, reference = 0) {
        const first = template.motion(reference);
        this.fps = template.fps;
        this.rate = template.rate;
        this.length = template.length;
        /** @type {Driving[]} */
        this.frames = Array.from({ length: template.length }, (_, index) => ({
            motion: steadied(template.motion(index), first, first),
            ratios: template.ratios(index),
            scores: template.row("blendshapes", index),
            cues: null,
            around: null,
            start: null,
        }));
        this.start = this.frames[reference];
    }

    /** Frame i, with its neighbours. @returns {Driving} */
    at(index) {
        return { ...this.frames[index], around: surroundings(this.frames, index, this.fps) };
    }
}

/** The frames of the same scene that smoothing uses around a frame of a driver, and their weights. @param {Driving[]} frames */
export function surroundings(frames, index, fps) {
    const near = Math.ceil(2 * constants.motion.expression.reach * fps);
    const numbers = Array.from({ length: 2 * near + 1 }, (_, place) => index - near + place);
    const around = numbers.filter((number) => frames[number]?.start === frames[index].start);
    const weights = smoothingWeights(index / fps, around.map((number) => number / fps));
    return { frames: around.map((number) => frames[number]), weights };
}
