/** The start of every worker: loads the manifest, its constants and the networks. */

import { setConstants } from "../constants.js";
import { chosenRuntime, loadManifest, Runtime } from "../runtime.js";
import { tell } from "./calls.js";

/**
 * Load networks and report progress.
 *
 * @param {string[]} names of the graphs
 * @param {{runtime?: ?string, threads?: ?number, small?: boolean}} wish `small`: the networks are so small
 * that the CPU is fastest; they still use the same file of ONNX Runtime as the others
 * @param {string[]} later graphs that are loaded when they are first called
 */
export async function load(names, { runtime: kind = null, threads = null, small = false } = {}, later = []) {
    const manifest = await loadManifest();
    setConstants(manifest.constants);
    const suits = await chosenRuntime(kind, threads);
    const choice = small ? { ...suits, kind: "wasm" } : suits;
    const runtime = new Runtime(manifest, choice);
    const files = new Set(names.flatMap((name) => runtime.filesOf(name)));
    const all = [...files].reduce((sum, file) => sum + manifest.files[file].bytes, 0);
    let bytes = 0;
    await runtime.load(names, (count) => {
        bytes += count;
        tell({ kind: "loading", bytes, all });
    });
    later.forEach((name) => runtime.loadLater(name));
    return { manifest, choice, networks: runtime.networks };
}
