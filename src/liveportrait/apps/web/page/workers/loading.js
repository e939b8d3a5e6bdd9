/** What every worker does first: the manifest, the numbers in it, and the networks. */

import { setConstants } from "../constants.js";
import { chosenRuntime, loadManifest, Runtime } from "../runtime.js";
import { tell } from "./calls.js";

/**
 * Load networks and tell how far that is.
 *
 * @param {string[]} names of the graphs @param {{runtime?: ?string, threads?: ?number}} wish
 */
export async function load(names, { runtime: kind = null, threads = null } = {}) {
    const manifest = await loadManifest();
    setConstants(manifest.constants);
    const choice = await chosenRuntime(kind, threads);
    const runtime = new Runtime(manifest, choice);
    const all = names.reduce((sum, name) => sum + manifest.files[manifest.graphs[name].file].bytes, 0);
    let bytes = 0;
    await runtime.load(names, (count) => {
        bytes += count;
        tell({ kind: "loading", bytes, all });
    });
    return { manifest, choice, networks: runtime.networks };
}
