/**
 * Rotations and the motion formula of keypoints, for one frame (networks/geometry.py).
 *
 * Matrices (3,3) and points (n,3) are flat arrays, row after row; points are row vectors.
 */

const DEGREE = Math.PI / 180;

/** Rotation for row vectors, (Rz(roll)·Ry(yaw)·Rx(pitch))ᵀ, from degrees. */
export function rotationMatrix(pitch, yaw, roll) {
    const [p, y, r] = [pitch * DEGREE, yaw * DEGREE, roll * DEGREE];
    const [cp, sp, cy, sy, cr, sr] = [Math.cos(p), Math.sin(p), Math.cos(y), Math.sin(y), Math.cos(r), Math.sin(r)];
    return Float32Array.of(
        cr * cy, sr * cy, -sy,
        cr * sy * sp - sr * cp, sr * sy * sp + cr * cp, cy * sp,
        cr * sy * cp + sr * sp, sr * sy * cp - cr * sp, cy * cp,
    );
}

/** Pitch, yaw, roll in degrees: the inverse of `rotationMatrix` for |yaw| < 90. */
export function eulerDegrees(rotation) {
    const yaw = Math.asin(clamp(-rotation[2], -1, 1));
    const pitch = Math.atan2(rotation[5], rotation[8]);
    const roll = Math.atan2(rotation[1], rotation[0]);
    return [pitch / DEGREE, yaw / DEGREE, roll / DEGREE];
}

/** Points (n,3) times a matrix (3,3). */
export function multiply(points, matrix) {
    const result = new Float32Array(points.length);
    for (let start = 0; start < points.length; start += 3) {
        for (let column = 0; column < 3; column++) {
            result[start + column] =
                points[start] * matrix[column] +
                points[start + 1] * matrix[3 + column] +
                points[start + 2] * matrix[6 + column];
        }
    }
    return result;
}

/** A matrix (3,3), transposed. */
export function transposed(m) {
    return Float32Array.of(m[0], m[3], m[6], m[1], m[4], m[7], m[2], m[5], m[8]);
}

/** f applied to each pair of numbers of two arrays of equal length. */
export function combined(first, second, f) {
    return Float32Array.from(first, (value, index) => f(value, second[index]));
}

/** The sum of two arrays of equal length. */
export function sum(first, second) {
    return combined(first, second, (a, b) => a + b);
}

/** first − second, of equal length. */
export function difference(first, second) {
    return combined(first, second, (a, b) => a - b);
}

/** An array times a number. */
export function scaled(values, factor) {
    return Float32Array.from(values, (value) => factor * value);
}

export function clamp(value, low, high) {
    return Math.min(Math.max(value, low), high);
}

/** Keypoints x (21,3) = s·(x_c R + δ) + t; t has no z: depth is not translated. */
function transformKeypoints(motion) {
    const points = sum(multiply(motion.canonical, motion.rotation), motion.expression);
    for (let index = 0; index < points.length; index++) {
        const axis = index % 3;
        points[index] = motion.scale[0] * points[index] + (axis < 2 ? motion.translation[axis] : 0);
    }
    return points;
}

/** A translation (3,) with z = 0. */
export function withoutDepth(translation) {
    return Float32Array.of(translation[0], translation[1], 0);
}

/** The posed keypoints of a motion; nothing is pinned. */
export function poseOf(motion) {
    return {
        keypoints: transformKeypoints(motion),
        rotation: motion.rotation,
        translation: motion.translation,
        scale: motion.scale,
        pin: new Float32Array(1),
    };
}

/**
 * The rotation (3,3) nearest to a matrix in the Frobenius norm.
 *
 * It maximises trace(Rᵀ M), a quadratic form of its quaternion, which therefore is an eigenvector (Horn, "Closed-form
 * solution of absolute orientation using unit quaternions", 1987).
 */
export function nearestRotation(m) {
    const form = [
        [m[0] + m[4] + m[8], m[7] - m[5], m[2] - m[6], m[3] - m[1]],
        [m[7] - m[5], m[0] - m[4] - m[8], m[1] + m[3], m[2] + m[6]],
        [m[2] - m[6], m[1] + m[3], m[4] - m[0] - m[8], m[5] + m[7]],
        [m[3] - m[1], m[2] + m[6], m[5] + m[7], m[8] - m[0] - m[4]],
    ];
    const [w, x, y, z] = largestEigenvector(form);
    return Float32Array.of(
        w * w + x * x - y * y - z * z, 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), w * w - x * x + y * y - z * z, 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), w * w - x * x - y * y + z * z,
    );
}

/** The unit eigenvector of the largest eigenvalue of a symmetric matrix, by Jacobi rotations in place. */
function largestEigenvector(matrix) {
    const size = matrix.length;
    const vectors = matrix.map((row, index) => row.map((_, column) => Number(index === column)));
    for (let sweep = 0; sweep < 30; sweep++) {
        let rest = 0;
        for (let p = 0; p < size; p++) {
            for (let q = p + 1; q < size; q++) {
                rest += matrix[p][q] ** 2;
                if (matrix[p][q] !== 0) {
                    turnPlane(matrix, vectors, p, q);
                }
            }
        }
        if (rest < 1e-30) {
            break;
        }
    }
    const values = matrix.map((row, index) => row[index]);
    const best = values.indexOf(Math.max(...values));
    return vectors.map((row) => row[best]);
}

function turnPlane(matrix, vectors, p, q) {
    const theta = (matrix[q][q] - matrix[p][p]) / (2 * matrix[p][q]);
    const tangent = (theta < 0 ? -1 : 1) / (Math.abs(theta) + Math.sqrt(theta * theta + 1));
    const cosine = 1 / Math.sqrt(tangent * tangent + 1);
    const sine = tangent * cosine;
    for (const row of [...matrix, ...vectors]) {
        [row[p], row[q]] = [cosine * row[p] - sine * row[q], sine * row[p] + cosine * row[q]];
    }
    for (let column = 0; column < matrix.length; column++) {
        const [above, below] = [matrix[p][column], matrix[q][column]];
        matrix[p][column] = cosine * above - sine * below;
        matrix[q][column] = sine * above + cosine * below;
    }
}
