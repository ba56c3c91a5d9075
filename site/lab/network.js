// The network at work, beside the page (a Web Worker), so that the page never waits for it. The page asks for one
// of the jobs below; answers come in the order of the questions.

import {baseline, blur, cover, pixelsOf, planesOf, resize, softmax} from "./pixels.js";

const LARGE = 2048; // pixels: of larger pictures a canvas makes smaller ones before anything else
const files = name => new URL(`files/${name}`, import.meta.url);

let about; // files/lab.json
let ort, session, weights; // once the network is loaded
let picture, clean; // the input planes, and what the network says of them
let shown = {}; // what patches show, by kind and size

const jobs = {
    async load() {
        let bytes = 0;
        const total = Object.values(about.bytes).reduce((a, b) => a + b);
        const read = async name => {
            const answer = await fetch(files(name));
            if (!answer.ok) throw new Error(`${name} could not be loaded (${answer.status}).`);
            const whole = new Uint8Array(about.bytes[name]), reader = answer.body.getReader();
            let at = 0;
            for (let part; !(part = await reader.read()).done; at += part.value.length) {
                whole.set(part.value, at);
                postMessage({loaded: (bytes += part.value.length) / total});
            }
            return whole;
        };
        ort = await import("./files/ort.wasm.bundle.min.mjs");
        ort.env.wasm.wasmBinary = (await read("ort-wasm-simd-threaded.wasm")).buffer;
        ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency) : 1;
        weights = new Float32Array((await read("weights.bin")).buffer);
        session = await ort.InferenceSession.create(await read("network.onnx"));
    },

    // A file as the network will see it: upright, its middle square, 224 pixels a side. Returns the pixels.
    async open({file, told}) {
        about = told;
        const bitmap = await createImageBitmap(file, {imageOrientation: "from-image", colorSpaceConversion: "none"});
        const {width, height} = bitmap, side = Math.min(width, height), small = Math.min(side, LARGE);
        const context = new OffscreenCanvas(small, small).getContext("2d", {willReadFrequently: true});
        context.fillStyle = "white"; // under what is transparent
        context.fillRect(0, 0, small, small);
        context.imageSmoothingQuality = "high";
        const [left, top] = [width, height].map(length => Math.floor((length - side) / 2));
        context.drawImage(bitmap, left, top, side, side, 0, 0, small, small);
        bitmap.close();
        const planes = resize(planesOf(context.getImageData(0, 0, small, small).data), small, about.size);
        picture = eachChannel(planes, (value, c) => (value / 255 - about.mean[c]) / about.std[c]);
        [clean, shown] = [undefined, {}];
        return {pixels: pixelsOf(planes), width, height};
    },

    // What a patch of this kind and size shows, as pixels.
    fill({kind, side}) {
        return pixelsOf(eachChannel(show(kind, side), (value, c) => 255 * (value * about.std[c] + about.mean[c])));
    },

    // The probabilities of all classes for the picture as it is.
    async clean() {
        const {logits, maps} = await run(picture, 1);
        clean = {logits: logits.data, maps: maps.data, side: maps.dims[2]};
        return softmax(clean.logits);
    },

    // The same for each of some patches on it: one array after the other.
    async patches({places, kind, side}) {
        const batch = new Float32Array(places.length * picture.length), other = show(kind, side);
        places.forEach((place, i) => cover(picture, other, {...place, side}, about.size, batch, i * picture.length));
        const {logits} = await run(batch, places.length), classes = about.classes.length;
        return places.map((_, i) => softmax(logits.data.subarray(i * classes, (i + 1) * classes)));
    },

    // The evidence for a class: the linear layer before the pooling, at every place of the last maps.
    evidence({k}) {
        const {maps, side, logits} = clean, area = side * side, channels = maps.length / area;
        const evidence = new Float32Array(area).fill(weights[about.classes.length * channels + k]);
        for (let c = 0; c < channels; c++)
            for (let i = 0; i < area; i++) evidence[i] += weights[k * channels + c] * maps[c * area + i];
        return {evidence, side, logit: logits[k]};
    },
};

function show(kind, side) {
    return shown[kind + side] ??= baseline(picture, about.size, kind, side);
}

function eachChannel(planes, change) {
    return planes.map((value, i) => change(value, Math.floor(i / about.size ** 2)));
}

function run(planes, count) {
    return session.run({pictures: new ort.Tensor("float32", planes, [count, 3, about.size, about.size])});
}

let before = Promise.resolve();
onmessage = ({data: {id, job, given}}) => {
    const work = async () => {
        try {
            postMessage({id, answer: await jobs[job](given)});
        } catch (error) {
            postMessage({id, error: error.message || String(error)});
        }
    };
    if (job === "load") work(); // meanwhile pictures can be opened
    else before = before.then(work);
};
