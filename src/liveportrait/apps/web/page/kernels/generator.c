/*
 * G of the compact model on the CPU: 3x3 convolutions by Winograd's minimal filtering F(4x4,3x3) (Lavin & Gray 2016),
 * 1x1 convolutions, and the operations between them. Built by scripts/make_web_kernels.py, called by generator.js.
 *
 * Maps are (C/4, H+2, W+2, 4): groups of four channels are interleaved, and every map includes a border of zeros.
 */

typedef float f4 __attribute__((vector_size(16)));
typedef int i4 __attribute__((vector_size(16)));

#define EXPORT(name) __attribute__((export_name(name)))
enum { BLOCK = 32, POINTS = 36, GROUP = 8 };

static inline f4 splat(float value) { return (f4){value, value, value, value}; }

#ifdef __wasm_relaxed_simd__
static inline f4 madd(f4 a, f4 b, f4 c) { return __builtin_wasm_relaxed_madd_f32x4(a, b, c); }
#else
static inline f4 madd(f4 a, f4 b, f4 c) { return a * b + c; }
#endif

static inline f4 bounded(f4 x, float low, float high) {
    return __builtin_wasm_min_f32x4(__builtin_wasm_max_f32x4(x, splat(low)), splat(high));
}

/* 1 / (1 + e^-x): e^-x is 2 to an integer power times a polynomial of the remainder. */
static inline f4 logistic(f4 x) {
    f4 scaled = bounded(x, -80, 80) * splat(-1.44269504f);
    f4 whole = __builtin_wasm_nearest_f32x4(scaled);
    f4 rest = (scaled - whole) * splat(0.69314718f);
    f4 sum = splat(1.0f / 720);
    sum = madd(sum, rest, splat(1.0f / 120));
    sum = madd(sum, rest, splat(1.0f / 24));
    sum = madd(sum, rest, splat(1.0f / 6));
    sum = madd(sum, rest, splat(0.5f));
    sum = madd(sum, rest, splat(1));
    sum = madd(sum, rest, splat(1));
    i4 power = (__builtin_convertvector(whole, i4) + 127) << 23;
    return splat(1) / (splat(1) + sum * (f4)power);
}

static inline f4 silu(f4 x) { return x * logistic(x); }

/* The input transform Bᵀ of one axis: six inputs to six points. */
static inline void input_transform(const f4 *d, int step, f4 *out, int out_step) {
    f4 a = d[0], b = d[step], c = d[2 * step], e = d[3 * step], f = d[4 * step], g = d[5 * step];
    f4 even = f - splat(4) * c, odd = e - splat(4) * b;
    f4 even2 = f - c, odd2 = splat(2) * (e - b);
    out[0] = splat(4) * a - splat(5) * c + f;
    out[out_step] = even + odd;
    out[2 * out_step] = even - odd;
    out[3 * out_step] = even2 + odd2;
    out[4 * out_step] = even2 - odd2;
    out[5 * out_step] = splat(4) * b - splat(5) * e + g;
}

/* The output transform Aᵀ of one axis: six points to four outputs. */
static inline void output_transform(const f4 *m, int step, f4 *out, int out_step) {
    f4 sum = m[step] + m[2 * step], difference = m[step] - m[2 * step];
    f4 sum2 = m[3 * step] + m[4 * step], difference2 = m[3 * step] - m[4 * step];
    out[0] = m[0] + sum + sum2;
    out[out_step] = difference + splat(2) * difference2;
    out[2 * out_step] = sum + splat(4) * sum2;
    out[3 * out_step] = difference + splat(8) * difference2 + m[5 * step];
}

/*
 * Products of rows (count, inputs) with a matrix (outputs/8, inputs, 8); count is a multiple of 4.
 *
 * The loop is not unrolled, and in `multiply_pixels` unrolled by hand: otherwise the compiler reorders the
 * multiplications by sum and runs out of registers.
 */
