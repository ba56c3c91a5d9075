// Answers to faces/cam.js.

import {load} from "../network.js";
import {look as seen, outputs, ask as answers, network} from "./occlusion.js";

export {network};
export const look = {picture: seen.picture};

export const ask = {
    clean: answers.clean,

    // The evidence for a class: the linear layer before the pooling, at every place of the last maps.
    async evidence({k}) {
        const {maps, logits} = await outputs(), {files} = await load(network), [, channels, ...shape] = maps.dims;
        const weights = new Float32Array(files.weights), area = shape[0] * shape[1];
        const evidence = new Float32Array(area).fill(weights[logits.data.length * channels + k]);
        for (let c = 0; c < channels; c++)
            for (let i = 0; i < area; i++) evidence[i] += weights[k * channels + c] * maps.data[c * area + i];
        return {evidence, shape, logit: logits.data[k]};
    },
};
