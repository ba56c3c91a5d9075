// Answers to faces/embeddings.js, from two files: the places of all maps, one map after the other, and the pictures.

import {about, read} from "../network.js";

let places;

export const look = {
    async map({perplexity, seed}) {
        const {perplexities, seeds, labels} = (await about).panels.embeddings;
        const number = perplexities.indexOf(perplexity) * seeds.length + seeds.indexOf(seed);
        const length = 2 * labels.length;
        places ??= new Float32Array((await read("embeddings.bin")).buffer);
        return {places: places.slice(number * length, (number + 1) * length)};
    },

    pictures: async () => ({file: await read("embeddings.jpg")}),
};
