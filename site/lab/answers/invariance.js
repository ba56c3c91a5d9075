// Answers to faces/invariance.js.

import {about, describe, run} from "../network.js";
import {once, resampled, shown} from "../picture.js";
import {eachChannel, softmax, view} from "../pixels.js";

export const network = "classifier";
const FIRST = "classifier_first"; // its first layer

const told = async () => ({...await describe(network), ...(await about).panels.invariance});

// What the frame shows at one of the amounts of a transformation; of none, the picture as it is.
async function seen(kind, step) {
    const {photo, frame, amounts} = await told();
    return view(resampled(photo), photo, frame, kind ? {[kind]: amounts[kind][step]} : {});
}

// A point for each curve of the panel, in its order, and the probabilities.
async function features(planes) {
    const {mean, std, own} = await told();
    if (own) throw new Error("This panel measures layers of EfficientNet-Lite0, in units that your network has not.");
    const input = eachChannel(planes, (value, c) => (value / 255 - mean[c]) / std[c]);
    const {first} = await run(FIRST, input, 1), {maps, logits} = await run(network, input, 1);
    const pooled = new Float32Array(maps.dims[1]), area = maps.data.length / pooled.length;
    maps.data.forEach((value, i) => { pooled[Math.floor(i / area)] += value / area; });
    return {points: [input, first.data, maps.data, pooled], probabilities: softmax(logits.data)};
}

// Those of the untouched picture, and which class it shows.
const untouched = () => once("untouched", async () => {
    const found = await features(await seen());
    return {...found, k: found.probabilities.indexOf(Math.max(...found.probabilities))};
});

export const look = {
    picture: async () => shown((await told()).frame, await seen()),
    view: async ({kind, step}) => shown((await told()).frame, await seen(kind, step)),
};

export const ask = {
    clean: async () => ({answer: (await told()).classes[(await untouched()).k]}),

    // At some of the amounts: the distance of each curve, one amount after the other, the probability of the
    // untouched picture's answer, and the answer.
    async measure({kind, steps}) {
        const {units} = await told(), {points: start, k} = await untouched();
        const distances = new Float32Array(steps.length * units.length), probabilities = new Float32Array(steps.length);
        const answers = new Int32Array(steps.length);
        for (const [i, step] of steps.entries()) {
            const {points, probabilities: found} = await features(await seen(kind, step));
            points.forEach((point, curve) => {
                const sum = point.reduce((sum, value, j) => sum + (value - start[curve][j]) ** 2, 0);
                distances[i * units.length + curve] = Math.sqrt(sum) / units[curve];
            });
            [probabilities[i], answers[i]] = [found[k], found.indexOf(Math.max(...found))];
        }
        return {distances, probabilities, answers};
    },
};
