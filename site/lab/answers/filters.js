// Answers to faces/filters.js, from files that hold the weights; no network runs.

import {about, read} from "../network.js";

const files = new Map();

function bytesOf(file) {
    if (!files.has(file)) {
        const reading = read(file);
        files.set(file, reading);
        reading.catch(() => files.delete(file)); // the next question tries again
    }
    return files.get(file);
}

// A float16 from its bits.
function single(bits) {
    const exponent = bits >> 10 & 31, fraction = bits & 1023, sign = bits >> 15 ? -1 : 1;
    return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * fraction / 1024);
}

export const look = {
    // The filters of a layer at an age; answers/filters.py wrote them one after the other.
    async filters({layer, age}) {
        const {file, half, shape} = (await about).panels.filters.layers[layer];
        const bytes = await bytesOf(file);
        const [count, inputs, height, width] = shape, weights = half ? Uint16Array : Float32Array;
        const kinds = [[weights, count * inputs * height * width], [Int32Array, count * inputs], [Float32Array, count]];
        const ofAge = kinds.reduce((sum, [kind, length]) => sum + kind.BYTES_PER_ELEMENT * length, 0);
        let at = age * ofAge;
        const [stored, channels, autocorrelation] = kinds.map(([kind, length]) => {
            const from = at;
            at += kind.BYTES_PER_ELEMENT * length;
            return new kind(bytes.slice(from, at).buffer);
        });
        return {weights: half ? Float32Array.from(stored, single) : stored, channels, autocorrelation, shape};
    },
};
