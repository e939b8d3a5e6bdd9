/**
 * The networks in ONNX Runtime: on the GPU if the browser offers one (WebGPU), otherwise in WebAssembly, where the
 * largest part of the largest network has its own kernels.
 */

import { UserError } from "./errors.js";
import { kernelsFile, stagedRender, STAGES } from "./kernels/stages.js";
import { unpacked } from "./packing.js";

/** @typedef {import("./types.js").Tensor} Tensor */

const ROOT = new URL("./", import.meta.url);
const PLAIN = "ort.wasm.min.js"; // ONNX Runtime without WebGPU
// Of each of its scripts, what it loads: a script and a WebAssembly module.
const BINARIES = {
    [PLAIN]: "ort-wasm-simd-threaded",
    "ort.jspi.min.js": "ort-wasm-simd-threaded.jspi",
    "ort.webgpu.min.js": "ort-wasm-simd-threaded.asyncify",
};
const SHARED = "shared.weights"; // the file's name in the graphs (engine/web.py)
const MAX_THREADS = 4; // each has its own copy of the networks
const ENOUGH = 4; // GB of memory for so many threads
// The smallest module that uses a 128-bit instruction: v128.const, i8x16.popcnt.
const SIMD = Uint8Array.of(
    0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
);

/** Throw a `UserError` if this browser cannot run the networks at all. */
export function requireWebAssembly() {
    if (typeof WebAssembly !== "object" || !WebAssembly.validate(SIMD)) {
        throw new UserError("This browser has no WebAssembly SIMD: use a current Chrome, Edge, Firefox or Safari.");
    }
}

/**
 * Choose what the networks run on, and say why.
 *
 * @param {?string} wish "webgpu" or "wasm", null chooses @param {?number} threads that render in parallel, null chooses
 * @returns {Promise<{kind: "webgpu" | "wasm", file: string, threads: number, reason: string}>} `file`: of ONNX Runtime
 */
export async function chosenRuntime(wish = null, threads = null) {
    const adapter = wish === "wasm" ? null : await navigator.gpu?.requestAdapter().catch(() => null);
    // A fallback adapter computes on the CPU, slower than WebAssembly.
    if (adapter && (wish === "webgpu" || !(adapter.info?.isFallbackAdapter ?? adapter.isFallbackAdapter))) {
        const suspends = "Suspending" in WebAssembly; // JSPI: half the download
        const file = suspends ? "ort.jspi.min.js" : "ort.webgpu.min.js";
        return { kind: "webgpu", file, threads: 1, reason: "WebGPU: running on the GPU." };
    }
    const why = wish === "wasm" ? "as requested" : "this browser offers no GPU";
    const count = threads ?? suitableThreads();
    const reason = `WebAssembly, ${count} thread${count > 1 ? "s" : ""}: ${why}.`;
    return { kind: "wasm", file: PLAIN, threads: count, reason };
}

/** Half of the logical cores, since two may share a physical one; fewer if memory is short. */
function suitableThreads() {
    const cores = navigator.hardwareConcurrency || 1;
    const most = (navigator.deviceMemory ?? ENOUGH) < ENOUGH ? 2 : MAX_THREADS;
    return Math.min(Math.max(2, Math.ceil(cores / 2)), cores, most);
}

/** Networks by name, loaded on request. */
export class Runtime {
    /** @param {object} manifest @param {{kind: string, file: string}} choice see `chosenRuntime` */
    constructor(manifest, choice) {
        Object.assign(this, { manifest, choice });
        /** @type {import("./types.js").Networks} */
        this.networks = {};
        this.turn = Promise.resolve(); // runs sessions one after the other
    }

    /** Load networks. @param {string[]} names @param {(bytes: number) => void} onBytes as they arrive */
    async load(names, onBytes = () => {}) {
        for (const name of names) {
            this.networks[name] = await this.made(name, onBytes);
        }
    }

    /** Load a network when it is first called: not every visitor needs it. */
    loadLater(name) {
        let made = null;
        this.networks[name] = async (tensors) => {
            made ??= this.made(name).catch((error) => {
                made = null; // the next call tries again
                throw error;
            });
            return (await made)(tensors);
        };
    }

    /** Whether a network runs in stages: on the CPU, the largest part of `render` has its own kernels. */
    inStages(name) {
        return name === "render" && this.choice.kind === "wasm" && Boolean(this.manifest.generator);
    }

