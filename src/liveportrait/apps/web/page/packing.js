/** Decompresses weights, which are sent compressed because not every host compresses (apps/web/build.py's `packed`). */

const PACKED = ".packed";

/** A file's bytes from what was sent for it. @param {string} file its name @param {Uint8Array} sent @returns {Promise<Uint8Array>} */
export async function unpacked(file, sent) {
    if (!file.endsWith(PACKED)) {
        return sent;
    }
    const stream = new Blob([sent]).stream().pipeThrough(new DecompressionStream("gzip"));
    const halves = new Uint8Array(await new Response(stream).arrayBuffer());
    const bytes = new Uint8Array(halves.length);
    const odd = Math.ceil(halves.length / 2); // where the bytes of odd places begin
    for (let place = 0; place < odd; place++) {
        bytes[2 * place] = halves[place];
    }
    for (let place = odd; place < halves.length; place++) {
        bytes[2 * (place - odd) + 1] = halves[place];
    }
    return bytes;
}
