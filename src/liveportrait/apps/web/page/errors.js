/** Errors that a visitor can act on; each message is one sentence. */

export class UserError extends Error {
    name = "UserError";
}

/** The message that visitors see for an error. @param {unknown} error */
export function messageOf(error) {
    if (error instanceof Error && (error.name === "UserError" || error.constructor === Error)) {
        return error.message;
    }
    if (error instanceof RangeError && /memory|allocation/i.test(error.message)) {
        return "Not enough memory: close other tabs or use a smaller photo.";
    }
    if (error?.name === "QuotaExceededError") {
        return "The browser has no room left for the file: free some disk space or use a shorter video.";
    }
    return `Something went wrong: ${error instanceof Error ? error.message : error}`;
}
