/**
 * G on the CPU (networks/compact/generator.py), several times faster than in ONNX Runtime's WebAssembly: its
 * convolutions use Winograd's algorithm, in the kernels of generator.c.
 */

/** @typedef {import("../types.js").Tensor} Tensor @typedef {Record<string, Tensor>} Weights by PyTorch's names */

const LANES = 4; // channels side by side
const PART = 8; // outputs of a matrix that are stored together
const TILES = 32; // tiles of 4x4 px that a convolution computes together
const POINTS = 36;
// Winograd's G for tiles of 4 and kernels of 3 (Lavin & Gray 2016).
const TO_POINTS = [
    [1 / 4, 0, 0],
    [-1 / 6, -1 / 6, -1 / 6],
    [-1 / 6, 1 / 6, -1 / 6],
    [1 / 24, 1 / 12, 1 / 6],
    [1 / 24, -1 / 12, 1 / 6],
    [0, 0, 1],
];

export class Generator {
    /** @param {WebAssembly.Module} module of generator.c @param {Weights} weights of G */
    static async load(module, weights) {
        const made = new Generator();
        made.kernels = (await WebAssembly.instantiate(module)).exports;
        made.end = made.kernels.__heap_base.value;
        made.prepare(weights);
        return made;
    }

    /** Lay out the weights as the kernels read them. */
    prepare(weights) {
        const weight = (name) => weights[`${name}.weight`];
        const bias = (name) => weights[`${name}.bias`].data;
        const channels = (name) => weight(name).dims[0];
        const convolution = (name) => {
            const [outputs, inputs] = weight(name).dims;
            return { inputs, outputs, kernel: this.keep(pointsOf(weight(name))), bias: this.keep(bias(name)) };
        };
        const mixture = (name, order) => {
            const [outputs, inputs] = weight(name).dims;
            const { matrix, shift } = ordered(weight(name), bias(name), order);
            return { inputs, outputs, matrix: this.keep(matrix), bias: this.keep(shift) };
        };
        const trunk = channels("enter");
        const tail = channels("merge");
        this.conditioning = mixture("conditioning");
        this.enter = convolution("enter");
        this.blocks = [];
        for (let index = 0; `blocks.${index}.conv1.weight` in weights; index++) {
            const parts = [1, 2].map((part) => ({
                norm: mixture(`blocks.${index}.norm${part}.modulation`, modulationOrder(trunk)),
                convolution: convolution(`blocks.${index}.conv${part}`),
            }));
            // The learned value is the scale minus 1.
            for (const { norm } of parts) {
                this.floats(norm.bias, 2 * trunk).forEach((value, at, all) => (all[at] = value + Number(at % PART < LANES)));
            }
            this.blocks.push(parts);
        }
        this.widen = mixture("widen", enlargedOrder(channels("widen")));
        this.merge = convolution("merge");
        this.refine = ["refine1", "refine2"].map(convolution);
        this.output = convolution("output");
        this.widths = { trunk, tail };
    }

    /** Reserve memory for the feature maps, at the first frame. @param {Tensor[]} warped see `run` */
    room(warped) {
        const side = warped[0].dims.at(-1);
        const { enter, conditioning, widen, merge, output, widths } = this;
        const map = (channels, size) => this.take(channels * (size + 2) ** 2);
        const convolutions = [enter, merge, output, ...this.refine, ...this.blocks.flat().map((part) => part.convolution)];
        const widest = Math.max(...convolutions.map(({ inputs, outputs }) => inputs + outputs));
        this.side = side;
        this.scratch = this.take(POINTS * TILES * widest);
        this.given = this.take(Math.max(...warped.map(({ data }) => data.length))); // one tensor at a time
        this.seen = map(enter.inputs, side);
        this.condition = map(conditioning.outputs, side);
        this.trunk = [map(widths.trunk, side), map(widths.trunk, side), map(widths.trunk, side)];
        this.wide = map(widen.outputs, side);
        this.fine = map(merge.inputs, 2 * side);
        this.tail = [map(widths.tail, 2 * side), map(widths.tail, 2 * side)];
        this.raw = map(output.outputs, 2 * side);
        this.kept = this.take((4 * side) ** 2);
        this.paint = this.take(3 * (4 * side) ** 2);
    }