static void multiply(const float *rows, const float *matrix, float *out, int count, int inputs, int outputs) {
    for (int part = 0; part < outputs; part += 8, matrix += 8 * inputs) {
        for (int row = 0; row < count; row += 4) {
            const float *a = rows + row * inputs, *b = a + inputs, *c = b + inputs, *d = c + inputs;
            const f4 *weight = (const f4 *)matrix;
            f4 a0 = splat(0), a1 = a0, b0 = a0, b1 = a0, c0 = a0, c1 = a0, d0 = a0, d1 = a0;
#pragma clang loop unroll(disable)
            for (int input = 0; input < inputs; input++, weight += 2) {
                f4 w0 = weight[0], w1 = weight[1], v;
                v = splat(a[input]), a0 = madd(v, w0, a0), a1 = madd(v, w1, a1);
                v = splat(b[input]), b0 = madd(v, w0, b0), b1 = madd(v, w1, b1);
                v = splat(c[input]), c0 = madd(v, w0, c0), c1 = madd(v, w1, c1);
                v = splat(d[input]), d0 = madd(v, w0, d0), d1 = madd(v, w1, d1);
            }
            f4 *to = (f4 *)(out + row * outputs + part);
            int next = outputs / 4;
            to[0] = a0, to[1] = a1, to += next;
            to[0] = b0, to[1] = b1, to += next;
            to[0] = c0, to[1] = c1, to += next;
            to[0] = d0, to[1] = d1;
        }
    }
}

/*
 * A 3x3 convolution with a transformed kernel (36, outputs/8, inputs, 8), plus the map `added` unless it is null; then
 * SiLU if `activate`. Sides are multiples of 8. `workspace`: 36·32·(inputs + outputs) floats, for 32 tiles at once.
 */
EXPORT("convolve")
void convolve(const float *x, const float *kernel, const float *bias, const float *added, float *out, int inputs,
              int outputs, int height, int width, int activate, float *workspace) {
    int across = width / 4, line = width + 2, plane = (height + 2) * line;
    f4 *points = (f4 *)workspace, *products = (f4 *)(workspace + POINTS * BLOCK * inputs);
    int in_step = BLOCK * inputs / 4, out_step = BLOCK * outputs / 4;
    f4 half[POINTS], made[16];
    int tiles = across * height / 4;
    for (int first = 0; first < tiles; first += BLOCK) {
        int count = tiles - first < BLOCK ? tiles - first : BLOCK;
        for (int c = 0; c < inputs / 4; c++) {
            for (int t = 0; t < count; t++) {
                int y = (first + t) / across * 4, x0 = (first + t) % across * 4;
                const f4 *from = (const f4 *)x + c * plane + y * line + x0;
                for (int column = 0; column < 6; column++) input_transform(from + column, line, half + column, 6);
                f4 *to = points + t * (inputs / 4) + c;
                for (int row = 0; row < 6; row++) input_transform(half + 6 * row, 1, to + 6 * row * in_step, in_step);
            }
        }
        for (int point = 0; point < POINTS; point++)
            multiply((float *)(points + point * in_step), kernel + point * inputs * outputs,
                     (float *)(products + point * out_step), count, inputs, outputs);
        for (int c = 0; c < outputs / 4; c++) {
            f4 shift = ((const f4 *)bias)[c];
            for (int t = 0; t < count; t++) {
                const f4 *from = products + t * (outputs / 4) + c;
                for (int column = 0; column < 6; column++)
                    output_transform(from + column * out_step, 6 * out_step, half + column, 6);
                for (int row = 0; row < 4; row++) output_transform(half + 6 * row, 1, made + 4 * row, 1);
                int y = (first + t) / across * 4, x0 = (first + t) % across * 4;
                int at = c * plane + (y + 1) * line + x0 + 1;
                for (int row = 0; row < 4; row++, at += line) {
                    for (int column = 0; column < 4; column++) {
                        f4 value = made[4 * row + column] + shift;
                        if (added) value += ((const f4 *)added)[at + column];
                        ((f4 *)out)[at + column] = activate ? silu(value) : value;
                    }
                }
            }
        }
    }
}

