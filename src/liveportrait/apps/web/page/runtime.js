/**
 * The networks in ONNX Runtime: on the GPU where the browser gives one (WebGPU), else in WebAssembly, where the largest
 * part of the largest network has kernels of its own.
 */

import { UserError } from "./errors.js";
import { kernelsFile, stagedRender, STAGES } from "./kernels/stages.js";
import { unpacked } from "./packing.js";

/** @typedef {import("./types.js").Tensor} Tensor */

const ROOT = new URL("./", import.meta.url);
const PLAIN = "ort.wasm.min.mjs"; // ONNX Runtime without WebGPU
const MOST_THREADS = 4; // each has the networks anew
const ENOUGH = 4; // GB of memory, for so many
// The smallest module that uses a 128-bit instruction: v128.const, i8x16.popcnt.
const SIMD = Uint8Array.of(
    0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
);

/** Throw one sentence where this browser cannot run the networks at all. */
export function requireWebAssembly() {
    if (typeof WebAssembly !== "object" || !WebAssembly.validate(SIMD)) {
        throw new UserError("This browser has no WebAssembly SIMD: use a current Chrome, Edge, Firefox or Safari.");
    }
}

/**
 * What the networks shall run on, and why.
 *
 * @param {?string} wish "webgpu" or "wasm", null is what suits @param {?number} threads that render at once, likewise
 * @returns {Promise<{kind: "webgpu" | "wasm", file: string, threads: number, told: string}>} `file`: of ONNX Runtime
 */
export async function chosenRuntime(wish = null, threads = null) {
    const adapter = wish === "wasm" ? null : await navigator.gpu?.requestAdapter().catch(() => null);
    // What computes on the CPU behind WebGPU's interface is slower than WebAssembly.
    if (adapter && (wish === "webgpu" || !(adapter.info?.isFallbackAdapter ?? adapter.isFallbackAdapter))) {
        const suspends = "Suspending" in WebAssembly; // JSPI: half the download
        const file = suspends ? "ort.jspi.min.mjs" : "ort.webgpu.min.mjs";
        return { kind: "webgpu", file, threads: 1, told: "WebGPU: the graphics processor computes." };
    }
    const why = wish === "wasm" ? "as asked for" : "this browser gives no graphics processor";
    const count = threads ?? suitableThreads();
    const told = `WebAssembly, ${count} thread${count > 1 ? "s" : ""}: ${why}.`;
    return { kind: "wasm", file: PLAIN, threads: count, told };
}

/** Half of the cores, which may be two threads of one, as far as there is memory. */
function suitableThreads() {
    const cores = navigator.hardwareConcurrency || 1;
    const most = (navigator.deviceMemory ?? ENOUGH) < ENOUGH ? 2 : MOST_THREADS;
    return Math.min(Math.max(2, Math.ceil(cores / 2)), cores, most);
}

/** Networks by name, loaded as they are asked for. */
export class Runtime {
    /** @param {object} manifest @param {{kind: string, file: string}} choice see `chosenRuntime` */
    constructor(manifest, choice) {
        Object.assign(this, { manifest, choice });
        /** @type {import("./types.js").Networks} */
        this.networks = {};
        this.turn = Promise.resolve(); // sessions run one after the other
    }

    /** Make networks ready. @param {string[]} names @param {(bytes: number) => void} onBytes as they arrive */
    async load(names, onBytes = () => {}) {
        for (const name of names) {
            this.networks[name] = await this.made(name, onBytes);
        }
    }

    /** Make a network ready when it is first asked something: not every visitor needs it. */
    loadLater(name) {
        let made = null;
        this.networks[name] = async (tensors) => {
            made ??= this.made(name);
            return (await made)(tensors);
        };
    }

    /** Whether a network is had in stages: on the processor its largest part has kernels of its own. */
    inStages(name) {
        return name === "render" && this.choice.kind === "wasm" && Boolean(this.manifest.generator);
    }

    /** The files that a network is made of. */
    filesOf(name) {
        const { graphs, generator } = this.manifest;
        return this.inStages(name) ? [kernelsFile(), generator, ...STAGES.map((stage) => graphs[stage].file)] : [graphs[name].file];
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
        this.ort ??= await importRuntime(this.choice);
        const { file, inputs, outputs } = this.manifest.graphs[name];
        const data = await fetched(file, this.manifest, onBytes);
        const session = await this.ort.InferenceSession.create(data, {
            executionProviders: [this.choice.kind],
            graphOptimizationLevel: "all",
            // What F makes of a photo stays on the GPU: every frame reads it.
            preferredOutputLocation: this.choice.kind === "webgpu" && name === "appearance" ? "gpu-buffer" : "cpu",
        });
        const [ports, results] = [Object.keys(inputs), Object.keys(outputs)];
        return (tensors) => this.run(session, ports, results, tensors);
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

async function importRuntime({ file }) {
    const ort = await import(new URL(`vendor/${file}`, ROOT).href);
    ort.env.logLevel = "error";
    ort.env.wasm.wasmPaths = new URL("vendor/", ROOT).href;
    ort.env.wasm.numThreads = 1; // threads are workers of their own
    return ort;
}

/** The manifest of this page. */
export async function loadManifest() {
    const response = await fetch(new URL("manifest.json", ROOT)).catch(() => null);
    if (!response?.ok) {
        throw new UserError("The page is incomplete: manifest.json is missing, build it again with make web.");
    }
    return response.json();
}

/** A file of this page, by its checksum: one that was kept from another version is never taken. */
export async function fetched(file, manifest, onBytes = () => {}) {
    const address = new URL(`${file}?sha256=${manifest.files[file].sha256}`, ROOT);
    const response = await fetch(address).catch(() => null);
    if (!response?.ok) {
        throw new UserError(`${file} could not be loaded: are you still connected? Reload the page.`);
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

/** The parts of a stream. (Safari's streams cannot be looped over.) */
async function* parts(stream) {
    const reader = stream.getReader();
    for (let read = await reader.read(); !read.done; read = await reader.read()) {
        yield read.value;
    }
}
