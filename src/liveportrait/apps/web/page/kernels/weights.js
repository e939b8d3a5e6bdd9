/** Reads weights in a safetensors file, in float16 and float32. */

/** @param {Uint8Array} bytes @returns {Record<string, import("../types.js").Tensor>} by name */
export function readWeights(bytes) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const length = Number(view.getBigUint64(0, true));
    const { __metadata__: _, ...entries } = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
    return Object.fromEntries(
        Object.entries(entries).map(([name, { dtype, shape, data_offsets: [begin] }]) => {
            const count = shape.reduce((product, side) => product * side, 1);
            const first = 8 + length + begin;
            const number = dtype === "F16" ? (index) => halfAt(view, first + 2 * index) : (index) => view.getFloat32(first + 4 * index, true);
            return [name, { dims: shape, data: Float32Array.from({ length: count }, (_, index) => number(index)) }];
        }),
    );
}

/** A float16: sign, 5 exponent bits, 10 fraction bits. (Not all browsers have Float16Array.) */
function halfAt(view, place) {
    const bits = view.getUint16(place, true);
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    const size = exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -24 * fraction;
    return bits >> 15 ? -size : size;
}