/* Products of four neighbouring pixels of a map with a matrix (inputs, 8): eight numbers each, in `sums` (4, 2). */
static inline void multiply_pixels(const f4 *x, int plane, const float *matrix, int inputs, f4 first, f4 second,
                                   f4 *sums) {
    const float *at = (const float *)x;
    const f4 *weight = (const f4 *)matrix;
    f4 a0 = first, a1 = second, b0 = first, b1 = second, c0 = first, c1 = second, d0 = first, d1 = second;
    for (int c = 0; c < inputs / 4; c++, at += 4 * plane) {
        for (int lane = 0; lane < 4; lane++, weight += 2) {
            f4 w0 = weight[0], w1 = weight[1], v;
            v = splat(at[lane]), a0 = madd(v, w0, a0), a1 = madd(v, w1, a1);
            v = splat(at[lane + 4]), b0 = madd(v, w0, b0), b1 = madd(v, w1, b1);
            v = splat(at[lane + 8]), c0 = madd(v, w0, c0), c1 = madd(v, w1, c1);
            v = splat(at[lane + 12]), d0 = madd(v, w0, d0), d1 = madd(v, w1, d1);
            __asm__ volatile("" ::: "memory");
        }
    }
    sums[0] = a0, sums[1] = a1, sums[2] = b0, sums[3] = b1, sums[4] = c0, sums[5] = c1, sums[6] = d0, sums[7] = d1;
}

/* A 1x1 convolution with `matrix` (outputs/8, inputs, 8), then SiLU if `activate`. */
EXPORT("mix")
void mix(const float *x, const float *matrix, const float *bias, float *out, int inputs, int outputs, int height,
         int width, int activate) {
    int line = width + 2, plane = (height + 2) * line;
    f4 sums[8];
    for (int part = 0; part < outputs / 8; part++, matrix += 8 * inputs) {
        f4 first = ((const f4 *)bias)[2 * part], second = ((const f4 *)bias)[2 * part + 1];
        f4 *upper = (f4 *)out + 2 * part * plane, *lower = upper + plane;
        for (int y = 1; y <= height; y++) {
            for (int at = y * line + 1; at <= y * line + width; at += 4) {
                multiply_pixels((const f4 *)x + at, plane, matrix, inputs, first, second, sums);
                for (int pixel = 0; pixel < 4; pixel++) {
                    f4 a = sums[2 * pixel], b = sums[2 * pixel + 1];
                    upper[at + pixel] = activate ? silu(a) : a;
                    lower[at + pixel] = activate ? silu(b) : b;
                }
            }
        }
    }
}

/* Mean and reciprocal of the standard deviation of a group of channels. */
static void measure(const f4 *x, int planes, int height, int width, float *mean, float *scale) {
    int line = width + 2;
    double count = 4.0 * planes * height * width, total = 0, squares = 0;
    for (int pass = 0; pass < 2; pass++) {
        f4 middle = splat((float)(total / count));
        for (int y = 0; y < planes * (height + 2); y++) {
            int row = y % (height + 2);
            if (row == 0 || row > height) continue;
            f4 sum = splat(0);
            for (int column = 1; column <= width; column++) {
                f4 value = x[y * line + column] - middle;
                sum += pass ? value * value : value;
            }
            double all = (double)sum[0] + sum[1] + sum[2] + sum[3];
            if (pass) squares += all; else total += all;
        }
    }
    *mean = (float)(total / count);
    *scale = (float)(1 / __builtin_sqrt(squares / count + 1e-5));
}

/*
 * Group norm of a map in 8 groups, then scale, shift and SiLU. Scales and shifts are a 1x1 convolution of `condition`
 * with `matrix` (channels/4, inputs, 8) and `bias` (channels/4, 8): the scales of four channels, then their shifts.
 */