    /** The files of a network. */
    filesOf(name) {
        const { graphs, generator } = this.manifest;
        if (this.inStages(name)) {
            return [kernelsFile(), generator, ...STAGES.flatMap((stage) => this.filesOf(stage))];
        }
        const { file, weights } = graphs[name];
        return weights ? [file, weights] : [file];
    }

    /** @returns {Promise<import("./types.js").Network>} */
    async made(name, onBytes) {
        if (this.inStages(name)) {
            const { manifest } = this;
            const [kernels, weights] = await Promise.all([kernelsFile(), manifest.generator].map((file) => fetched(file, manifest, onBytes)));
            const stages = {};
            for (const stage of STAGES) {
                stages[stage] = await this.made(stage, onBytes);
            }
            return stagedRender(stages, manifest.graphs, kernels, weights);
        }
        this.ort ??= await importRuntime(this.choice, this.manifest);
        const { file, weights, inputs, outputs } = this.manifest.graphs[name];
        const data = await fetched(file, this.manifest, onBytes);
        const externalData = weights && [{ path: SHARED, data: await this.weightsOf(weights, onBytes) }];
        const session = await this.ort.InferenceSession.create(data, {
            executionProviders: [this.choice.kind],
            graphOptimizationLevel: "all",
            externalData,
            // F's features of a photo stay on the GPU: every frame reads them.
            preferredOutputLocation: this.choice.kind === "webgpu" && name === "appearance" ? "gpu-buffer" : "cpu",
        });
        const [ports, results] = [Object.keys(inputs), Object.keys(outputs)];
        return (tensors) => this.run(session, ports, results, tensors);
    }

    /** The weights that several graphs share, loaded once. */
    weightsOf(file, onBytes) {
        this.weights ??= fetched(file, this.manifest, onBytes).catch((error) => {
            this.weights = null;
            throw error;
        });
        return this.weights;
    }

    /** @param {Tensor[]} tensors in the order of the ports @returns {Promise<Tensor[]>} */
    run(session, ports, made, tensors) {
        const feeds = {};
        ports.forEach((port, index) => {
            if (session.inputNames.includes(port)) {
                const { device, data, dims } = tensors[index];
                feeds[port] = device ?? new this.ort.Tensor("float32", data, dims);
            }
        });
        const answered = this.turn.then(() => session.run(feeds));
        this.turn = answered.catch(() => {});
        return answered.then((results) =>
            made.map((name) => {
                const result = results[name];
                const { dims } = result;
                return result.location === "gpu-buffer" ? { dims, device: result } : { dims, data: result.data };
            }),
        );
    }
}

async function importRuntime({ file }, manifest) {
    const ort = await import(addressOf(`vendor/${file}`, manifest));
    const [mjs, wasm] = ["js", "wasm"].map((kind) => addressOf(`vendor/${BINARIES[file]}.${kind}`, manifest));
    ort.env.logLevel = "error";
    ort.env.wasm.wasmPaths = { mjs, wasm };
    ort.env.wasm.numThreads = 1; // each thread is a worker
    return ort;
}

/** The manifest of this page. */
export async function loadManifest() {
    const response = await fetch(new URL("manifest.json", ROOT)).catch(() => null);
    if (!response?.ok) {
        throw new UserError("The page is incomplete: manifest.json is missing; build it again with make web.");
    }
    return response.json();
}

/** The URL of a file of this page with its checksum, so that a cached file of another version is never used. */
function addressOf(file, manifest) {
    return new URL(`${file}?sha256=${manifest.files[file].sha256}`, ROOT).href;
}

/** The contents of a file of this page. */
export async function fetched(file, manifest, onBytes = () => {}) {
    const response = await fetch(addressOf(file, manifest)).catch(() => null);
    if (!response?.ok) {
        throw new UserError(`${file} could not be loaded: check the connection, then try again.`);
    }
    const data = new Uint8Array(manifest.files[file].bytes);
    let filled = 0;
    for await (const part of parts(response.body)) {
        if (filled + part.length > data.length) {
            throw new UserError(`${file} is not the file that was built: reload the page.`);
        }
        data.set(part, filled);
        filled += part.length;
        onBytes(part.length);
    }
    if (filled < data.length) {
        throw new UserError(`${file} arrived incomplete: reload the page.`);
    }
    return unpacked(file, data);
}

/** The chunks of a stream. (Safari's streams are not iterable.) */
async function* parts(stream) {
    const reader = stream.getReader();
    for (let read = await reader.read(); !read.done; read = await reader.read()) {
        yield read.value;
    }
}
