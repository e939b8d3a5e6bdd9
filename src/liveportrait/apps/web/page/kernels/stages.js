/** The graph `render` in stages (engine/web.py): ONNX Runtime runs W and the mouth painter, G runs in its own kernels. */

import { Generator } from "./generator.js";
import { readWeights } from "./weights.js";

/** @typedef {import("../types.js").Network} Network @typedef {import("../types.js").Tensor} Tensor */

export const STAGES = ["portrait", "warp", "paint"];

// The smallest module with a fused multiply-add: i8x16.splat (three times), f32x4.relaxed_madd.
const FUSED = Uint8Array.of(
    0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 19, 1, 17, 0,
    65, 0, 253, 15, 65, 0, 253, 15, 65, 0, 253, 15, 253, 133, 2, 11,
);

/** The file of the fastest kernels that this browser supports. */
export function kernelsFile() {
    return `kernels/generator-${WebAssembly.validate(FUSED) ? "fused" : "plain"}.wasm`;
}

/**
 * @param {Record<string, Network>} networks by the names of `STAGES`
 * @param {Record<string, {inputs: object, outputs: object}>} graphs of the manifest
 * @param {Uint8Array} kernels @param {Uint8Array} weights of G, a safetensors file
 * @returns {Promise<Network>} equivalent to the graph `render`
 */
export async function stagedRender(networks, graphs, kernels, weights) {
    const generator = await Generator.load(await WebAssembly.compile(kernels), readWeights(weights));
    const seen = new WeakMap(); // the painter's features of a portrait, by the data of its picture

    /** A stage's outputs by name, computed from tensors by name. */
    const staged = async (name, known) => {
        const { inputs, outputs } = graphs[name];
        const made = await networks[name](Object.keys(inputs).map((port) => known[port]));
        return Object.fromEntries(Object.keys(outputs).map((port, index) => [port, made[index]]));
    };

    return async (tensors) => {
        const given = Object.fromEntries(Object.keys(graphs.render.inputs).map((port, index) => [port, tensors[index]]));
        const { image } = given;
        if (!seen.has(image.data)) {
            seen.set(image.data, await staged("portrait", given));
        }
        const moved = await staged("warp", given);
        const [kept, painting] = generator.run([moved.moved_volume, moved.hidden, moved.moved_skip, moved.moved_image]);
        const painted = await staged("paint", { ...given, ...seen.get(image.data), ...moved, kept, painting });
        return [moved.flow, painted.keep, painted.paint];
    };
}
