// Answers to faces/cam.js.

import {ask as answers, look as seen, network, outputs} from "./occlusion.js";

export {network};
export const look = {picture: seen.picture};

export const ask = {
    clean: answers.clean,

    // The evidence for a class, at every place of the last maps.
    async evidence({k}) {
        const {evidence, logits} = await outputs();
        if (!evidence) throw new Error("A class activation map needs a network that ends in average pooling and one "
            + "linear layer; this one has none.");
        const [, , ...shape] = evidence.dims, area = shape[0] * shape[1];
        return {evidence: evidence.data.slice(k * area, (k + 1) * area), shape, logit: logits.data[k]};
    },
};