    /**
     * @param {Tensor[]} warped W's outputs: volume (1,C,h,w), hidden (1,c,h,w), skip (1,k,2h,2w), image (1,3,4h,4w)
     * @returns {Tensor[]} keep (1,1,4h,4w) and paint (1,3,4h,4w)
     */
    run(warped) {
        const side = warped[0].dims.at(-1);
        if (this.side === undefined) {
            this.room(warped);
        }
        const [volume, hidden, skip, image] = warped;
        const { kernels, seen, condition, trunk: [x, y, z], wide, fine, tail: [u, v], raw } = this;
        const map = (channels, size) => 4 * channels * (size + 2) ** 2; // bytes
        const double = 2 * side;
        this.lay(volume, seen);
        this.lay(hidden, seen + map(volume.dims[1], side));
        this.mix(this.conditioning, seen, condition, true);
        this.convolve(this.enter, seen, x, side);
        for (const [first, second] of this.blocks) {
            this.modulate(first.norm, x, condition, y);
            this.convolve(first.convolution, y, z, side);
            this.modulate(second.norm, z, condition, y);
            this.convolve(second.convolution, y, x, side, { added: x });
        }
        kernels.activate(x, y, this.widths.trunk * (side + 2) ** 2);
        this.mix(this.widen, y, wide, false);
        kernels.enlarge(wide, fine, this.widen.outputs, side, side);
        const enlarged = this.widen.outputs / 4;
        this.lay(skip, fine + map(enlarged, double));
        this.floats(this.given, image.data.length).set(image.data);
        kernels.take_picture(this.given, fine + map(enlarged + skip.dims[1], double), double, double);
        this.convolve(this.merge, fine, u, double, { activate: true });
        this.convolve(this.refine[0], u, v, double, { activate: true });
        this.convolve(this.refine[1], v, u, double, { added: u, activate: true });
        this.convolve(this.output, u, raw, double);
        kernels.give(raw, this.kept, this.paint, double, double);
        const whole = 2 * double;
        return [
            { dims: [1, 1, whole, whole], data: this.floats(this.kept, whole * whole).slice() },
            { dims: [1, 3, whole, whole], data: this.floats(this.paint, 3 * whole * whole).slice() },
        ];
    }

    convolve({ inputs, outputs, kernel, bias }, from, to, side, { added = 0, activate = false } = {}) {
        this.kernels.convolve(from, kernel, bias, added, to, inputs, outputs, side, side, Number(activate), this.scratch);
    }

    mix({ inputs, outputs, matrix, bias }, from, to, activate) {
        this.kernels.mix(from, matrix, bias, to, inputs, outputs, this.side, this.side, Number(activate));
    }

    modulate({ inputs, matrix, bias }, from, condition, to) {
        this.kernels.modulate(from, condition, matrix, bias, to, this.widths.trunk, inputs, this.side, this.side);
    }

    /** Copy a tensor (1,C,h,w) into a map. @param {Tensor} tensor */
    lay({ dims: [, channels, height, width], data }, map) {
        this.floats(this.given, data.length).set(data);
        this.kernels.take(this.given, map, channels, height, width);
    }

    /** @returns {Float32Array} a view of the kernels' memory, valid until more is reserved */
    floats(address, count) {
        return new Float32Array(this.kernels.memory.buffer, address, count);
    }

    /** Reserve memory for floats, zeros at first; returns its address. */
    take(count) {
        const address = (this.end + 15) & ~15;
        this.end = address + 4 * count;
        const missing = this.end - this.kernels.memory.buffer.byteLength;
        if (missing > 0) {
            this.kernels.memory.grow(Math.ceil(missing / 2 ** 16));
        }
        return address;
    }

    keep(values) {
        const address = this.take(values.length);
        this.floats(address, values.length).set(values);
        return address;
    }
}

/** The index of weight (output, input) of a matrix stored as (outputs/8, inputs, 8). */
const placed = (output, input, inputs) => (Math.floor(output / PART) * inputs + input) * PART + (output % PART);

/** A 3x3 kernel (O,I,3,3) in Winograd's domain: (36, O/8, I, 8). @param {Tensor} kernel */
function pointsOf({ dims: [outputs, inputs], data }) {
    const result = new Float32Array(POINTS * outputs * inputs);
    for (let output = 0; output < outputs; output++) {
        for (let input = 0; input < inputs; input++) {
            const taps = data.subarray(9 * (output * inputs + input), 9 * (output * inputs + input + 1));
            const lines = TO_POINTS.map((row) => [0, 1, 2].map((x) => row[0] * taps[x] + row[1] * taps[3 + x] + row[2] * taps[6 + x]));
            const at = placed(output, input, inputs);
            for (let point = 0; point < POINTS; point++) {
                const line = lines[Math.floor(point / 6)];
                const column = TO_POINTS[point % 6];
                result[point * outputs * inputs + at] = line[0] * column[0] + line[1] * column[1] + line[2] * column[2];
            }
        }
    }
    return result;
}

/** A 1x1 kernel (O,I,1,1) and its bias with the outputs in another order: (O/8, I, 8). */
function ordered({ dims: [outputs, inputs], data }, bias, order = [...Array(outputs).keys()]) {
    const matrix = new Float32Array(outputs * inputs);
    order.forEach((from, to) => {
        for (let input = 0; input < inputs; input++) {
            matrix[placed(to, input, inputs)] = data[from * inputs + input];
        }
    });
    return { matrix, shift: Float32Array.from(order, (from) => bias[from]) };
}

/** The scales of four channels, then their shifts; scales of all channels come first in PyTorch. */
function modulationOrder(channels) {
    return Array.from({ length: 2 * channels }, (_, at) => {
        const within = at % PART;
        return Math.floor(at / PART) * LANES + (within % LANES) + (within < LANES ? 0 : channels);
    });
}

/**
 * Order of pixel-shuffle outputs: the first of 2x2 pixels of four channels, then the second, and so on. PyTorch stores
 * the pixels of a channel together.
 */
function enlargedOrder(channels) {
    return Array.from({ length: channels }, (_, at) => {
        const [four, pixel, lane] = [Math.floor(at / 16), Math.floor(at / LANES) % 4, at % LANES];
        return 16 * four + 4 * lane + pixel;
    });
}
