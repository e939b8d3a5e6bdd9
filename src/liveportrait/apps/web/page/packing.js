/** Decompresses weights. They are stored compressed, because not every host compresses (apps/web/build.py's `packed`). */

const PACKED = ".packed";

/**
 * The bytes of a file, decompressed if its name says so.
 * @param {string} file name @param {Uint8Array} sent @returns {Promise<Uint8Array>}
 */
export async function unpacked(file, sent) {
    if (!file.endsWith(PACKED)) {
        return sent;
    }
    const stream = new Blob([sent]).stream().pipeThrough(new DecompressionStream("gzip"));
    const halves = new Uint8Array(await new Response(stream).arrayBuffer());
    const bytes = new Uint8Array(halves.length);
    const odd = Math.ceil(halves.length / 2); // start of the bytes at odd positions
    for (let place = 0; place < odd; place++) {
        bytes[2 * place] = halves[place];
    }
    for (let place = odd; place < halves.length; place++) {
        bytes[2 * (place - odd) + 1] = halves[place];
    }
    return bytes;
}
