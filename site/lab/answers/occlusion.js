// Answers to faces/occlusion.js.

import {describe, run} from "../network.js";
import {input, once, shown} from "../picture.js";
import {baseline, cover, eachChannel, pixelsOf, softmax} from "../pixels.js";

export const network = "classifier";

const told = () => describe(network);

async function filled(kind, side) {
    const planes = await input(network), {size, mean, std} = await told();
    return once(`filled ${kind} ${side}`, () => baseline(planes, size, kind, side, mean, std));
}

// The network's outputs for the picture as it is; lesson 05's panel asks for them, too.
export async function outputs() {
    const planes = await input(network);
    return once("outputs", () => run(network, planes, 1));
}

export const look = {
    picture: async () => shown((await told()).size),

    // What a patch of this kind and size shows, as pixels.
    async fill({kind, side}) {
        const planes = await filled(kind, side), {mean, std} = await told();
        return {pixels: pixelsOf(eachChannel(planes, (value, c) => 255 * (value * std[c] + mean[c])))};
    },
};

export const ask = {
    clean: async () => ({probabilities: softmax((await outputs()).logits.data)}),

    // The probabilities of all classes for each of some patches, one array after the other.
    async patches({places, kind, side}) {
        const planes = await input(network), other = await filled(kind, side), {size, classes} = await told();
        const [batch, all] = [planes, classes].map(each => new Float32Array(places.length * each.length));
        places.forEach((place, i) => cover(planes, other, {...place, side}, size, batch, i * planes.length));
        const {logits} = await run(network, batch, places.length);
        for (let i = 0; i < all.length; i += classes.length)
            all.set(softmax(logits.data.subarray(i, i + classes.length)), i);
        return {probabilities: all};
    },
};
