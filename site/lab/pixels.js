// Pictures as numbers. "Planes" are all the red, then all the green, then all the blue numbers of a square picture,
// row by row, as PyTorch has them; "pixels" are what a canvas has: red, green, blue, opacity, and so on.

export function planesOf(pixels) {
    const count = pixels.length / 4;
    const planes = new Float32Array(3 * count);
    for (let i = 0; i < count; i++)
        for (let c = 0; c < 3; c++) planes[c * count + i] = pixels[4 * i + c];
    return planes;
}

export function pixelsOf(planes) {
    const count = planes.length / 3;
    const pixels = new Uint8ClampedArray(4 * count).fill(255);
    for (let i = 0; i < count; i++)
        for (let c = 0; c < 3; c++) pixels[4 * i + c] = planes[c * count + i];
    return pixels;
}

// Planes whose numbers were changed by change(value, channel).
export function eachChannel(planes, change) {
    const area = planes.length / 3;
    return planes.map((value, i) => change(value, Math.floor(i / area)));
}

// The bicubic filter that PyTorch and Pillow use where they resize without aliasing: wider, the more it shrinks.
function taps(from, to) {
    const cubic = x => x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
    const scale = from / to, wide = Math.max(scale, 1);
    return Array.from({length: to}, (_, i) => {
        const centre = scale * (i + 0.5);
        const first = Math.max(0, Math.trunc(centre - 2 * wide + 0.5));
        const end = Math.min(from, Math.trunc(centre + 2 * wide + 0.5));
        const weights = Array.from({length: end - first}, (_, j) => cubic(Math.abs(j + first - centre + 0.5) / wide));
        const sum = weights.reduce((a, b) => a + b);
        return {first, weights: weights.map(weight => weight / sum)};
    });
}

// Filter each row of planes and turn rows into columns, so that doing it twice filters both ways.
function filterRows(planes, width, filters) {
    const height = planes.length / 3 / width, out = new Float32Array(3 * filters.length * height);
    for (let row = 0; row < 3 * height; row++) {
        const plane = Math.floor(row / height), y = row % height;
        filters.forEach(({first, weights}, x) => {
            let sum = 0;
            for (let j = 0; j < weights.length; j++) sum += weights[j] * planes[row * width + first + j];
            out[(plane * filters.length + x) * height + y] = sum;
        });
    }
    return out;
}

// A square picture of another size; beside sharp edges its numbers may lie a little beyond 0 and 255.
export function resample(planes, from, to) {
    const filters = taps(from, to);
    return filterRows(filterRows(planes, from, filters), from, filters);
}

// In whole numbers from 0 to 255.
export const whole = planes => planes.map(value => Math.min(255, Math.max(0, Math.round(value))));

// The weights of the four pixels around a place, t beyond the second, as PyTorch's grid_sample has them for "bicubic".
function cubic(t) {
    const near = x => (1.25 * x - 2.25) * x * x + 1, far = x => ((-0.75 * x + 3.75) * x - 6) * x + 3;
    return [far(t + 1), near(t), near(1 - t), far(2 - t)];
}

// What a frame shows of a square picture that is moved down by pixels, enlarged and turned counter-clockwise by
// degrees, in whole numbers from 0 to 255: lesson 10's function view. Beyond its border the picture is repeated.
export function view(planes, side, size, {shift = 0, scale = 1, rotation = 0}) {
    const [sin, cos] = [Math.sin, Math.cos].map(of => of(rotation * Math.PI / 180) / scale);
    const out = new Float32Array(3 * size * size), inside = at => Math.min(side - 1, Math.max(0, at));
    for (let i = 0; i < size * size; i++) {
        const x = i % size + 0.5 - size / 2, y = Math.floor(i / size) + 0.5 - size / 2 - shift;
        const row = x * sin + y * cos + side / 2 - 0.5, column = x * cos - y * sin + side / 2 - 0.5;
        const top = Math.floor(row), left = Math.floor(column), down = cubic(row - top), across = cubic(column - left);
        for (let j = 0; j < 4; j++)
            for (let k = 0; k < 4; k++) {
                const from = inside(top - 1 + j) * side + inside(left - 1 + k), weight = down[j] * across[k];
                for (let c = 0; c < 3; c++) out[c * size * size + i] += weight * planes[c * side * side + from];
            }
    }
    return whole(out);
}

// Blurred by a Gaussian as SciPy does it: cut off at four standard deviations, the border repeated.
export function blur(planes, size, deviation) {
    const radius = Math.trunc(4 * deviation + 0.5);
    const gauss = Array.from({length: 2 * radius + 1}, (_, i) => Math.exp(-0.5 * ((i - radius) / deviation) ** 2));
    const sum = gauss.reduce((a, b) => a + b);
    const filters = Array.from({length: size}, (_, x) => {
        const weights = new Array(size).fill(0);
        gauss.forEach((weight, i) => { weights[Math.min(size - 1, Math.max(0, x + i - radius))] += weight / sum; });
        return {first: 0, weights};
    });
    return filterRows(filterRows(planes, size, filters), size, filters);
}

// What a patch shows: the picture that would be seen if it covered everything. mean and std are those of the input.
export function baseline(planes, size, kind, patch, mean, std) {
    if (kind === "blur") return blur(planes, size, patch / 2);
    return eachChannel(planes, (_, c) => ({black: 0, grey: 0.5}[kind] - mean[c]) / std[c]);
}

// The part of a patch, centred on a pixel, that lies in the picture: rows and columns from … to.
function box({row, column, side}, size) {
    const [top, left] = [row - side / 2, column - side / 2];
    return [Math.max(0, top), Math.min(size, top + side), Math.max(0, left), Math.min(size, left + side)];
}

// A copy of a picture with a patch on it, through which another one is seen, written into out at an offset.
export function cover(planes, other, patch, size, out, offset) {
    out.set(planes, offset);
    const [top, bottom, left, right] = box(patch, size);
    for (let c = 0; c < 3; c++)
        for (let y = top; y < bottom; y++) {
            const start = (c * size + y) * size;
            out.set(other.subarray(start + left, start + right), offset + start + left);
        }
}

export function softmax(logits) {
    const most = logits.reduce((a, b) => Math.max(a, b)), powers = logits.map(logit => Math.exp(logit - most));
    const sum = powers.reduce((a, b) => a + b);
    return powers.map(power => power / sum);
}
