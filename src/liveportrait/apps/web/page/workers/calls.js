/**
 * Calls between the page and its workers, and between workers: a name and an argument are answered by a value or an
 * error. Workers also report progress (`news`).
 */

import { messageOf, UserError } from "../errors.js";

/** The caller's end of a worker. */
export class Calls {
    /** @param {Worker | MessagePort} worker @param {(news: any) => void} onNews receives progress during calls */
    constructor(worker, onNews = () => {}) {
        this.worker = worker;
        this.waiting = new Map();
        this.count = 0;
        worker.addEventListener("message", ({ data }) => {
            if ("news" in data) {
                onNews(data.news);
                return;
            }
            const { resolve, reject } = this.waiting.get(data.id);
            this.waiting.delete(data.id);
            if ("error" in data) {
                reject(Object.assign(new UserError(data.error), data.stopped ? { name: "AbortError" } : {}));
            } else {
                resolve(data.value);
            }
        });
        worker.addEventListener("error", (event) => {
            const error = new UserError(`Part of the page could not be loaded: ${event.message ?? "reload it"}`);
            this.waiting.forEach(({ reject }) => reject(error));
            this.waiting.clear();
        });
        worker.start?.(); // ports deliver nothing until started
    }

    /** Call the worker; throws what it throws. @param {Transferable[]} transfer */
    call(name, argument, transfer = []) {
        return new Promise((resolve, reject) => {
            const id = this.count++;
            this.waiting.set(id, { resolve, reject });
            this.worker.postMessage({ id, name, argument }, transfer);
        });
    }
}

/** A worker's answer whose buffers are transferred instead of copied. */
export class Transferred {
    /** @param {any} value @param {Transferable[]} transfer */
    constructor(value, transfer) {
        Object.assign(this, { value, transfer });
    }
}

/** Answer calls in a worker. @param {Record<string, (argument: any) => any>} handlers by name */
export function answer(handlers, port = self) {
    port.addEventListener("message", async ({ data: { id, name, argument } }) => {
        try {
            const made = await handlers[name](argument);
            if (made instanceof Transferred) {
                port.postMessage({ id, value: made.value }, made.transfer);
            } else {
                port.postMessage({ id, value: made });
            }
        } catch (error) {
            if (!["UserError", "AbortError"].includes(error?.name)) {
                console.error(error);
            }
            port.postMessage({ id, error: messageOf(error), stopped: error?.name === "AbortError" });
        }
    });
    port.start?.();
}

/** Send news to the page before a call is answered. @param {Transferable[]} transfer */
export function tell(news, transfer = []) {
    self.postMessage({ news }, transfer);
}