EXPORT("modulate")
void modulate(const float *x, const float *condition, const float *matrix, const float *bias, float *out, int channels,
              int inputs, int height, int width) {
    int line = width + 2, plane = (height + 2) * line, planes = channels / 4 / GROUP;
    f4 sums[8];
    float mean, scale;
    for (int c = 0; c < channels / 4; c++, matrix += 8 * inputs) {
        const f4 *from = (const f4 *)x + c * plane;
        f4 *to = (f4 *)out + c * plane;
        if (c % planes == 0) measure(from, planes, height, width, &mean, &scale);
        for (int y = 1; y <= height; y++) {
            for (int at = y * line + 1; at <= y * line + width; at += 4) {
                multiply_pixels((const f4 *)condition + at, plane, matrix, inputs, ((const f4 *)bias)[2 * c],
                                ((const f4 *)bias)[2 * c + 1], sums);
                for (int pixel = 0; pixel < 4; pixel++)
                    to[at + pixel] = silu(madd((from[at + pixel] - splat(mean)) * splat(scale), sums[2 * pixel],
                                               sums[2 * pixel + 1]));
            }
        }
    }
}

/* SiLU of an entire map. */
EXPORT("activate")
void activate(const float *x, float *out, int count) {
    for (int at = 0; at < count / 4; at++) ((f4 *)out)[at] = silu(((const f4 *)x)[at]);
}

/* Copy channels (C,H,W) into a map. */
EXPORT("take")
void take(const float *x, float *out, int channels, int height, int width) {
    int line = width + 2, plane = (height + 2) * line, all = height * width;
    for (int c = 0; c < channels / 4; c++, x += 4 * all) {
        for (int y = 0; y < height; y++) {
            f4 *to = (f4 *)out + c * plane + (y + 1) * line + 1;
            const float *from = x + y * width;
            for (int column = 0; column < width; column++, from++)
                to[column] = (f4){from[0], from[all], from[2 * all], from[3 * all]};
        }
    }
}

/* Copy a picture (3,2H,2W) in 0..1 to three planes of a map, in -1..1: the four lanes are 2x2 pixels. */
EXPORT("take_picture")
void take_picture(const float *x, float *out, int height, int width) {
    int line = width + 2, plane = (height + 2) * line;
    for (int c = 0; c < 3; c++) {
        for (int y = 0; y < height; y++) {
            const float *from = x + (c * height + y) * 4 * width, *below = from + 2 * width;
            f4 *to = (f4 *)out + c * plane + (y + 1) * line + 1;
            for (int column = 0; column < width; column++, from += 2, below += 2)
                to[column] = (f4){from[0], from[1], below[0], below[1]} * splat(2) - splat(1);
        }
    }
}

/* Pixel shuffle to a map of twice the sides: every four planes are 2x2 pixels. */
EXPORT("enlarge")
void enlarge(const float *x, float *out, int channels, int height, int width) {
    int line = width + 2, plane = (height + 2) * line, wide = 2 * width + 2, large = (2 * height + 2) * wide;
    for (int c = 0; c < channels / 4; c++) {
        for (int y = 0; y < height; y++) {
            const f4 *from = (const f4 *)x + c * plane + (y + 1) * line + 1;
            f4 *to = (f4 *)out + c / 4 * large + (2 * y + c % 4 / 2 + 1) * wide + c % 2 + 1;
            for (int column = 0; column < width; column++) to[2 * column] = from[column];
        }
    }
}

/* From a map of 16 channels: how much of the source is kept (2H,2W), and the paint (3,2H,2W). Lanes are 2x2 pixels. */
EXPORT("give")
void give(const float *x, float *keep, float *paint, int height, int width) {
    int line = width + 2, plane = (height + 2) * line, all = 4 * height * width;
    for (int y = 0; y < height; y++) {
        for (int column = 0; column < width; column++) {
            const f4 *from = (const f4 *)x + (y + 1) * line + column + 1;
            int at = 4 * y * width + 2 * column, below = at + 2 * width;
            f4 kept = logistic(from[3 * plane]);
            keep[at] = kept[0], keep[at + 1] = kept[1], keep[below] = kept[2], keep[below + 1] = kept[3];
            for (int c = 0; c < 3; c++) {
                f4 colour = (splat(1) - kept) * logistic(from[c * plane]);
                float *to = paint + c * all;
                to[at] = colour[0], to[at + 1] = colour[1], to[below] = colour[2], to[below + 1] = colour[3];
            }
        }
    }
}
