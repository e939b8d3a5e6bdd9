/**
 * Numbers defined in Python, from the manifest: `constants.motion`, `constants.face`.
 *
 * Each page or worker sets them once at its start; modules read them when called, not when loaded.
 */

export const constants = {};

/** @param {Record<string, unknown>} given the manifest's constants */
export function setConstants(given) {
    Object.assign(constants, given);
}
