// The picture that the panels are about: the reader's own, or a photograph of the course.

import {describe} from "./network.js";
import {eachChannel, pixelsOf, planesOf, resample, whole} from "./pixels.js";

const LARGE = 2048; // pixels: of larger pictures a canvas makes smaller ones before anything else

let title, planes, side, made; // its name; its middle square, as planes, and the length of that; what was made of it

// A file as the networks will see it: upright, its middle square.
export async function open({file, named}) {
    const bitmap = await createImageBitmap(file, {imageOrientation: "from-image", colorSpaceConversion: "none"});
    const {width, height} = bitmap, shorter = Math.min(width, height), small = Math.min(shorter, LARGE);
    const context = new OffscreenCanvas(small, small).getContext("2d", {willReadFrequently: true});
    context.fillStyle = "white"; // under what is transparent
    context.fillRect(0, 0, small, small);
    context.imageSmoothingQuality = "high";
    const [left, top] = [width, height].map(length => Math.floor((length - shorter) / 2));
    context.drawImage(bitmap, left, top, shorter, shorter, 0, 0, small, small);
    bitmap.close();
    [title, planes, side] = [named, planesOf(context.getImageData(0, 0, small, small).data), small];
    made = new Map();
    return {width, height};
}

// What make() promises, made once for each picture and name.
export function once(name, make) {
    if (!made.has(name)) made.set(name, make());
    return made.get(name);
}

// Its planes at a size, not yet in whole numbers.
export const resampled = size => once(`resampled ${size}`, () => resample(planes, side, size));

// In whole numbers from 0 to 255.
export const sized = size => once(`planes ${size}`, () => whole(resampled(size)));

// Planes, its own or what was made of them, as a canvas has them, with its title.
export const shown = (size, planes = sized(size)) => ({title, pixels: pixelsOf(planes), width: size, height: size});

// Forget what networks made of it: there is another one.
export function forget() {
    made = new Map([...made].filter(([name]) => /^(planes|resampled) /.test(name)));
}

// The input that a network makes of it.
export async function input(network) {
    const {size, mean, std} = await describe(network);
    return once(`input ${network}`, () => eachChannel(sized(size), (value, c) => (value / 255 - mean[c]) / std[c]));
}
